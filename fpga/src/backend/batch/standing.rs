//! Who may share a batch, and what wrong hints may cost: the bound on poisoning.
//!
//! One wrong signature makes a whole batch fail, and finding it costs further checks. Two rules bound that, whatever
//! clients send:
//!
//! * **Each source earns its way.** A source's signatures are recovered one by one until so many of its hints have been
//!   confirmed; then it may have as many in a batch as it has had confirmed since. A hint that turns out wrong takes all
//!   of that away and multiplies the number by four. So a source with more than about 1% of wrong hints stays with plain
//!   recovery.
//! * **The ledger.** Every check is paid for in advance, in units of what plain recovery of a signature costs. A failed check
//!   is a loss, a check that holds earns what it saved, and every signature adds a twentieth of a unit. Nothing is
//!   checked that the balance could not bear to lose. So all the work together is never more than 1.05 times plain recovery
//!   of everything, and a fixed sum once; what is left to 0.9 times its speed is for prices that are a little off.

use alloy_primitives::Address;
use std::collections::HashMap;

/// Confirmed hints in a row that a new source needs.
const CONFIRMED_MIN: u32 = 128;
/// Confirmed hints in a row that the worst source needs.
const CONFIRMED_MAX: u32 = 1 << 20;
/// What one wrong hint multiplies that by.
const PENALTY: u32 = 4;
/// Most signatures of one source in a batch.
const ALLOWANCE_MAX: u32 = 4_096;
/// Times in a row that the same account must have signed before it is guessed for a signature without a hint.
const STREAK_MIN: u32 = 64;
/// Sources remembered.
const SOURCES_MAX: usize = 65_536;

/// Thousandths of what plain recovery of one signature costs.
pub(super) type Cost = i64;
/// Plain recovery of one signature.
pub(super) const PLAIN: Cost = 1_000;
/// What every signature adds to the balance.
const DRIP: Cost = PLAIN / 20;
/// The balance at the start.
const BALANCE_START: Cost = 512 * PLAIN;
/// The most that is kept: what the largest batch costs.
const BALANCE_MAX: Cost = 4_096 * PLAIN;

/// What a check of a batch costs: a fixed part and one for each signature (measured: `ironbench auth`). Preparation is paid
/// once, checks of parts of the batch come without it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prices {
    pub(super) check: Cost,
    pub(super) check_each: Cost,
    pub(super) prepare_each: Cost,
}

impl Prices {
    /// Of a check of `count` prepared signatures.
    pub(super) fn check(&self, count: usize) -> Cost {
        self.check + self.check_each * count as Cost
    }

    /// Of preparation.
    pub(super) fn prepare(&self, count: usize) -> Cost {
        self.prepare_each * count as Cost
    }
}

/// What is known of one source.
#[derive(Debug, Clone, Copy)]
struct Source {
    confirmed: u32,
    required: u32,
    last: Address,
    streak: u32,
}

impl Default for Source {
    fn default() -> Self {
        Source { confirmed: 0, required: CONFIRMED_MIN, last: Address::ZERO, streak: 0 }
    }
}

/// All sources and the balance.
pub(super) struct Standing {
    sources: HashMap<u64, Source>,
    balance: Cost,
}

impl Standing {
    pub(super) fn new() -> Self {
        Standing { sources: HashMap::new(), balance: BALANCE_START }
    }

    /// How many of a source's signatures may be in a batch, and whom to expect where it gives no hint.
    pub(super) fn of(&self, source: u64) -> (usize, Option<Address>) {
        let source = self.sources.get(&source).copied().unwrap_or_default();
        let allowance =
            if source.confirmed >= source.required { source.confirmed.min(ALLOWANCE_MAX) } else { 0 };
        (allowance as usize, (source.streak >= STREAK_MIN.max(source.required)).then_some(source.last))
    }

    fn source(&mut self, source: u64) -> &mut Source {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            // Connections come and go. Whoever has just been forgotten starts anew, which costs him little.
            let mut keep = false;
            self.sources.retain(|_, source| {
                keep = !keep;
                keep || source.required > CONFIRMED_MIN
            });
            if self.sources.len() >= SOURCES_MAX {
                self.sources.clear();
            }
        }
        self.sources.entry(source).or_default()
    }

    /// Whoever was expected has signed, `count` times.
    pub(super) fn confirm(&mut self, source: u64, count: usize) {
        let source = self.source(source);
        source.confirmed = source.confirmed.saturating_add(count as u32);
        if source.required > CONFIRMED_MIN && source.confirmed / PENALTY >= source.required {
            // Long enough without a wrong hint: the past counts for less.
            source.required = (source.required / 2).max(CONFIRMED_MIN);
        }
    }

    /// Somebody else than expected has signed, or nobody.
    pub(super) fn disappoint(&mut self, source: u64) {
        let source = self.source(source);
        if source.confirmed > 0 || source.streak > 0 {
            source.required = source.required.saturating_mul(PENALTY).min(CONFIRMED_MAX);
        }
        source.confirmed = 0;
        source.streak = 0;
    }

    /// Recovery found who signed.
    pub(super) fn signed(&mut self, source: u64, signer: Address) {
        let source = self.source(source);
        source.streak = if source.last == signer { source.streak.saturating_add(1) } else { 1 };
        source.last = signer;
        if source.streak > source.required {
            // Guesses have to earn their way as hints do.
            source.confirmed = source.confirmed.max(source.streak);
        }
    }

    /// `count` signatures have come in.
    pub(super) fn drip(&mut self, count: usize) {
        self.add(DRIP * count as Cost);
    }

    fn add(&mut self, amount: Cost) {
        self.balance = (self.balance + amount).min(BALANCE_MAX);
    }

    /// The largest batch of at most `wanted` signatures whose preparation and check the balance could bear to lose.
    pub(super) fn affordable(&self, prices: &Prices, wanted: usize) -> usize {
        let each = prices.check_each + prices.prepare_each;
        let bearable = (self.balance - prices.check).max(0) / each.max(1);
        wanted.min(bearable as usize)
    }

    /// Takes `cost` for a check, if the balance can bear to lose it.
    pub(super) fn pay(&mut self, cost: Cost) -> bool {
        let pays = cost <= self.balance;
        if pays {
            self.balance -= cost;
        }
        pays
    }

    /// A check held for `count` signatures: none of them needs plain recovery.
    pub(super) fn earn(&mut self, count: usize) {
        self.add(PLAIN * count as Cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICES: Prices = Prices { check: 15_000, check_each: 350, prepare_each: 150 };

    proptest! {
        /// Whatever holds and fails, in whatever order: all the work costs at most 1.05 times plain recovery and what was
        /// in the balance at the start.
        #[test]
        fn the_ledger_bounds_the_loss(rounds in prop::collection::vec((0usize..5_000, 0u32..5, any::<u16>()), 1..200)) {
            let mut standing = Standing::new();
            let (mut signatures, mut cost) = (0, 0);
            for (count, checks, outcomes) in rounds {
                standing.drip(count);
                signatures += count;
                let mut left = standing.affordable(&PRICES, count);
                if left > 0 && standing.pay(PRICES.prepare(left)) {
                    cost += PRICES.prepare(left);
                    // As halving goes: each check is of what the one before left open.
                    for check in 0..checks {
                        let part = if check == 0 { left } else { left / 2 };
                        if part == 0 || !standing.pay(PRICES.check(part)) {
                            break;
                        }
                        cost += PRICES.check(part);
                        if outcomes >> check & 1 == 1 {
                            standing.earn(part);
                            cost -= PLAIN * part as Cost;
                            left -= part;
                        }
                    }
                }
                cost += PLAIN * count as Cost;
                let bound = (PLAIN + DRIP) * signatures as Cost + BALANCE_START;
                prop_assert!(cost <= bound, "{cost} for a bound of {bound}");
            }
        }
    }

    #[test]
    fn a_source_earns_its_place_and_loses_it() {
        let mut standing = Standing::new();
        assert_eq!(standing.of(1), (0, None));
        standing.confirm(1, CONFIRMED_MIN as usize - 1);
        assert_eq!(standing.of(1).0, 0);
        standing.confirm(1, 1);
        assert_eq!(standing.of(1).0, CONFIRMED_MIN as usize);
        standing.confirm(1, 1_000_000);
        assert_eq!(standing.of(1).0, ALLOWANCE_MAX as usize);
        standing.disappoint(1);
        standing.confirm(1, CONFIRMED_MIN as usize);
        assert_eq!(standing.of(1).0, 0, "the second time costs more");
        standing.confirm(1, (CONFIRMED_MIN * (PENALTY - 1)) as usize);
        assert_eq!(standing.of(1).0, (CONFIRMED_MIN * PENALTY) as usize);
        assert_eq!(standing.of(2).0, 0, "others are others");
    }

    /// One wrong hint in a hundred: a share that is never worth a batch.
    #[test]
    fn a_source_with_one_per_cent_of_wrong_hints_stays_alone() {
        let mut standing = Standing::new();
        let mut allowed = 0;
        for i in 1..100_000 {
            allowed += usize::from(standing.of(1).0 > 0);
            if i % 100 == 0 {
                standing.disappoint(1);
            } else {
                standing.confirm(1, 1);
            }
        }
        assert_eq!(allowed, 0);
    }

    #[test]
    fn the_sole_signer_of_a_source_is_expected_again() {
        let mut standing = Standing::new();
        let (a, b) = (Address::repeat_byte(1), Address::repeat_byte(2));
        for _ in 0..CONFIRMED_MIN + 1 {
            assert_eq!(standing.of(1), (0, None));
            standing.signed(1, a);
        }
        assert_eq!(standing.of(1).1, Some(a));
        assert!(standing.of(1).0 > 0);
        standing.disappoint(1);
        standing.signed(1, b);
        assert_eq!(standing.of(1), (0, None));
    }

    #[test]
    fn the_sources_remembered_are_bounded() {
        let mut standing = Standing::new();
        for source in 0..3 * SOURCES_MAX as u64 {
            standing.confirm(source, 1);
            assert!(standing.sources.len() <= SOURCES_MAX);
        }
    }
}

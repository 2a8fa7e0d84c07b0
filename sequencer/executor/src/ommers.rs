//! What was there before the merge: difficulty and ommers.

use crate::{ChainSpec, InvalidBlock, validate_header};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::{B256, U256};
use revm::primitives::hardfork::SpecId;

const MIN_DIFFICULTY: u64 = 131_072;
const BOMB_PERIOD: u64 = 100_000;
const OMMERS_MAX: usize = 2;
/// An ommer's parent is at most this many blocks above the block that names it.
const GENERATIONS: u64 = 6;

/// Difficulty of the block after `parent` (Frontier; EIP-2 from Homestead; EIP-100 from Byzantium; bomb delays).
pub(crate) fn difficulty(spec: &ChainSpec, parent: &Header, timestamp: u64) -> U256 {
    let number = parent.number + 1;
    let rules = spec.forks.spec_id(number, timestamp, false);
    let step = parent.difficulty / U256::from(2048);
    let elapsed = timestamp.saturating_sub(parent.timestamp);
    // Up by `up` steps or down by `down`.
    let (up, down) = if rules.is_enabled_in(SpecId::BYZANTIUM) {
        let base = if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH { 1 } else { 2 };
        let periods = elapsed / 9;
        (base.max(periods) - periods, (periods.max(base) - base).min(99))
    } else if rules.is_enabled_in(SpecId::HOMESTEAD) {
        let periods = elapsed / 10;
        (1u64.saturating_sub(periods), periods.saturating_sub(1).min(99))
    } else if elapsed < 13 {
        (1, 0)
    } else {
        (0, 1)
    };
    let moved = (parent.difficulty + step * U256::from(up)).saturating_sub(step * U256::from(down));
    let mut difficulty = moved.max(U256::from(MIN_DIFFICULTY));
    let period = number.saturating_sub(spec.forks.bomb_delay(number)) / BOMB_PERIOD;
    if period >= 2 {
        difficulty += U256::ONE << (period - 2).min(255);
        difficulty = difficulty.max(U256::from(MIN_DIFFICULTY));
    }
    difficulty
}

/// Checks the ommers of a block against its newest ancestors, newest first (at least seven, or all that there are).
pub(crate) fn validate(
    spec: &ChainSpec,
    header: &Header,
    ommers: &[Header],
    ancestors: &[(B256, Header, Vec<B256>)],
) -> Result<(), InvalidBlock> {
    let fail = |index, reason| Err(InvalidBlock::Ommer { index, reason });
    if ommers.len() > OMMERS_MAX {
        return fail(OMMERS_MAX, "a block has at most two ommers");
    }
    let near = &ancestors[..ancestors.len().min(GENERATIONS as usize + 1)];
    let mut seen: Vec<B256> = Vec::new();
    for (index, ommer) in ommers.iter().enumerate() {
        let hash = ommer.hash_slow();
        if seen.contains(&hash) || near.iter().any(|(_, _, named)| named.contains(&hash)) {
            return fail(index, "it was rewarded before");
        }
        if near.iter().any(|(ancestor, _, _)| *ancestor == hash) {
            return fail(index, "it is an ancestor");
        }
        let Some((_, parent, _)) =
            near.iter().skip(1).find(|(ancestor, _, _)| *ancestor == ommer.parent_hash)
        else {
            return fail(index, "its parent is not among the six generations before the block's parent");
        };
        if ommer.number >= header.number {
            return fail(index, "it is not older than the block");
        }
        validate_header(spec, ommer, parent)
            .map_err(|_| InvalidBlock::Ommer { index, reason: "its header is not valid after its parent" })?;
        seen.push(hash);
    }
    Ok(())
}

//! Whether compiled code is worth running: measured, never assumed.
//!
//! A small share of a code's segments (a segment is what runs between two calls) is timed, half of them in the interpreter
//! and half in compiled code, chosen at random so that neither gets the easier ones. Samples are added up in groups; the
//! groups' times per gas are compared by rank (Mann and Whitney, 1947), because one preemption by the host can make a
//! sample a thousand times too long and must not decide. Compiled code that is slower goes back to the interpreter, and
//! is measured again after a rest that doubles each time.

/// What a segment runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// revm's interpreter.
    Interpreted = 0,
    /// Machine code.
    Compiled = 1,
}

/// Groups of samples that are compared, of each way.
const GROUPS: usize = 16;
/// Samples added up in a group.
const GROUP_SAMPLES: usize = 8;
/// Of the `GROUPS`² pairs, those in which compiled code must be the slower one: two and a half standard deviations above
/// what equal ways would give.
const SLOWER_PAIRS_MIN: usize = 194;
/// Compiled code that is slower by less than this is kept: the figures are no finer.
const SLOWER_RATIO_MIN: f64 = 1.02;
/// During a round, one segment in so many is timed.
const SAMPLE_INTERVAL: u32 = 64;
/// Segments after a round that found compiled code faster, doubled with each round.
const REST_FAST: u32 = 1 << 20;
/// Segments after a round that found it slower.
const REST_SLOW: u32 = 1 << 16;
const REST_DOUBLINGS_MAX: u32 = 8;

const _: () = assert!(SLOWER_PAIRS_MIN > GROUPS * GROUPS / 2 && SLOWER_PAIRS_MIN <= GROUPS * GROUPS);

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    ns: u64,
    gas: u64,
}

/// Samples of one code.
#[derive(Debug)]
pub(crate) struct Judge {
    groups: [[Group; GROUPS]; 2],
    samples: [usize; 2],
    round: u32,
    verdict: Way,
}

/// What a sample led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More samples are needed; the next one after this many segments.
    Sample(u32),
    /// A round is over: run this way, and measure again after this many segments.
    Decided(Way, u32),
}

impl Judge {
    /// New code is trusted until it is measured.
    pub(crate) fn new() -> Self {
        Self { groups: Default::default(), samples: [0; 2], round: 0, verdict: Way::Compiled }
    }

    /// Segments until the first sample.
    pub(crate) const FIRST: u32 = SAMPLE_INTERVAL;

    /// How to run the sample that comes now, by a random number.
    pub(crate) fn choose(&self, random: u64) -> Way {
        let full = |way: Way| self.samples[way as usize] >= GROUPS * GROUP_SAMPLES;
        let way = if random & 1 == 0 { Way::Interpreted } else { Way::Compiled };
        match way {
            Way::Interpreted if full(way) => Way::Compiled,
            Way::Compiled if full(way) => Way::Interpreted,
            way => way,
        }
    }

    /// Takes a sample: `ns` nanoseconds for `gas`.
    pub(crate) fn record(&mut self, way: Way, ns: u64, gas: u64) -> Step {
        let place = &mut self.samples[way as usize];
        if *place < GROUPS * GROUP_SAMPLES {
            // Neighbouring samples go to different groups: a slow moment of the host spreads over all of them.
            let group = &mut self.groups[way as usize][*place % GROUPS];
            group.ns += ns;
            group.gas += gas;
            *place += 1;
        }
        if self.samples.iter().any(|samples| *samples < GROUPS * GROUP_SAMPLES) {
            return Step::Sample(SAMPLE_INTERVAL);
        }
        self.verdict = if self.is_slower() { Way::Interpreted } else { Way::Compiled };
        let rest = match self.verdict {
            Way::Compiled => REST_FAST,
            Way::Interpreted => REST_SLOW,
        };
        let rest = rest << self.round.min(REST_DOUBLINGS_MAX);
        self.round += 1;
        self.groups = Default::default();
        self.samples = [0; 2];
        Step::Decided(self.verdict, rest)
    }

    fn is_slower(&self) -> bool {
        let cost = |group: &Group| group.ns as f64 / group.gas.max(1) as f64;
        let [interpreted, compiled] = &self.groups;
        let mut interpreted = interpreted.each_ref().map(cost);
        let mut compiled = compiled.each_ref().map(cost);
        let slower = compiled.iter().map(|c| interpreted.iter().filter(|i| c > i).count()).sum::<usize>();
        interpreted.sort_by(f64::total_cmp);
        compiled.sort_by(f64::total_cmp);
        let median = |sorted: &[f64; GROUPS]| (sorted[GROUPS / 2 - 1] + sorted[GROUPS / 2]) / 2.0;
        slower >= SLOWER_PAIRS_MIN && median(&compiled) > SLOWER_RATIO_MIN * median(&interpreted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of samples: time per gas of each way in hundredths, with `noise` on top from the sample's number.
    fn round(judge: &mut Judge, costs: [u64; 2], noise: impl Fn(u64) -> u64) -> (Way, u32) {
        for n in 0u64.. {
            let way = judge.choose(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17);
            let gas = 100 + n * 7919 % 900;
            let ns = gas * costs[way as usize] / 100 + noise(n);
            if let Step::Decided(way, rest) = judge.record(way, ns, gas) {
                return (way, rest);
            }
        }
        unreachable!("a round ends")
    }

    #[test]
    fn faster_code_stays_and_slower_code_goes_back_for_longer_each_time() {
        let mut judge = Judge::new();
        assert_eq!(round(&mut judge, [400, 100], |_| 0), (Way::Compiled, REST_FAST));
        let mut judge = Judge::new();
        let rests: Vec<u32> = (0..10)
            .map(|_| {
                let (way, rest) = round(&mut judge, [100, 130], |_| 0);
                assert_eq!(way, Way::Interpreted);
                rest
            })
            .collect();
        assert_eq!(rests[..3], [REST_SLOW, REST_SLOW * 2, REST_SLOW * 4]);
        assert_eq!(rests[9], REST_SLOW << REST_DOUBLINGS_MAX, "the rest stays bounded");
        assert_eq!(round(&mut judge, [200, 100], |_| 0).0, Way::Compiled, "what became faster comes back");
    }

    #[test]
    fn equal_code_and_rare_long_samples_are_no_reason_to_go_back() {
        assert_eq!(round(&mut Judge::new(), [100, 100], |_| 0).0, Way::Compiled);
        assert_eq!(round(&mut Judge::new(), [100, 101], |_| 0).0, Way::Compiled);
        // The host takes the processor away for ten milliseconds, now and then.
        let preempted = |n: u64| if n.is_multiple_of(61) { 10_000_000 } else { n % 13 };
        assert_eq!(round(&mut Judge::new(), [200, 100], preempted).0, Way::Compiled);
        assert_eq!(round(&mut Judge::new(), [100, 200], preempted).0, Way::Interpreted);
    }

    #[test]
    fn samples_without_gas_are_harmless() {
        let mut judge = Judge::new();
        for n in 0..1000 {
            let way = judge.choose(n);
            judge.record(way, 5, 0);
        }
    }
}

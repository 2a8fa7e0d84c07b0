//! The fuzz targets' bodies over fixed inputs: they compile, they hold, and every input that a fuzzer once found stays
//! tested. The fuzzer itself is `cargo fuzz` in `benches/fuzz`.

#[path = "../../fuzz/bodies/frame_decode.rs"]
mod frame_decode;
#[path = "../../fuzz/bodies/journal_open.rs"]
mod journal_open;
#[path = "../../fuzz/bodies/snapshot_open.rs"]
mod snapshot_open;

use std::path::Path;

/// xorshift64*: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// As a fuzzer does: some bytes change, some go, some come twice.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(8) {
            let len = bytes.len();
            match self.below(4) {
                _ if len == 0 => bytes.push(self.next() as u8),
                0 => bytes[self.below(len)] = self.next() as u8,
                1 => bytes[self.below(len)] ^= 1 << self.below(8),
                2 => {
                    let at = self.below(len);
                    bytes.truncate(at);
                }
                _ => {
                    let (from, to) = (self.below(len), self.below(len));
                    let piece = bytes[from.min(to)..from.max(to)].to_vec();
                    bytes.extend(piece);
                    bytes.truncate(1 << 14);
                }
            }
        }
    }
}

/// Inputs that a fuzzer found: `benches/fuzz/seeds/TARGET/`.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

fn run(target: &str, check: fn(&[u8]), count: usize, mut fresh: impl FnMut(&mut Random) -> Vec<u8>) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| check(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        let input = match seeds.len() {
            n if n > 0 && random.below(4) == 0 => {
                let mut seed = seeds[random.below(n)].clone();
                random.mutate(&mut seed);
                seed
            }
            _ => fresh(&mut random),
        };
        check(&input);
    }
}

#[test]
fn frames_of_any_bytes_mean_the_same_however_they_are_cut() {
    run("frame_decode", frame_decode::check, 2_000, |random| {
        // A valid stream: how it is cut, then submissions and pings; most of the time damaged.
        let mut input = vec![random.next() as u8];
        for _ in 0..random.below(6) {
            let payload = match random.below(3) {
                0 => (3u8, 0u8, random.bytes(8)),
                1 => {
                    let len = 9 + random.below(300);
                    (2, 0, random.bytes(len))
                }
                _ => {
                    let len = 29 + random.below(300);
                    (2, 1, random.bytes(len))
                }
            };
            let (kind, flags, payload) = payload;
            input.extend((payload.len() as u32).to_le_bytes());
            input.extend([kind, flags, 0, 0]);
            input.extend(payload);
        }
        if random.below(4) > 0 {
            random.mutate(&mut input);
        }
        input
    });
}

#[test]
fn a_journal_of_any_bytes_opens_or_is_refused() {
    run("journal_open", journal_open::check, 1_500, |random| {
        let choice = random.below(8) as u8;
        let len = if choice & 2 == 0 { random.below(20_000) } else { 3 * (1 + random.below(12)) };
        let mut input = vec![choice];
        input.extend(random.bytes(len));
        input
    });
}

#[test]
fn a_snapshot_of_any_bytes_opens_or_is_refused() {
    run("snapshot_open", snapshot_open::check, 120, |random| {
        let (choice, mode) = (random.below(9) as u8, random.below(8) as u8);
        let len = if mode & 4 == 0 { random.below(4_000) } else { 3 * (1 + random.below(12)) };
        let mut input = vec![choice, mode];
        input.extend(random.bytes(len));
        input
    });
}

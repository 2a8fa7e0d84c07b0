//! Analysed bytecode by code hash, so that jump destinations are found once per contract and not once per call.

use alloy_primitives::{B256, map::B256HashMap};
use revm::bytecode::Bytecode;
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded cache of analysed bytecode. Clones share it.
///
/// Two generations: what is used lives in the young one; when that is full it becomes the old one, and what was not
/// used for a whole generation is forgotten. A look-up costs one uncontended lock.
#[derive(Debug, Clone)]
pub struct CodeCache {
    inner: Arc<Mutex<Generations>>,
    generation_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: B256HashMap<Bytecode>,
    old: B256HashMap<Bytecode>,
    young_bytes: usize,
}

impl CodeCache {
    /// A cache that holds about `bytes_max` of bytecode (its analysis adds an eighth).
    pub fn new(bytes_max: usize) -> Self {
        Self { inner: Arc::default(), generation_bytes_max: (bytes_max / 2).max(1) }
    }

    /// The code with this hash, if it was used not long ago.
    pub fn get(&self, hash: &B256) -> Option<Bytecode> {
        let mut cache = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = cache.young.get(hash) {
            return Some(code.clone());
        }
        let code = cache.old.remove(hash)?;
        cache.insert(*hash, code.clone(), self.generation_bytes_max);
        Some(code)
    }

    /// Keeps `code` under its hash.
    pub fn insert(&self, hash: B256, code: Bytecode) {
        let mut cache = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(hash, code, self.generation_bytes_max);
    }
}

impl Generations {
    fn insert(&mut self, hash: B256, code: Bytecode, generation_bytes_max: usize) {
        let bytes = code.len() + size_of::<Bytecode>();
        if self.young.insert(hash, code).is_some() {
            return;
        }
        self.young_bytes += bytes;
        if self.young_bytes > generation_bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, keccak256};

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let cache = CodeCache::new(20_000);
        let code = |i: u32| Bytes::from([&i.to_be_bytes()[..], &[0u8; 96]].concat());
        let hot = keccak256(code(0));
        cache.insert(hot, Bytecode::new_raw(code(0)));
        for i in 1..10_000 {
            cache.insert(keccak256(code(i)), Bytecode::new_raw(code(i)));
            assert_eq!(cache.get(&hot).map(|c| c.original_bytes()), Some(code(0)), "used at every step");
        }
        assert!(cache.get(&keccak256(code(1))).is_none(), "not used since");
        let held = {
            let c = cache.inner.lock().unwrap();
            c.young.len() + c.old.len()
        };
        assert!(held <= 400, "{held} codes held");
    }
}

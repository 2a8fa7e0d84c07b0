//! The leaf arena: one cache line a leaf, accounts and storage slots alike.
//!
//! | bytes | account | slot |
//! | --- | --- | --- |
//! | 0..32 | Keccak-256 of the address | Keccak-256 of the slot number |
//! | 32..40 | nonce | value, big-endian, 32 bytes |
//! | 40..56 | balance (low 128 bits; unused when wide) | |
//! | 56..60 | code id; bit 31: the balance is in the table of wide ones | |
//! | 60..64 | storage trie, 0 for none | |

use crate::{TrieError, mem::Region};

/// A leaf record.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Leaf {
    pub(crate) key: [u8; 32],
    pub(crate) value: [u8; 32],
}

const _: () = assert!(size_of::<Leaf>() == 64, "one cache line, no padding");

/// An account leaf's value, unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct AccountValue {
    pub(crate) nonce: u64,
    pub(crate) balance: u128,
    pub(crate) code: u32,
    pub(crate) storage: u32,
}

impl AccountValue {
    pub(crate) fn unpack(value: &[u8; 32]) -> Self {
        let at = |from: usize| u32::from_le_bytes(value[from..from + 4].try_into().unwrap_or_default());
        AccountValue {
            nonce: u64::from_le_bytes(value[..8].try_into().unwrap_or_default()),
            balance: u128::from_le_bytes(value[8..24].try_into().unwrap_or_default()),
            code: at(24),
            storage: at(28),
        }
    }

    pub(crate) fn pack(&self) -> [u8; 32] {
        let mut value = [0; 32];
        value[..8].copy_from_slice(&self.nonce.to_le_bytes());
        value[8..24].copy_from_slice(&self.balance.to_le_bytes());
        value[24..28].copy_from_slice(&self.code.to_le_bytes());
        value[28..].copy_from_slice(&self.storage.to_le_bytes());
        value
    }
}

/// All leaf records. Index 0 is never a leaf. Free records form a list through the first four bytes of their value.
#[derive(Debug)]
pub(crate) struct Leaves {
    pub(crate) region: Region<Leaf>,
    pub(crate) free_head: u32,
    pub(crate) free_count: u32,
}

impl Leaves {
    pub(crate) fn reserve(leaves_max: usize, huge_pages: bool) -> Result<Self, TrieError> {
        let capacity = leaves_max.min(i32::MAX as usize) + 1;
        let mut region = Region::reserve("leaves", capacity, huge_pages)?;
        region.grow(1);
        Ok(Leaves { region, free_head: 0, free_count: 0 })
    }

    #[inline(always)]
    pub(crate) fn get(&self, leaf: u32) -> &Leaf {
        &self.region.as_slice()[leaf as usize]
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, leaf: u32) -> &mut Leaf {
        &mut self.region.as_mut_slice()[leaf as usize]
    }

    /// A record with this key and a zero value.
    pub(crate) fn alloc(&mut self, key: &[u8; 32]) -> u32 {
        let leaf = if self.free_head != 0 {
            let leaf = self.free_head;
            self.free_head = self.next_free(leaf);
            self.free_count -= 1;
            leaf
        } else {
            self.region.grow(1) as u32
        };
        *self.get_mut(leaf) = Leaf { key: *key, value: [0; 32] };
        leaf
    }

    pub(crate) fn free(&mut self, leaf: u32) {
        let mut value = [0; 32];
        value[..4].copy_from_slice(&self.free_head.to_le_bytes());
        *self.get_mut(leaf) = Leaf { key: [0; 32], value };
        self.free_head = leaf;
        self.free_count += 1;
    }

    /// The record after `leaf` in the list of free ones.
    pub(crate) fn next_free(&self, leaf: u32) -> u32 {
        let value = &self.get(leaf).value;
        u32::from_le_bytes([value[0], value[1], value[2], value[3]])
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, leaf: u32) {
        self.region.prefetch(leaf as usize * size_of::<Leaf>());
    }
}

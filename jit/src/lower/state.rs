//! What is known of the frame at a point of the function being built.

use super::word::Word;
use cranelift_codegen::ir::Value;
use std::collections::BTreeMap;

/// A stack word that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) word: Word,
    /// Memory does not hold it yet.
    pub(super) is_dirty: bool,
}

/// The frame's stack, gas and memory as far as they are known.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The stack pointer at the root of the tree of blocks.
    pub(super) sp: Value,
    /// Gas left, less the static gas of the rest of the block.
    pub(super) gas: Value,
    /// Height of the stack above the root's.
    pub(super) top: i32,
    /// Known words by height above the root's; others are in memory.
    pub(super) slots: BTreeMap<i32, Slot>,
    /// Memory is at least this long, in bytes.
    pub(super) memory_len: u64,
}

/// Words that are kept in registers across blocks at most: bounds the work of handing a state down.
pub(super) const SLOTS_MAX: usize = 24;

impl State {
    pub(super) fn new(sp: Value, gas: Value) -> Self {
        Self { sp, gas, top: 0, slots: BTreeMap::new(), memory_len: 0 }
    }

    pub(super) fn push(&mut self, word: Word) {
        self.slots.insert(self.top, Slot { word, is_dirty: true });
        self.top += 1;
    }

    /// The dirty words below a height, lowest first.
    pub(super) fn dirty_below(&self, height: i32) -> Vec<(i32, Word)> {
        self.slots
            .range(..height)
            .filter(|(_, slot)| slot.is_dirty)
            .map(|(at, slot)| (*at, slot.word))
            .collect()
    }
}

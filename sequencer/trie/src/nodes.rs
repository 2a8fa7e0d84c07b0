//! The branch arena: blocks of 8-byte words, each a branch with exactly as many places as it has children, or free.
//!
//! A branch at word `w` (bytes from `8·w` on, little-endian):
//!
//! | bytes | field |
//! | --- | --- |
//! | 2 | mask: bit n is set when there is a child at nibble n |
//! | 2 | embedded: the children of the mask whose RLP, below 32 bytes, stands in place of their hash |
//! | 1 | depth: how many nibbles of the key come before this branch's (an extension is depth beyond the parent's + 1) |
//! | 1 | words in the block |
//! | 1 | flags: bit 0 free (not set here), bit 1 the block before is free |
//! | 1 | zero |
//! | 4 × n | children in the order of their nibbles: word of a branch, or bit 31 and the index of a leaf |
//! | 32 × n | their hashes, or their RLP from the first byte on |
//!
//! Free blocks carry their length at both ends (Knuth's boundary tags), so that neighbours merge: branches change size
//! as they gain and lose children, and without merging a growing trie would leave half of its arena in pieces of the
//! wrong size. A free block is: length in words (4 bytes), two bytes, flags, zero; then the next and the previous
//! free block of its size class (4 bytes each); its last word is its length.

use crate::{TrieError, mem::Region};

/// A reference: [`NONE`], the word of a branch, or [`LEAF`] and the index of a leaf.
pub(crate) type Ref = u32;
/// No node.
pub(crate) const NONE: Ref = 0;
/// Set in a reference to a leaf.
pub(crate) const LEAF: Ref = 1 << 31;

const FREE: u8 = 1;
const PREVIOUS_FREE: u8 = 2;
/// Words of a branch with two children, the smallest block.
pub(crate) const BLOCK_WORDS_MIN: usize = words_for(2);
/// Words of a branch with sixteen.
pub(crate) const BLOCK_WORDS_MAX: usize = words_for(16);
/// Size classes of free blocks: one for each length up to a full branch, one for all that is longer.
pub(crate) const CLASSES: usize = BLOCK_WORDS_MAX - BLOCK_WORDS_MIN + 2;

const _: () = assert!(CLASSES <= 128, "the classes that are not empty are bits of a u128");
const _: () = assert!(BLOCK_WORDS_MAX <= u8::MAX as usize, "a branch's length is one byte");

/// Words that a branch with `children` takes: header, then 36 bytes each.
pub(crate) const fn words_for(children: usize) -> usize {
    1 + (36 * children).div_ceil(8)
}

fn class_of(words: usize) -> usize {
    words.min(BLOCK_WORDS_MAX + 1) - BLOCK_WORDS_MIN
}

/// A branch's header, unpacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) mask: u16,
    pub(crate) embedded: u16,
    pub(crate) depth: u8,
    pub(crate) words: u8,
    pub(crate) flags: u8,
}

impl Head {
    #[inline(always)]
    pub(crate) fn unpack(word: u64) -> Self {
        let b = word.to_le_bytes();
        Head {
            mask: u16::from_le_bytes([b[0], b[1]]),
            embedded: u16::from_le_bytes([b[2], b[3]]),
            depth: b[4],
            words: b[5],
            flags: b[6],
        }
    }

    #[inline(always)]
    fn pack(&self) -> u64 {
        let [m0, m1] = self.mask.to_le_bytes();
        let [e0, e1] = self.embedded.to_le_bytes();
        u64::from_le_bytes([m0, m1, e0, e1, self.depth, self.words, self.flags, 0])
    }

    /// How many children.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.mask.count_ones() as usize
    }

    /// Place of the child at nibble `n` among the children, if there is one.
    #[inline(always)]
    pub(crate) fn place(&self, n: usize) -> Option<usize> {
        let bit = 1u16 << n;
        (self.mask & bit != 0).then(|| (self.mask & (bit - 1)).count_ones() as usize)
    }
}

/// The nibbles of a mask in rising order.
pub(crate) fn nibbles_of(mask: u16) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let n = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            n
        })
    })
}

/// All branches. Word 0 is never a branch.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) region: Region<u64>,
    pub(crate) free_heads: [u32; CLASSES],
    pub(crate) free_words: u64,
    /// Bit c is set when the list of class c is not empty.
    pub(crate) nonempty: u128,
}

impl Nodes {
    pub(crate) fn reserve(bytes_max: usize, huge_pages: bool) -> Result<Self, TrieError> {
        let capacity = (bytes_max / 8).clamp(2, LEAF as usize - 1);
        let mut region = Region::reserve("branches", capacity, huge_pages)?;
        region.grow(1);
        Ok(Nodes { region, free_heads: [0; CLASSES], free_words: 0, nonempty: 0 })
    }

    #[inline(always)]
    pub(crate) fn head(&self, node: Ref) -> Head {
        Head::unpack(self.region.as_slice()[node as usize])
    }

    fn set_head(&mut self, node: Ref, head: Head) {
        self.region.as_mut_slice()[node as usize] = head.pack();
    }

    /// Bytes of the children's references and hashes.
    #[inline(always)]
    pub(crate) fn body(&self, node: Ref, count: usize) -> (&[u8], &[u8]) {
        let from = (node as usize + 1) * 8;
        self.region.as_bytes()[from..from + 36 * count].split_at(4 * count)
    }

    #[inline(always)]
    pub(crate) fn body_mut(&mut self, node: Ref, count: usize) -> (&mut [u8], &mut [u8]) {
        let from = (node as usize + 1) * 8;
        self.region.as_bytes_mut()[from..from + 36 * count].split_at_mut(4 * count)
    }

    /// The child at a place below the branch's count.
    #[inline(always)]
    pub(crate) fn child(&self, node: Ref, place: usize) -> Ref {
        let from = (node as usize + 1) * 8 + place * 4;
        let b = &self.region.as_bytes()[from..from + 4];
        u32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    /// Points the child at a place elsewhere.
    pub(crate) fn set_child(&mut self, node: Ref, place: usize, child: Ref) {
        let from = (node as usize + 1) * 8 + place * 4;
        self.region.as_bytes_mut()[from..from + 4].copy_from_slice(&child.to_le_bytes());
    }

    /// Writes what a child at `place` is known by: its hash (32 bytes), or its RLP (fewer).
    #[inline]
    pub(crate) fn set_hash(&mut self, node: Ref, place: usize, hash: &[u8]) {
        let head = self.head(node);
        if hash.len() < 32 || head.embedded != 0 {
            let bit = nibbles_of(head.mask).nth(place).map_or(0, |n| 1u16 << n);
            let embedded = if hash.len() < 32 { head.embedded | bit } else { head.embedded & !bit };
            self.set_head(node, Head { embedded, ..head });
        }
        let (_, hashes) = self.body_mut(node, head.count());
        let slot = &mut hashes[place * 32..place * 32 + 32];
        if let Ok(whole) = <&[u8; 32]>::try_from(hash) {
            slot.copy_from_slice(whole);
        } else {
            slot[..hash.len()].copy_from_slice(hash);
            slot[hash.len()..].fill(0);
        }
    }

    /// Says which children stand as RLP.
    pub(crate) fn set_embedded(&mut self, node: Ref, embedded: u16) {
        let head = self.head(node);
        self.set_head(node, Head { embedded, ..head });
    }

    /// A block for a branch with this mask and depth; children and hashes are to be written.
    pub(crate) fn alloc(&mut self, mask: u16, depth: usize) -> Ref {
        let need = words_for(mask.count_ones() as usize);
        let (node, words) = match self.find(need) {
            Some(found) => found,
            None => (self.region.grow(need) as u32, need),
        };
        // The previous block cannot be free: neighbours that are free have been merged, and the arena never ends free.
        self.set_head(node, Head { mask, embedded: 0, depth: depth as u8, words: words as u8, flags: 0 });
        node
    }

    /// Takes a free block of at least `need` words and gives back what is beyond, if that is worth a block.
    fn find(&mut self, need: usize) -> Option<(Ref, usize)> {
        let exact = class_of(need);
        let splittable = (need + BLOCK_WORDS_MIN).min(BLOCK_WORDS_MAX + 1) - BLOCK_WORDS_MIN;
        let from = |class: usize| (self.nonempty >> class) << class;
        let class = if self.nonempty >> exact & 1 != 0 {
            exact
        } else if from(splittable) != 0 {
            from(splittable).trailing_zeros() as usize
        } else if from(exact) != 0 {
            from(exact).trailing_zeros() as usize
        } else {
            return None;
        };
        let node = self.free_heads[class];
        let words = self.free_len(node);
        self.unlink(node, words);
        let rest = words - need;
        if rest >= BLOCK_WORDS_MIN {
            // The rest stays free, so the block after it still has a free block before it.
            self.link(node + need as u32, rest);
            Some((node, need))
        } else {
            self.mark_next(node, words, false);
            Some((node, words))
        }
    }

    /// Gives a branch's block back.
    pub(crate) fn free(&mut self, node: Ref) {
        let head = self.head(node);
        let (mut start, mut words) = (node, usize::from(head.words));
        if head.flags & PREVIOUS_FREE != 0 {
            let before = self.region.as_slice()[start as usize - 1] as usize;
            start -= before as u32;
            self.unlink(start, before);
            words += before;
        }
        let after = start as usize + words;
        if after < self.region.len() && self.head(after as u32).flags & FREE != 0 {
            let next = self.free_len(after as u32);
            self.unlink(after as u32, next);
            words += next;
        }
        if start as usize + words == self.region.len() {
            self.region.shrink(words);
            return;
        }
        self.link(start, words);
        self.mark_next(start, words, true);
    }

    pub(crate) fn free_len(&self, block: Ref) -> usize {
        self.region.as_slice()[block as usize] as u32 as usize
    }

    pub(crate) fn is_free(&self, block: Ref) -> bool {
        self.head(block).flags & FREE != 0
    }

    pub(crate) fn previous_is_free(&self, block: Ref) -> bool {
        self.head(block).flags & PREVIOUS_FREE != 0
    }

    /// Next and previous block in a free block's list.
    pub(crate) fn free_links(&self, block: Ref) -> (u32, u32) {
        let links = self.region.as_slice()[block as usize + 1];
        (links as u32, (links >> 32) as u32)
    }

    fn set_links(&mut self, block: Ref, next: u32, previous: u32) {
        self.region.as_mut_slice()[block as usize + 1] = u64::from(next) | u64::from(previous) << 32;
    }

    fn mark_next(&mut self, block: Ref, words: usize, free: bool) {
        let next = block as usize + words;
        if next < self.region.len() {
            let word = &mut self.region.as_mut_slice()[next];
            let bit = u64::from(PREVIOUS_FREE) << 48;
            *word = if free { *word | bit } else { *word & !bit };
        }
    }

    /// Puts a free block of this length into its list.
    pub(crate) fn link(&mut self, block: Ref, words: usize) {
        let class = class_of(words);
        let next = self.free_heads[class];
        let all = self.region.as_mut_slice();
        all[block as usize] = words as u64 | u64::from(FREE) << 48;
        all[block as usize + words - 1] = words as u64;
        self.set_links(block, next, 0);
        if next != 0 {
            let (after, _) = self.free_links(next);
            self.set_links(next, after, block);
        }
        self.free_heads[class] = block;
        self.nonempty |= 1 << class;
        self.free_words += words as u64;
    }

    fn unlink(&mut self, block: Ref, words: usize) {
        let class = class_of(words);
        let (next, previous) = self.free_links(block);
        if previous == 0 {
            self.free_heads[class] = next;
        } else {
            let (_, before) = self.free_links(previous);
            self.set_links(previous, next, before);
        }
        if next != 0 {
            let (after, _) = self.free_links(next);
            self.set_links(next, after, previous);
        }
        if self.free_heads[class] == 0 {
            self.nonempty &= !(1 << class);
        }
        self.free_words -= words as u64;
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, node: Ref) {
        self.region.prefetch(node as usize * 8);
        self.region.prefetch(node as usize * 8 + 64);
    }

    /// Prefetches a branch of average size to its end.
    #[inline(always)]
    pub(crate) fn prefetch_whole(&self, node: Ref) {
        for line in 0..6 {
            self.region.prefetch(node as usize * 8 + line * 64);
        }
    }
}

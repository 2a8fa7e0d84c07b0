//! Nibbles of 32-byte keys: 64 of them, the high one of each byte first.

/// Nibbles in a key.
pub(crate) const KEY_NIBBLES: usize = 64;

/// Nibble `depth` (below 64) of a key.
#[inline(always)]
pub(crate) fn nibble(key: &[u8; 32], depth: usize) -> usize {
    let byte = key[depth >> 1];
    usize::from(if depth & 1 == 0 { byte >> 4 } else { byte & 15 })
}

/// How many leading nibbles two keys share: 0 to 64.
#[inline]
pub(crate) fn common(a: &[u8; 32], b: &[u8; 32]) -> usize {
    for i in 0..32 {
        let x = a[i] ^ b[i];
        if x != 0 {
            return i * 2 + usize::from(x < 16);
        }
    }
    KEY_NIBBLES
}

/// The first eight bytes as a number that sorts as the key does.
#[inline(always)]
pub(crate) fn prefix(key: &[u8; 32]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&key[..8]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_and_common_prefixes_follow_the_key() {
        let mut a = [0u8; 32];
        a[0] = 0x12;
        a[31] = 0xef;
        assert_eq!((nibble(&a, 0), nibble(&a, 1), nibble(&a, 62), nibble(&a, 63)), (1, 2, 14, 15));
        assert_eq!(common(&a, &a), 64);
        for depth in 0..64 {
            let mut b = a;
            b[depth / 2] ^= if depth % 2 == 0 { 0x10 } else { 0x01 };
            assert_eq!(common(&a, &b), depth);
        }
        assert_eq!(prefix(&a), 0x1200_0000_0000_0000);
    }
}

//! How requests and answers lie in the buffers that travel; the other side is `fpga/kernels/recover.h`.

use crate::{RecoverAnswer, RecoverError, RecoverRequest};
use alloy_primitives::Address;

/// Words of a request: the hash's bytes, r and s as little-endian words, the parity.
pub(super) const REQUEST_WORDS: usize = 25;
/// Words of an answer: the status, the address's bytes, x and y of the public key as little-endian words.
pub(super) const ANSWER_WORDS: usize = 22;
/// Words that a request has between kernels.
pub(super) const WORK_WORDS: usize = 45;
/// Words of a point in the generator's table.
pub(super) const POINT_WORDS: usize = 16;

const _: () = assert!(cfg!(target_endian = "little"), "words are copied as they lie in memory");

pub(super) fn write_request(request: &RecoverRequest, words: &mut [u32]) {
    for (word, bytes) in words[..8].iter_mut().zip(request.hash.0.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for (at, number) in [(8, &request.r), (16, &request.s)] {
        for (pair, limb) in words[at..at + 8].chunks_exact_mut(2).zip(number.as_limbs()) {
            (pair[0], pair[1]) = (*limb as u32, (*limb >> 32) as u32);
        }
    }
    words[24] = request.parity.into();
}

/// The answer and the public key, x ‖ y big-endian (zeros without one); `Err` with a status that no kernel writes.
pub(super) fn read_answer(tag: u64, words: &[u32]) -> Result<(RecoverAnswer, [u8; 64]), u32> {
    let error = match words[0] {
        0 => None,
        1 => Some(RecoverError::NoKey),
        2 => Some(RecoverError::Parity),
        3 => Some(RecoverError::R),
        4 => Some(RecoverError::S),
        5 => Some(RecoverError::HighS),
        status => return Err(status),
    };
    if let Some(error) = error {
        return Ok((RecoverAnswer { tag, result: Err(error) }, [0; 64]));
    }
    let mut address = Address::ZERO;
    for (bytes, word) in address.0.chunks_exact_mut(4).zip(&words[1..6]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut key = [0; 64];
    for (half, number) in key.chunks_exact_mut(32).zip(words[6..22].chunks_exact(8)) {
        for (bytes, word) in half.chunks_exact_mut(4).zip(number.iter().rev()) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
    Ok((RecoverAnswer { tag, result: Ok(address) }, key))
}

//! Known answers that every engine must give before it is used.

use crate::engine::ORDER;
use crate::{RecoverEngine, RecoverError, RecoverRequest, Refusal};
use alloy_primitives::{Address, U256, address, b256, uint};
use std::time::{Duration, Instant};

/// No client's number.
const SOURCE: u64 = u64::MAX - 1;
/// How long the self-test may take.
const SELF_TEST_S_MAX: u64 = 10;

/// Runs the known answers, `rounds` times over, through the engine as a caller would.
pub(super) fn run(engine: &mut dyn RecoverEngine, rounds: usize) -> Result<(), Refusal> {
    let name = engine.caps().name;
    check(engine, rounds).map_err(|reason| Refusal { engine: name, reason })
}

fn check(engine: &mut dyn RecoverEngine, rounds: usize) -> Result<(), String> {
    let cases = known_answers();
    let count = cases.len() * rounds;
    let mut batch: Vec<_> =
        (0..count).map(|i| RecoverRequest { tag: i as u64, ..cases[i % cases.len()].0 }).collect();
    let deadline = Instant::now() + Duration::from_secs(SELF_TEST_S_MAX);
    let mut answers = vec![];
    while answers.len() < count {
        let _full = engine.submit(&mut batch);
        if engine.poll(&mut answers) == 0 {
            if Instant::now() > deadline {
                return Err(format!("the self-test had no answer within {SELF_TEST_S_MAX} s"));
            }
            std::thread::yield_now();
        }
    }
    for answer in answers {
        if answer.tag >= count as u64 {
            return Err(format!("the self-test got an answer to no question, tag {}", answer.tag));
        }
        let (_, expected) = &cases[answer.tag as usize % cases.len()];
        if answer.result != *expected {
            return Err(format!(
                "self-test case {}: expected {:?}, got {:?}",
                answer.tag, expected, answer.result
            ));
        }
    }
    Ok(())
}

/// The example of EIP-155 and its ways to be wrong.
fn known_answers() -> Vec<(RecoverRequest, Result<Address, RecoverError>)> {
    let good = RecoverRequest {
        tag: 0,
        hash: b256!("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"),
        r: uint!(0x28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276_U256),
        s: uint!(0x67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83_U256),
        parity: 0,
        hint: None,
        source: SOURCE,
    };
    let signer = address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");
    vec![
        (good, Ok(signer)),
        (RecoverRequest { hint: Some(Address::ZERO), ..good }, Ok(signer)),
        (RecoverRequest { s: ORDER - good.s, parity: 1, ..good }, Err(RecoverError::HighS)),
        (RecoverRequest { parity: 2, ..good }, Err(RecoverError::Parity)),
        (RecoverRequest { r: U256::ZERO, ..good }, Err(RecoverError::R)),
        (RecoverRequest { r: ORDER, ..good }, Err(RecoverError::R)),
        (RecoverRequest { s: U256::ZERO, ..good }, Err(RecoverError::S)),
        (RecoverRequest { s: ORDER, ..good }, Err(RecoverError::S)),
        // 5³ + 7 is no square, so no point has x = 5.
        (RecoverRequest { r: U256::from(5), ..good }, Err(RecoverError::NoKey)),
    ]
}

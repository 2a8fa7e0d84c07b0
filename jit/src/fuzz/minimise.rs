//! Makes a failing case small: whatever can go without the failure going too, goes.

use super::case::Case;
use crate::asm::{Item, Program, instructions};
use alloy_primitives::{Bytes, U256};
use revm::{bytecode::opcode as op, primitives::hardfork::SpecId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The smallest case found within `limit` for which `fails` still says yes. `case` itself must fail.
pub fn minimise(case: &Case, limit: Duration, fails: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut search = Search { best: case.clone(), end: Instant::now() + limit, fails };
    loop {
        let before = search.best.clone();
        search.values();
        search.accounts();
        search.codes();
        search.data();
        search.constants();
        if search.best == before || search.over() {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Case,
    end: Instant,
    fails: &'a mut dyn FnMut(&Case) -> bool,
}

impl Search<'_> {
    fn over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Keeps a change after which the case still fails.
    fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        if self.over() {
            return false;
        }
        let mut candidate = self.best.clone();
        change(&mut candidate);
        let better = candidate != self.best && (self.fails)(&candidate);
        if better {
            self.best = candidate;
        }
        better
    }

    fn accounts(&mut self) {
        for index in (0..self.best.accounts.len()).rev() {
            if !self.attempt(|case| {
                case.accounts.remove(index);
            }) {
                self.attempt(|case| case.accounts[index].code = Bytes::new());
                self.attempt(|case| case.accounts[index].storage.clear());
            }
        }
    }

    fn codes(&mut self) {
        for index in 0..self.best.accounts.len() {
            let program = recover(&self.best.accounts[index].code);
            self.program(program, |case, code| case.accounts[index].code = code);
        }
        if self.best.to.is_none() {
            let program = recover(&self.best.data);
            self.program(program, |case, data| case.data = data);
        }
    }

    /// Delta debugging over the items of one code: halves, quarters, … single items.
    fn program(&mut self, mut program: Program, set: impl Fn(&mut Case, Bytes)) {
        let mut chunk = program.items.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < program.items.len() {
                if self.over() {
                    return;
                }
                let end = (at + chunk).min(program.items.len());
                let mut shorter = program.clone();
                let mut position = 0;
                shorter.items.retain(|item| {
                    let keep = position < at || position >= end || matches!(item, Item::Mark(_));
                    position += 1;
                    keep
                });
                let gone = shorter.items.len() < program.items.len()
                    && shorter.assemble().is_ok_and(|code| self.attempt(|case| set(case, code.into())));
                if gone {
                    program = shorter;
                } else {
                    at = end;
                }
            }
            chunk /= 2;
        }
    }

    fn data(&mut self) {
        if self.best.to.is_none() {
            return;
        }
        self.attempt(|case| case.data = Bytes::new());
        let mut length = self.best.data.len();
        while length > 0 {
            length /= 2;
            while self.best.data.len() > length
                && self.attempt(|case| case.data = case.data.slice(..case.data.len() - length.max(1)))
            {
            }
        }
        for index in 0..self.best.data.len() {
            if self.best.data[index] != 0 {
                self.attempt(|case| {
                    let mut bytes = case.data.to_vec();
                    bytes[index] = 0;
                    case.data = bytes.into();
                });
            }
        }
    }

    fn values(&mut self) {
        self.attempt(|case| case.value = U256::ZERO);
        self.attempt(|case| case.blob_hashes.clear());
        self.attempt(|case| case.spec = SpecId::OSAKA);
        for gas in [100_000, 1_000_000] {
            self.attempt(|case| case.gas_limit = gas);
        }
        for index in 0..self.best.accounts.len() {
            self.attempt(|case| case.accounts[index].balance = U256::ZERO);
            for slot in (0..self.best.accounts[index].storage.len()).rev() {
                self.attempt(|case| {
                    case.accounts[index].storage.remove(slot);
                });
            }
        }
    }

    /// Numbers that need not be what they are.
    fn constants(&mut self) {
        for index in 0..self.best.accounts.len() {
            let code = self.best.accounts[index].code.clone();
            let pushes: Vec<(usize, usize)> = instructions(&code)
                .filter(|i| i.immediate.iter().any(|byte| *byte != 0))
                .map(|i| (i.pc + 1, i.immediate.len()))
                .collect();
            for (start, width) in pushes {
                self.attempt(|case| {
                    let mut bytes = case.accounts[index].code.to_vec();
                    bytes[start..start + width].fill(0);
                    case.accounts[index].code = bytes.into();
                });
            }
        }
    }
}

/// Code as a program whose jumps survive the removal of what stands between: a push of two or more bytes that names a
/// destination becomes a label.
fn recover(code: &[u8]) -> Program {
    let mut program = Program::new();
    let mut labels = BTreeMap::new();
    for instruction in instructions(code) {
        if instruction.opcode == op::JUMPDEST {
            let label = program.label();
            labels.insert(instruction.pc, label);
        }
    }
    for instruction in instructions(code) {
        let bytes = instruction.immediate;
        if let Some(label) = labels.get(&instruction.pc) {
            program.mark(*label);
        }
        if instruction.is_truncated() {
            program.raw([&[instruction.opcode][..], bytes].concat());
            continue;
        }
        let target = usize::try_from(U256::from_be_slice(bytes)).ok();
        match target.and_then(|target| labels.get(&target)) {
            Some(label) if bytes.len() >= 2 => {
                program.items.push(Item::PushLabel { label: *label, width: bytes.len() as u8 });
            }
            _ if bytes.is_empty() => program.op(instruction.opcode),
            _ => program.items.push(Item::Push(bytes.to_vec())),
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{asm::assemble, fuzz::CaseAccount};
    use alloy_primitives::Address;

    #[test]
    fn a_recovered_program_is_the_same_code() {
        let code =
            assemble("PUSH @end JUMP JUMPDEST PUSH1 0x04 ADD end: JUMPDEST HEX 610100 HEX 62ff").unwrap();
        assert_eq!(recover(&code).assemble().unwrap(), code);
    }

    #[test]
    fn what_does_not_matter_goes_and_jumps_still_land() {
        let text = "PUSH1 5 POP PUSH @a JUMP INVALID a: JUMPDEST PUSH1 1 PUSH1 2 MUL POP PUSH @b JUMP INVALID b: JUMPDEST \
                    PUSH4 0x12345678 BALANCE STOP";
        let case = Case {
            spec: SpecId::OSAKA,
            accounts: vec![
                CaseAccount { address: Address::repeat_byte(1), ..Default::default() },
                CaseAccount {
                    address: Address::repeat_byte(2),
                    code: assemble(text).unwrap().into(),
                    storage: vec![(U256::ONE, U256::ONE)],
                    ..Default::default()
                },
            ],
            to: Some(Address::repeat_byte(2)),
            value: U256::from(9),
            data: Bytes::from(vec![7; 100]),
            gas_limit: 123_456,
            ..Case::default()
        };
        // Fails while the call reaches BALANCE.
        let mut fails = |case: &Case| {
            let outcome = crate::fuzz::run(case, &mut crate::fuzz::Interpreter);
            outcome.accesses.len() > 3
                && case.account(Address::repeat_byte(2)).is_some_and(|a| a.code.contains(&op::BALANCE))
        };
        assert!(fails(&case));
        let small = minimise(&case, Duration::from_secs(5), &mut fails);
        assert_eq!(small.accounts.len(), 1);
        assert!(small.accounts[0].code.len() <= 6, "{}", small.to_text());
        assert!(small.data.is_empty() && small.value.is_zero());
    }
}

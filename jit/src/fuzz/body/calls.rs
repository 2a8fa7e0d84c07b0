//! Calls to other contracts, and creates.

use super::*;

impl Body<'_> {
    pub(super) fn gas_for_call(&mut self) {
        match self.rng.below(5) {
            0 => {
                let gas = self.rng.pick(&[0usize, 100, 2_300, 5_000, 20_000]);
                self.number(gas);
            }
            1 => {
                let word = self.rng.word();
                self.push(word);
            }
            2 => {
                let gas = 1_000 + self.rng.below(30_000);
                self.number(gas);
            }
            // All of it fails before EIP-150.
            _ if self.around.spec.is_enabled_in(SpecId::TANGERINE) => self.emit(op::GAS),
            _ => {
                self.number(2);
                self.emit(op::GAS);
                self.emit(op::DIV);
            }
        }
    }

    pub(super) fn call(&mut self) {
        let opcode = self.pick_enabled(&[
            op::CALL,
            op::CALL,
            op::STATICCALL,
            op::STATICCALL,
            op::DELEGATECALL,
            op::CALLCODE,
        ]);
        self.length();
        self.memory_offset();
        self.length();
        self.memory_offset();
        if matches!(opcode, op::CALL | op::CALLCODE) {
            let value = if self.rng.one_in(4) { self.rng.below(1_000) } else { 0 };
            self.number(value);
            if self.rng.one_in(40) {
                self.emit(op::NOT);
            }
        }
        self.peer();
        self.gas_for_call();
        self.emit(opcode);
        match self.rng.below(5) {
            0 => self.emit(op::POP),
            1 if self.enabled(op::RETURNDATASIZE) => {
                self.emit(op::RETURNDATASIZE);
                self.number(0);
                self.memory_offset();
                self.emit(op::RETURNDATACOPY);
            }
            2 if self.enabled(op::REVERT) => {
                // if (!ok) revert(returndata)
                let ok = self.program.label();
                self.push_label(ok);
                self.emit(op::JUMPI);
                let height = self.height;
                self.emit(op::RETURNDATASIZE);
                self.number(0);
                self.number(0);
                self.emit(op::RETURNDATACOPY);
                self.emit(op::RETURNDATASIZE);
                self.number(0);
                self.emit(op::REVERT);
                self.height = height;
                self.program.destination(ok);
            }
            _ => {}
        }
    }

    pub(super) fn create(&mut self) {
        let opcode = self.pick_enabled(&[op::CREATE, op::CREATE2]);
        let code = if self.around.nesting > 0 && self.rng.one_in(2) {
            initcode(self.rng, Surroundings { nesting: self.around.nesting - 1, ..self.around })
        } else {
            // Returns a few bytes of zeros, reverts, or starts with 0xEF.
            self.rng
                .pick(&[
                    &[0x60, 0x05, 0x60, 0x00, 0xf3][..],
                    &[0x60, 0x05, 0x60, 0x00, 0xfd],
                    &[0x60, 0xef, 0x60, 0x00, 0x53, 0x60, 0x01, 0x60, 0x00, 0xf3],
                    &[0x00],
                    &[0xfe],
                    &[0x32, 0xff],
                ])
                .to_vec()
        };
        let label = self.program.label();
        self.number(code.len());
        self.push_label(label);
        let at = 32 * self.rng.below(4);
        self.number(at);
        self.emit(op::CODECOPY);
        if opcode == op::CREATE2 {
            self.leaf();
        }
        self.number(code.len());
        self.number(at);
        let value = if self.rng.one_in(6) { self.rng.below(100) } else { 0 };
        self.number(value);
        self.emit(opcode);
        self.data.push((label, code));
        if self.rng.one_in(2) {
            // Call what was created.
            let words = if self.enabled(op::STATICCALL) { 4 } else { 5 };
            for _ in 0..words {
                self.number(0);
            }
            self.dup(words + 1);
            self.gas_for_call();
            self.emit(if words == 4 { op::STATICCALL } else { op::CALL });
        }
    }
}

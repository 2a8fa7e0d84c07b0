//! The opcode table: one row an opcode, read by analysis, lowering, `ironlane jit inspect`, docs and tests.
//!
//! Columns: byte, name, stack words read, stack words left in their place, first fork, static gas (with the forks that
//! changed it) and flags. A `const` block below holds names, stack columns and terminators against revm's own table at
//! compile time; the tests hold static gas against revm's gas table for every fork.

use revm::{bytecode::opcode::OpCode, primitives::hardfork::SpecId};

/// Ends a basic block and never falls through.
pub const TERMINATES: u16 = 1 << 0;
/// May suspend the frame: a call or a create. Ends a basic block; execution comes back at the next instruction.
pub const SUSPENDS: u16 = 1 << 1;
/// Jumps: ends a basic block.
pub const JUMPS: u16 = 1 << 2;
/// Charges gas beyond its static gas.
pub const DYNAMIC_GAS: u16 = 1 << 3;
/// Reads EVM memory (and may grow it).
pub const READS_MEMORY: u16 = 1 << 4;
/// Writes EVM memory (and may grow it).
pub const WRITES_MEMORY: u16 = 1 << 5;
/// Reads state, block or transaction through the host.
pub const USES_HOST: u16 = 1 << 6;
/// Forbidden in a static call, always or with a value.
pub const CHANGES_STATE: u16 = 1 << 7;
/// Can fail for a reason other than gas and stack.
pub const CAN_FAIL: u16 = 1 << 8;
/// Sees the gas left.
pub const SEES_GAS: u16 = 1 << 9;

/// DUPN, SWAPN and EXCHANGE (EIP-8024) take a byte of immediate data that JUMPDEST analysis does not skip. No stable fork
/// has them, so compiled code ends before them and the interpreter goes on.
pub const EIP8024: u16 = 1 << 10;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OpcodeInfo {
    /// The opcode's byte.
    pub byte: u8,
    /// Its mnemonic, as revm and the execution specs spell it.
    pub name: &'static str,
    /// Stack words it reads, counted from the top; DUP and SWAP count every word down to the one they touch.
    pub inputs: u8,
    /// Stack words that stand in the place of the inputs afterwards.
    pub outputs: u8,
    /// The first fork that has it. Earlier it halts.
    pub since: SpecId,
    /// Static gas: (fork, gas) in fork order; the last entry that is not later than the fork holds.
    gas: &'static [(SpecId, u16)],
    /// The flags of this module.
    pub flags: u16,
}

impl OpcodeInfo {
    /// Static gas in `spec`, charged before the instruction runs. 0 where the fork does not have the opcode is never
    /// relied upon: such an instruction is left to the interpreter.
    pub const fn static_gas(&self, spec: SpecId) -> u16 {
        let mut gas = 0;
        let mut i = 0;
        while i < self.gas.len() {
            if self.gas[i].0 as u8 <= spec as u8 {
                gas = self.gas[i].1;
            }
            i += 1;
        }
        gas
    }

    /// Whether `spec` has the opcode.
    pub const fn is_active(&self, spec: SpecId) -> bool {
        self.since as u8 <= spec as u8
    }

    /// Whether all of `flags` are set.
    pub const fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Whether any of `flags` is set.
    pub const fn has_any(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Bytes of immediate data after the opcode that are skipped by JUMPDEST analysis: PUSH1 to PUSH32 alone have them.
    pub const fn immediate(&self) -> usize {
        push_bytes(self.byte)
    }
}

/// Bytes of immediate data of PUSH1 to PUSH32, 0 for everything else.
pub const fn push_bytes(byte: u8) -> usize {
    if byte >= PUSH1 && byte <= PUSH32 { (byte - PUSH0) as usize } else { 0 }
}

/// The row of an opcode, `None` for bytes that are no opcode in any fork.
pub const fn info(byte: u8) -> Option<&'static OpcodeInfo> {
    match TABLE[byte as usize] {
        Some(row) => Some(row),
        None => None,
    }
}

macro_rules! opcodes {
    ($($byte:literal $name:ident $inputs:literal $outputs:literal $since:ident
       [$($fork:ident $gas:literal),*] $($flag:ident)*;)*) => {
        $(#[doc = concat!("The opcode `", stringify!($name), "`.")] pub const $name: u8 = $byte;)*
        /// The table by byte.
        pub static TABLE: [Option<&'static OpcodeInfo>; 256] = {
            let mut table: [Option<&'static OpcodeInfo>; 256] = [None; 256];
            $(table[$byte] = Some(&OpcodeInfo {
                byte: $byte, name: stringify!($name), inputs: $inputs, outputs: $outputs, since: SpecId::$since,
                gas: &[$((SpecId::$fork, $gas)),*], flags: 0 $(| $flag)*,
            });)*
            table
        };
    };
}

opcodes! {
    0x00 STOP 0 0 FRONTIER [] TERMINATES;
    0x01 ADD 2 1 FRONTIER [FRONTIER 3];
    0x02 MUL 2 1 FRONTIER [FRONTIER 5];
    0x03 SUB 2 1 FRONTIER [FRONTIER 3];
    0x04 DIV 2 1 FRONTIER [FRONTIER 5];
    0x05 SDIV 2 1 FRONTIER [FRONTIER 5];
    0x06 MOD 2 1 FRONTIER [FRONTIER 5];
    0x07 SMOD 2 1 FRONTIER [FRONTIER 5];
    0x08 ADDMOD 3 1 FRONTIER [FRONTIER 8];
    0x09 MULMOD 3 1 FRONTIER [FRONTIER 8];
    0x0a EXP 2 1 FRONTIER [FRONTIER 10] DYNAMIC_GAS;
    0x0b SIGNEXTEND 2 1 FRONTIER [FRONTIER 5];
    0x10 LT 2 1 FRONTIER [FRONTIER 3];
    0x11 GT 2 1 FRONTIER [FRONTIER 3];
    0x12 SLT 2 1 FRONTIER [FRONTIER 3];
    0x13 SGT 2 1 FRONTIER [FRONTIER 3];
    0x14 EQ 2 1 FRONTIER [FRONTIER 3];
    0x15 ISZERO 1 1 FRONTIER [FRONTIER 3];
    0x16 AND 2 1 FRONTIER [FRONTIER 3];
    0x17 OR 2 1 FRONTIER [FRONTIER 3];
    0x18 XOR 2 1 FRONTIER [FRONTIER 3];
    0x19 NOT 1 1 FRONTIER [FRONTIER 3];
    0x1a BYTE 2 1 FRONTIER [FRONTIER 3];
    0x1b SHL 2 1 PETERSBURG [FRONTIER 3];
    0x1c SHR 2 1 PETERSBURG [FRONTIER 3];
    0x1d SAR 2 1 PETERSBURG [FRONTIER 3];
    0x1e CLZ 1 1 OSAKA [FRONTIER 5];
    0x20 KECCAK256 2 1 FRONTIER [FRONTIER 30] DYNAMIC_GAS READS_MEMORY CAN_FAIL;
    0x30 ADDRESS 0 1 FRONTIER [FRONTIER 2];
    0x31 BALANCE 1 1 FRONTIER [FRONTIER 20, TANGERINE 400, ISTANBUL 700, BERLIN 100] DYNAMIC_GAS USES_HOST CAN_FAIL;
    0x32 ORIGIN 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x33 CALLER 0 1 FRONTIER [FRONTIER 2];
    0x34 CALLVALUE 0 1 FRONTIER [FRONTIER 2];
    0x35 CALLDATALOAD 1 1 FRONTIER [FRONTIER 3];
    0x36 CALLDATASIZE 0 1 FRONTIER [FRONTIER 2];
    0x37 CALLDATACOPY 3 0 FRONTIER [FRONTIER 3] DYNAMIC_GAS WRITES_MEMORY CAN_FAIL;
    0x38 CODESIZE 0 1 FRONTIER [FRONTIER 2];
    0x39 CODECOPY 3 0 FRONTIER [FRONTIER 3] DYNAMIC_GAS WRITES_MEMORY CAN_FAIL;
    0x3a GASPRICE 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x3b EXTCODESIZE 1 1 FRONTIER [FRONTIER 20, TANGERINE 700, BERLIN 100, AMSTERDAM 200]
        DYNAMIC_GAS USES_HOST CAN_FAIL;
    0x3c EXTCODECOPY 4 0 FRONTIER [FRONTIER 20, TANGERINE 700, BERLIN 100, AMSTERDAM 200]
        DYNAMIC_GAS WRITES_MEMORY USES_HOST CAN_FAIL;
    0x3d RETURNDATASIZE 0 1 BYZANTIUM [FRONTIER 2];
    0x3e RETURNDATACOPY 3 0 BYZANTIUM [FRONTIER 3] DYNAMIC_GAS WRITES_MEMORY CAN_FAIL;
    0x3f EXTCODEHASH 1 1 PETERSBURG [FRONTIER 400, ISTANBUL 700, BERLIN 100] DYNAMIC_GAS USES_HOST CAN_FAIL;
    0x40 BLOCKHASH 1 1 FRONTIER [FRONTIER 20] USES_HOST CAN_FAIL;
    0x41 COINBASE 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x42 TIMESTAMP 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x43 NUMBER 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x44 DIFFICULTY 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x45 GASLIMIT 0 1 FRONTIER [FRONTIER 2] USES_HOST;
    0x46 CHAINID 0 1 ISTANBUL [FRONTIER 2] USES_HOST;
    0x47 SELFBALANCE 0 1 ISTANBUL [FRONTIER 5] USES_HOST CAN_FAIL;
    0x48 BASEFEE 0 1 LONDON [FRONTIER 2] USES_HOST;
    0x49 BLOBHASH 1 1 CANCUN [FRONTIER 3] USES_HOST;
    0x4a BLOBBASEFEE 0 1 CANCUN [FRONTIER 2] USES_HOST;
    0x4b SLOTNUM 0 1 AMSTERDAM [FRONTIER 2] USES_HOST;
    0x50 POP 1 0 FRONTIER [FRONTIER 2];
    0x51 MLOAD 1 1 FRONTIER [FRONTIER 3] DYNAMIC_GAS READS_MEMORY CAN_FAIL;
    0x52 MSTORE 2 0 FRONTIER [FRONTIER 3] DYNAMIC_GAS WRITES_MEMORY CAN_FAIL;
    0x53 MSTORE8 2 0 FRONTIER [FRONTIER 3] DYNAMIC_GAS WRITES_MEMORY CAN_FAIL;
    0x54 SLOAD 1 1 FRONTIER [FRONTIER 50, TANGERINE 200, ISTANBUL 800, BERLIN 100] DYNAMIC_GAS USES_HOST CAN_FAIL;
    0x55 SSTORE 2 0 FRONTIER [] DYNAMIC_GAS USES_HOST CHANGES_STATE CAN_FAIL SEES_GAS;
    0x56 JUMP 1 0 FRONTIER [FRONTIER 8] JUMPS CAN_FAIL;
    0x57 JUMPI 2 0 FRONTIER [FRONTIER 10] JUMPS CAN_FAIL;
    0x58 PC 0 1 FRONTIER [FRONTIER 2];
    0x59 MSIZE 0 1 FRONTIER [FRONTIER 2];
    0x5a GAS 0 1 FRONTIER [FRONTIER 2] SEES_GAS;
    0x5b JUMPDEST 0 0 FRONTIER [FRONTIER 1];
    0x5c TLOAD 1 1 CANCUN [FRONTIER 100] USES_HOST;
    0x5d TSTORE 2 0 CANCUN [FRONTIER 100] USES_HOST CHANGES_STATE CAN_FAIL;
    0x5e MCOPY 3 0 CANCUN [FRONTIER 3] DYNAMIC_GAS READS_MEMORY WRITES_MEMORY CAN_FAIL;
    0x5f PUSH0 0 1 SHANGHAI [FRONTIER 2];
    0x60 PUSH1 0 1 FRONTIER [FRONTIER 3];
    0x61 PUSH2 0 1 FRONTIER [FRONTIER 3];
    0x62 PUSH3 0 1 FRONTIER [FRONTIER 3];
    0x63 PUSH4 0 1 FRONTIER [FRONTIER 3];
    0x64 PUSH5 0 1 FRONTIER [FRONTIER 3];
    0x65 PUSH6 0 1 FRONTIER [FRONTIER 3];
    0x66 PUSH7 0 1 FRONTIER [FRONTIER 3];
    0x67 PUSH8 0 1 FRONTIER [FRONTIER 3];
    0x68 PUSH9 0 1 FRONTIER [FRONTIER 3];
    0x69 PUSH10 0 1 FRONTIER [FRONTIER 3];
    0x6a PUSH11 0 1 FRONTIER [FRONTIER 3];
    0x6b PUSH12 0 1 FRONTIER [FRONTIER 3];
    0x6c PUSH13 0 1 FRONTIER [FRONTIER 3];
    0x6d PUSH14 0 1 FRONTIER [FRONTIER 3];
    0x6e PUSH15 0 1 FRONTIER [FRONTIER 3];
    0x6f PUSH16 0 1 FRONTIER [FRONTIER 3];
    0x70 PUSH17 0 1 FRONTIER [FRONTIER 3];
    0x71 PUSH18 0 1 FRONTIER [FRONTIER 3];
    0x72 PUSH19 0 1 FRONTIER [FRONTIER 3];
    0x73 PUSH20 0 1 FRONTIER [FRONTIER 3];
    0x74 PUSH21 0 1 FRONTIER [FRONTIER 3];
    0x75 PUSH22 0 1 FRONTIER [FRONTIER 3];
    0x76 PUSH23 0 1 FRONTIER [FRONTIER 3];
    0x77 PUSH24 0 1 FRONTIER [FRONTIER 3];
    0x78 PUSH25 0 1 FRONTIER [FRONTIER 3];
    0x79 PUSH26 0 1 FRONTIER [FRONTIER 3];
    0x7a PUSH27 0 1 FRONTIER [FRONTIER 3];
    0x7b PUSH28 0 1 FRONTIER [FRONTIER 3];
    0x7c PUSH29 0 1 FRONTIER [FRONTIER 3];
    0x7d PUSH30 0 1 FRONTIER [FRONTIER 3];
    0x7e PUSH31 0 1 FRONTIER [FRONTIER 3];
    0x7f PUSH32 0 1 FRONTIER [FRONTIER 3];
    0x80 DUP1 1 2 FRONTIER [FRONTIER 3];
    0x81 DUP2 2 3 FRONTIER [FRONTIER 3];
    0x82 DUP3 3 4 FRONTIER [FRONTIER 3];
    0x83 DUP4 4 5 FRONTIER [FRONTIER 3];
    0x84 DUP5 5 6 FRONTIER [FRONTIER 3];
    0x85 DUP6 6 7 FRONTIER [FRONTIER 3];
    0x86 DUP7 7 8 FRONTIER [FRONTIER 3];
    0x87 DUP8 8 9 FRONTIER [FRONTIER 3];
    0x88 DUP9 9 10 FRONTIER [FRONTIER 3];
    0x89 DUP10 10 11 FRONTIER [FRONTIER 3];
    0x8a DUP11 11 12 FRONTIER [FRONTIER 3];
    0x8b DUP12 12 13 FRONTIER [FRONTIER 3];
    0x8c DUP13 13 14 FRONTIER [FRONTIER 3];
    0x8d DUP14 14 15 FRONTIER [FRONTIER 3];
    0x8e DUP15 15 16 FRONTIER [FRONTIER 3];
    0x8f DUP16 16 17 FRONTIER [FRONTIER 3];
    0x90 SWAP1 2 2 FRONTIER [FRONTIER 3];
    0x91 SWAP2 3 3 FRONTIER [FRONTIER 3];
    0x92 SWAP3 4 4 FRONTIER [FRONTIER 3];
    0x93 SWAP4 5 5 FRONTIER [FRONTIER 3];
    0x94 SWAP5 6 6 FRONTIER [FRONTIER 3];
    0x95 SWAP6 7 7 FRONTIER [FRONTIER 3];
    0x96 SWAP7 8 8 FRONTIER [FRONTIER 3];
    0x97 SWAP8 9 9 FRONTIER [FRONTIER 3];
    0x98 SWAP9 10 10 FRONTIER [FRONTIER 3];
    0x99 SWAP10 11 11 FRONTIER [FRONTIER 3];
    0x9a SWAP11 12 12 FRONTIER [FRONTIER 3];
    0x9b SWAP12 13 13 FRONTIER [FRONTIER 3];
    0x9c SWAP13 14 14 FRONTIER [FRONTIER 3];
    0x9d SWAP14 15 15 FRONTIER [FRONTIER 3];
    0x9e SWAP15 16 16 FRONTIER [FRONTIER 3];
    0x9f SWAP16 17 17 FRONTIER [FRONTIER 3];
    0xa0 LOG0 2 0 FRONTIER [FRONTIER 375] DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL;
    0xa1 LOG1 3 0 FRONTIER [FRONTIER 375] DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL;
    0xa2 LOG2 4 0 FRONTIER [FRONTIER 375] DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL;
    0xa3 LOG3 5 0 FRONTIER [FRONTIER 375] DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL;
    0xa4 LOG4 6 0 FRONTIER [FRONTIER 375] DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL;
    0xe6 DUPN 0 1 AMSTERDAM [FRONTIER 3] CAN_FAIL EIP8024;
    0xe7 SWAPN 0 0 AMSTERDAM [FRONTIER 3] CAN_FAIL EIP8024;
    0xe8 EXCHANGE 0 0 AMSTERDAM [FRONTIER 3] CAN_FAIL EIP8024;
    0xf0 CREATE 3 1 FRONTIER [] SUSPENDS DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL SEES_GAS;
    0xf1 CALL 7 1 FRONTIER [FRONTIER 40, TANGERINE 700, BERLIN 100]
        SUSPENDS DYNAMIC_GAS READS_MEMORY WRITES_MEMORY USES_HOST CHANGES_STATE CAN_FAIL SEES_GAS;
    0xf2 CALLCODE 7 1 FRONTIER [FRONTIER 40, TANGERINE 700, BERLIN 100]
        SUSPENDS DYNAMIC_GAS READS_MEMORY WRITES_MEMORY USES_HOST CAN_FAIL SEES_GAS;
    0xf3 RETURN 2 0 FRONTIER [] TERMINATES DYNAMIC_GAS READS_MEMORY CAN_FAIL;
    0xf4 DELEGATECALL 6 1 HOMESTEAD [FRONTIER 40, TANGERINE 700, BERLIN 100]
        SUSPENDS DYNAMIC_GAS READS_MEMORY WRITES_MEMORY USES_HOST CAN_FAIL SEES_GAS;
    0xf5 CREATE2 4 1 PETERSBURG [] SUSPENDS DYNAMIC_GAS READS_MEMORY USES_HOST CHANGES_STATE CAN_FAIL SEES_GAS;
    0xfa STATICCALL 6 1 BYZANTIUM [FRONTIER 40, TANGERINE 700, BERLIN 100]
        SUSPENDS DYNAMIC_GAS READS_MEMORY WRITES_MEMORY USES_HOST CAN_FAIL SEES_GAS;
    0xfd REVERT 2 0 BYZANTIUM [] TERMINATES DYNAMIC_GAS READS_MEMORY CAN_FAIL;
    0xfe INVALID 0 0 FRONTIER [] TERMINATES CAN_FAIL;
    0xff SELFDESTRUCT 1 0 FRONTIER [FRONTIER 0, TANGERINE 5000]
        TERMINATES DYNAMIC_GAS USES_HOST CHANGES_STATE CAN_FAIL SEES_GAS;
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

// Names, stack columns, immediates and terminators are revm's, or this does not compile.
const _: () = {
    let mut byte = 0;
    while byte < 256 {
        match (info(byte as u8), OpCode::info_by_op(byte as u8)) {
            (None, None) => {}
            (Some(own), Some(revm)) => {
                assert!(own.byte as usize == byte && same(own.name, revm.name()));
                assert!(own.inputs == revm.inputs() && own.outputs == revm.outputs());
                assert!(own.has(TERMINATES) == revm.is_terminating());
                assert!(own.immediate() == revm.immediate_size() as usize || own.has(EIP8024));
            }
            _ => panic!("revm and this table disagree on whether a byte is an opcode"),
        }
        byte += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use revm::interpreter::instructions::gas_table_spec;

    fn specs() -> impl Iterator<Item = SpecId> {
        (0..=SpecId::AMSTERDAM as u8).filter_map(SpecId::try_from_u8)
    }

    #[test]
    fn static_gas_is_revms_in_every_fork() {
        for spec in specs() {
            let table = gas_table_spec(spec);
            for byte in 0..=255u8 {
                let own = info(byte).map_or(0, |row| row.static_gas(spec));
                assert_eq!(own, table[byte as usize], "opcode {byte:#04x} in {spec:?}");
            }
        }
    }
}

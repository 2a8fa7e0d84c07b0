//! Executes parsed PTX for one block after the other, a thread at a time between barriers.

use super::parse::{Base, Function, Module, Op, Operand, Special};

/// Where things lie in the one address space; nothing lies at 0.
const CONSTANTS: u64 = 0x1_0000;
const HEAP: u64 = 0x10_0000;
const LOCAL_BYTES: u64 = 16 << 10;

/// Instructions after which a thread counts as lost.
const STEPS_MAX: u64 = 500_000_000;

pub(crate) struct Machine<'a> {
    module: &'a Module,
    memory: Vec<u8>,
    next: u64,
    /// Instructions executed.
    pub(crate) steps: u64,
}

struct Frame<'a> {
    function: &'a Function,
    pc: usize,
    registers: Vec<u64>,
    parameters: Vec<u64>,
    outgoing: Vec<u64>,
    local: u64,
}

struct Thread<'a> {
    frames: Vec<Frame<'a>>,
    /// The carry flag; `None` where PTX does not promise one.
    carry: Option<bool>,
    tid: u32,
    stack: u64,
    done: bool,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(module: &'a Module) -> Self {
        let mut machine = Machine { module, memory: vec![0; HEAP as usize], next: HEAP, steps: 0 };
        let mut at = CONSTANTS;
        for constant in &module.constants {
            machine.memory[at as usize..at as usize + constant.bytes.len()].copy_from_slice(&constant.bytes);
            at += constant.bytes.len().next_multiple_of(16) as u64;
        }
        assert!(at < HEAP);
        machine
    }

    /// A buffer in global memory with these words; its address.
    pub(crate) fn buffer(&mut self, words: &[u32]) -> u64 {
        let address = self.take(4 * words.len() as u64);
        for (i, word) in words.iter().enumerate() {
            self.store(address + 4 * i as u64, 4, u64::from(*word));
        }
        address
    }

    pub(crate) fn words(&self, address: u64, count: usize) -> Vec<u32> {
        (0..count).map(|i| self.load(address + 4 * i as u64, 4) as u32).collect()
    }

    fn take(&mut self, bytes: u64) -> u64 {
        let address = self.next;
        // A gap, so that what runs over the end of one buffer does not land in the next unseen.
        self.next += (bytes + 64).next_multiple_of(64);
        self.memory.resize(self.next as usize, 0);
        address
    }

    fn load(&self, address: u64, bytes: usize) -> u64 {
        let at = address as usize;
        assert!(address >= CONSTANTS && at + bytes <= self.memory.len(), "a load from {address:#x}");
        assert!(at.is_multiple_of(bytes), "a load of {bytes} bytes from {address:#x} is not aligned");
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.memory[at..at + bytes]);
        u64::from_le_bytes(value)
    }

    fn store(&mut self, address: u64, bytes: usize, value: u64) {
        let at = address as usize;
        assert!(address >= HEAP && at + bytes <= self.memory.len(), "a store to {address:#x}");
        assert!(at.is_multiple_of(bytes), "a store of {bytes} bytes to {address:#x} is not aligned");
        self.memory[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Runs a kernel over `blocks` blocks of `threads`.
    pub(crate) fn launch(&mut self, kernel: &str, arguments: &[u64], blocks: u32, threads: u32) {
        let function = self.module.function(kernel);
        let (heap, length) = (self.next, self.memory.len());
        let shared = self.take(function.shared_bytes as u64);
        let stacks: Vec<u64> = (0..threads).map(|_| self.take(LOCAL_BYTES)).collect();
        for block in 0..blocks {
            let mut all: Vec<_> = (0..threads)
                .map(|tid| Thread {
                    frames: vec![frame(function, arguments.to_vec(), stacks[tid as usize])],
                    carry: None,
                    tid,
                    stack: stacks[tid as usize],
                    done: false,
                })
                .collect();
            while all.iter().any(|thread| !thread.done) {
                for thread in all.iter_mut().filter(|thread| !thread.done) {
                    self.run(thread, block, threads, shared);
                }
                let waiting = all.iter().filter(|thread| !thread.done).count();
                assert!(
                    waiting == 0 || waiting == all.len(),
                    "{kernel}: {waiting} of {threads} threads wait at a barrier that the others never reach"
                );
            }
        }
        self.memory.truncate(length);
        self.next = heap;
    }

    /// Runs one thread up to a barrier or its end.
    fn run(&mut self, thread: &mut Thread<'a>, block: u32, threads: u32, shared: u64) {
        let limit = self.steps + STEPS_MAX;
        loop {
            assert!(self.steps < limit, "a thread does not end");
            self.steps += 1;
            let frame = thread.frames.last_mut().expect("a thread has a frame");
            let instruction = &frame.function.code[frame.pc];
            frame.pc += 1;
            if let Some((register, negated)) = instruction.guard
                && (frame.registers[register] != 0) == negated
            {
                continue;
            }
            let registers = &mut frame.registers;
            let tid = thread.tid;
            let value = |registers: &[u64], operand: &Operand| match operand {
                Operand::Register(index) => registers[*index],
                Operand::Immediate(value) => *value,
                Operand::Special(Special::Tid) => u64::from(tid),
                Operand::Special(Special::BlockId) => u64::from(block),
                Operand::Special(Special::BlockSize) => u64::from(threads),
                Operand::Special(Special::Zero) => 0,
            };
            let local = frame.local;
            let address = |registers: &[u64], base: &Base, offset: i64| {
                let base = match base {
                    Base::Register(index) => registers[*index],
                    Base::Constant(offset) => CONSTANTS + offset,
                    Base::Shared(offset) => shared + offset,
                    Base::Local => local,
                };
                base.wrapping_add_signed(offset)
            };
            let mask = |bits: u32| if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
            let signed = |value: u64, bits: u32| {
                let shift = 64 - bits;
                ((value << shift) as i64) >> shift
            };
            match &instruction.op {
                Op::Barrier => return,
                Op::Return => {
                    let frame = thread.frames.pop().expect("a thread has a frame");
                    thread.carry = None;
                    thread.stack = frame.local;
                    if thread.frames.is_empty() {
                        thread.done = true;
                        return;
                    }
                }
                Op::Branch(target) => {
                    frame.pc = *target;
                    thread.carry = None;
                }
                Op::Call { function, arguments } => {
                    let parameters = arguments.iter().map(|index| frame.outgoing[*index]).collect();
                    let function = self.module.function(function);
                    let local = (frame.local + frame.function.local_bytes as u64).next_multiple_of(64);
                    assert!(local + function.local_bytes as u64 <= thread.frames[0].local + LOCAL_BYTES);
                    thread.frames.push(self::frame(function, parameters, local));
                    thread.carry = None;
                }
                Op::StoreParameter { index, source } => {
                    let value = value(registers, source);
                    if frame.outgoing.len() <= *index {
                        frame.outgoing.resize(index + 1, 0);
                    }
                    frame.outgoing[*index] = value;
                }
                Op::LoadParameter { to, index } => registers[*to] = frame.parameters[*index],
                Op::Load { to, base, offset, bytes } => {
                    let at = address(registers, base, *offset);
                    assert!(at.is_multiple_of((bytes * to.len()) as u64), "a vector load is not aligned");
                    for (i, to) in to.iter().enumerate() {
                        registers[*to] = self.load(at + (i * bytes) as u64, *bytes);
                    }
                }
                Op::Store { from, base, offset, bytes } => {
                    let at = address(registers, base, *offset);
                    assert!(at.is_multiple_of((bytes * from.len()) as u64), "a vector store is not aligned");
                    for (i, from) in from.iter().enumerate() {
                        self.store(at + (i * bytes) as u64, *bytes, value(registers, from));
                    }
                }
                Op::AddressOf { to, base } => registers[*to] = address(registers, base, 0),
                Op::Move { to, from } => registers[*to] = value(registers, from),
                Op::Pack { to, low, high } => {
                    let (low, high) = (value(registers, low), value(registers, high));
                    registers[*to] = (low & mask(32)) | (high << 32);
                }
                Op::Unpack { low, high, from } => {
                    let from = value(registers, from);
                    (registers[*low], registers[*high]) = (from & mask(32), from >> 32);
                }
                Op::Add { to, a, b, bits, carry_in, carry_out } => {
                    let carry = if *carry_in { thread.carry.expect("a carry to add") } else { false };
                    let sum = u128::from(value(registers, a) & mask(*bits))
                        + u128::from(value(registers, b) & mask(*bits))
                        + u128::from(carry);
                    registers[*to] = sum as u64 & mask(*bits);
                    thread.carry = carry_out.then_some(sum >> bits != 0);
                }
                Op::Sub { to, a, b, bits, carry_in, carry_out } => {
                    let borrow = if *carry_in { thread.carry.expect("a borrow to subtract") } else { false };
                    let a = i128::from(value(registers, a) & mask(*bits));
                    let difference = a - i128::from(value(registers, b) & mask(*bits)) - i128::from(borrow);
                    registers[*to] = difference as u64 & mask(*bits);
                    thread.carry = carry_out.then_some(difference < 0);
                }
                Op::Mul { to, a, b, c, bits, wide, high, is_signed, carry_in, carry_out } => {
                    let (a, b) = (value(registers, a), value(registers, b));
                    let product = match is_signed {
                        true => (i128::from(signed(a, *bits)) * i128::from(signed(b, *bits))) as u128,
                        false => u128::from(a & mask(*bits)) * u128::from(b & mask(*bits)),
                    };
                    let out = if *wide { 2 * bits } else { *bits };
                    let part = if *high { product >> bits } else { product } as u64 & mask(out);
                    let carry = if *carry_in { thread.carry.expect("a carry to add") } else { false };
                    let addend = c.as_ref().map_or(0, |c| value(registers, c) & mask(out));
                    let sum = u128::from(part) + u128::from(addend) + u128::from(carry);
                    registers[*to] = sum as u64 & mask(out);
                    if *carry_in || *carry_out {
                        thread.carry = carry_out.then_some(sum >> out != 0);
                    }
                }
                Op::Binary { to, a, b, bits, apply } => {
                    let (a, b) = (value(registers, a) & mask(*bits), value(registers, b));
                    registers[*to] = apply(a, b, *bits) & mask(*bits);
                }
                Op::Not { to, a, bits } => registers[*to] = !value(registers, a) & mask(*bits),
                Op::Select { to, a, b, predicate } => {
                    let chosen = if registers[*predicate] != 0 { a } else { b };
                    registers[*to] = value(registers, chosen);
                }
                Op::Compare { to, a, b, bits, is_signed, holds } => {
                    let (a, b) = (value(registers, a) & mask(*bits), value(registers, b) & mask(*bits));
                    let order = match is_signed {
                        true => signed(a, *bits).cmp(&signed(b, *bits)),
                        false => a.cmp(&b),
                    };
                    registers[*to] = u64::from(holds(order));
                }
                Op::Convert { to, from, from_bits, from_signed, bits } => {
                    let from = value(registers, from) & mask(*from_bits);
                    let from = if *from_signed { signed(from, *from_bits) as u64 } else { from };
                    registers[*to] = from & mask(*bits);
                }
                Op::Funnel { to, low, high, by, left } => {
                    let pair = (value(registers, high) << 32) | (value(registers, low) & mask(32));
                    let by = value(registers, by) & 31;
                    registers[*to] = if *left { (pair << by) >> 32 } else { (pair >> by) & mask(32) };
                }
                Op::Insert { to, a, b, position, length, bits } => {
                    let (a, b) = (value(registers, a), value(registers, b));
                    let field = mask(value(registers, length) as u32) << value(registers, position);
                    registers[*to] =
                        ((b & !field) | ((a << value(registers, position)) & field)) & mask(*bits);
                }
            }
        }
    }
}

fn frame(function: &Function, parameters: Vec<u64>, local: u64) -> Frame<'_> {
    Frame { function, pc: 0, registers: vec![0; function.registers], parameters, outgoing: vec![], local }
}

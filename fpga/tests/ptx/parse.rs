//! Reads the PTX that NVRTC writes: as much of the language as these kernels come to (PTX ISA 8.8).

use std::cmp::Ordering;
use std::collections::HashMap;

pub(crate) struct Module {
    pub(crate) constants: Vec<Constant>,
    functions: HashMap<String, Function>,
}

pub(crate) struct Constant {
    name: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Function {
    pub(crate) code: Vec<Instruction>,
    pub(crate) registers: usize,
    pub(crate) local_bytes: usize,
    pub(crate) shared_bytes: usize,
}

pub(crate) struct Instruction {
    /// A predicate register and whether it is negated.
    pub(crate) guard: Option<(usize, bool)>,
    pub(crate) op: Op,
}

pub(crate) enum Operand {
    Register(usize),
    Immediate(u64),
    Special(Special),
}

#[derive(Clone, Copy)]
pub(crate) enum Special {
    Tid,
    BlockId,
    BlockSize,
    /// The coordinates that a launch in one dimension leaves at zero.
    Zero,
}

#[derive(Clone)]
pub(crate) enum Base {
    Register(usize),
    Constant(u64),
    Shared(u64),
    Local,
}

pub(crate) enum Op {
    Barrier,
    Return,
    Branch(usize),
    Call {
        function: String,
        arguments: Vec<usize>,
    },
    StoreParameter {
        index: usize,
        source: Operand,
    },
    LoadParameter {
        to: usize,
        index: usize,
    },
    Load {
        to: Vec<usize>,
        base: Base,
        offset: i64,
        bytes: usize,
    },
    Store {
        from: Vec<Operand>,
        base: Base,
        offset: i64,
        bytes: usize,
    },
    AddressOf {
        to: usize,
        base: Base,
    },
    Move {
        to: usize,
        from: Operand,
    },
    Pack {
        to: usize,
        low: Operand,
        high: Operand,
    },
    Unpack {
        low: usize,
        high: usize,
        from: Operand,
    },
    Add {
        to: usize,
        a: Operand,
        b: Operand,
        bits: u32,
        carry_in: bool,
        carry_out: bool,
    },
    Sub {
        to: usize,
        a: Operand,
        b: Operand,
        bits: u32,
        carry_in: bool,
        carry_out: bool,
    },
    Mul {
        to: usize,
        a: Operand,
        b: Operand,
        c: Option<Operand>,
        bits: u32,
        wide: bool,
        high: bool,
        is_signed: bool,
        carry_in: bool,
        carry_out: bool,
    },
    Binary {
        to: usize,
        a: Operand,
        b: Operand,
        bits: u32,
        apply: fn(u64, u64, u32) -> u64,
    },
    Not {
        to: usize,
        a: Operand,
        bits: u32,
    },
    Select {
        to: usize,
        a: Operand,
        b: Operand,
        predicate: usize,
    },
    Compare {
        to: usize,
        a: Operand,
        b: Operand,
        bits: u32,
        is_signed: bool,
        holds: fn(Ordering) -> bool,
    },
    Convert {
        to: usize,
        from: Operand,
        from_bits: u32,
        from_signed: bool,
        bits: u32,
    },
    Funnel {
        to: usize,
        low: Operand,
        high: Operand,
        by: Operand,
        left: bool,
    },
    Insert {
        to: usize,
        a: Operand,
        b: Operand,
        position: Operand,
        length: Operand,
        bits: u32,
    },
}

impl Module {
    /// Reads a whole module. Panics at what it does not know: a test must not skip an instruction.
    pub(crate) fn parse(text: &str) -> Module {
        let text: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).fold(
            String::with_capacity(text.len()),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        );
        let mut module = Module { constants: vec![], functions: HashMap::new() };
        let mut rest = text.as_str();
        // Constants and functions stand one after the other.
        loop {
            let constant = rest.find(".const ");
            let function = [".func ", ".entry "].iter().filter_map(|word| rest.find(word)).min();
            match (constant, function) {
                (Some(at), function) if function.is_none_or(|function| at < function) => {
                    let end = at + rest[at..].find(';').expect("a declaration ends");
                    module.constants.push(constant_of(&rest[at..end]));
                    rest = &rest[end..];
                }
                (_, Some(at)) => {
                    let open = at + rest[at..].find('{').expect("a function has a body");
                    if let Some(end) = rest[at..open].find(';') {
                        // A declaration alone.
                        rest = &rest[at + end..];
                        continue;
                    }
                    let close = open + closing(&rest[open..]);
                    let head = &rest[at..open];
                    let name = head.split_whitespace().nth(1).expect("a function has a name");
                    let name = name.split('(').next().expect("split gives one piece").to_owned();
                    let function = FunctionParser::parse(&module, &rest[open + 1..close]);
                    module.functions.insert(name, function);
                    rest = &rest[close..];
                }
                _ => return module,
            }
        }
    }

    pub(crate) fn function(&self, name: &str) -> &Function {
        self.functions.get(name).unwrap_or_else(|| panic!("there is no function {name}"))
    }
}

/// Where the brace is that closes the one at the beginning.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    panic!("a brace is not closed")
}

/// The number in brackets after a name, and the name.
fn sized(text: &str) -> (String, usize) {
    let (name, size) = text.split_once('[').expect("a declaration of bytes");
    let name = name.split_whitespace().last().expect("a name").to_owned();
    (name, size.split(']').next().and_then(|size| size.trim().parse().ok()).expect("a number of bytes"))
}

fn constant_of(text: &str) -> Constant {
    assert!(text.contains(" .b8 "), "constants are declared as bytes: {text}");
    let (head, values) = text.split_once('=').expect("a constant has a value");
    let (name, size) = sized(head);
    let values = values.trim().trim_matches(['{', '}']);
    let mut bytes: Vec<u8> = values.split(',').map(|value| value.trim().parse().expect("a byte")).collect();
    bytes.resize(size, 0);
    Constant { name, bytes }
}

struct FunctionParser<'a> {
    constants: HashMap<&'a str, u64>,
    shared: HashMap<String, u64>,
    registers: HashMap<String, usize>,
    labels: HashMap<String, usize>,
    /// Branches whose target is not known yet.
    branches: Vec<(usize, String)>,
    function: Function,
}

impl<'a> FunctionParser<'a> {
    fn parse(module: &'a Module, body: &str) -> Function {
        let mut at = 0;
        let constants = module.constants.iter().map(|constant| {
            let here = at;
            at += constant.bytes.len().next_multiple_of(16) as u64;
            (constant.name.as_str(), here)
        });
        let mut parser = FunctionParser {
            constants: constants.collect(),
            shared: HashMap::new(),
            registers: HashMap::new(),
            labels: HashMap::new(),
            branches: vec![],
            function: Function { code: vec![], registers: 0, local_bytes: 0, shared_bytes: 0 },
        };
        for statement in body.split(';') {
            parser.statement(statement);
        }
        for (at, label) in std::mem::take(&mut parser.branches) {
            let target = *parser.labels.get(&label).unwrap_or_else(|| panic!("there is no label {label}"));
            parser.function.code[at].op = Op::Branch(target);
        }
        parser.function.registers = parser.registers.len();
        parser.function
    }

    fn statement(&mut self, text: &str) {
        let mut text = text.trim();
        // Scopes, in which nothing is declared that is used by name elsewhere, and labels.
        loop {
            if let Some(rest) = text.strip_prefix(['{', '}']) {
                text = rest.trim_start();
                continue;
            }
            match text.split_once(':') {
                Some((label, rest)) if !label.contains(char::is_whitespace) => {
                    self.labels.insert(label.to_owned(), self.function.code.len());
                    text = rest.trim_start();
                }
                _ => break,
            }
        }
        if text.is_empty()
            || text.starts_with(".reg")
            || text.starts_with(".param")
            || text.starts_with(".pragma")
        {
            return;
        }
        if text.starts_with(".local") {
            self.function.local_bytes = sized(text).1;
        } else if text.starts_with(".shared") {
            let (name, size) = sized(text);
            self.shared.insert(name, self.function.shared_bytes as u64);
            self.function.shared_bytes += size.next_multiple_of(16);
        } else {
            self.instruction(text);
        }
    }

    fn register(&mut self, name: &str) -> usize {
        let name = name.trim();
        assert!(name.starts_with('%') && !name.contains('.'), "{name} is no register");
        let next = self.registers.len();
        *self.registers.entry(name.to_owned()).or_insert(next)
    }

    fn operand(&mut self, text: &str) -> Operand {
        let text = text.trim();
        match text {
            "%tid.x" => return Operand::Special(Special::Tid),
            "%ctaid.x" => return Operand::Special(Special::BlockId),
            "%ntid.x" => return Operand::Special(Special::BlockSize),
            "%tid.y" | "%tid.z" => return Operand::Special(Special::Zero),
            _ => {}
        }
        if text.starts_with('%') {
            return Operand::Register(self.register(text));
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let value = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let value = value.unwrap_or_else(|_| panic!("{text} is no operand"));
        Operand::Immediate(if negative { value.wrapping_neg() } else { value })
    }

    fn base(&mut self, name: &str) -> Base {
        if name == "%SP" || name == "%SPL" || name.starts_with('%') {
            return Base::Register(self.register(name));
        }
        if let Some(at) = self.constants.get(name) {
            return Base::Constant(*at);
        }
        if let Some(at) = self.shared.get(name) {
            return Base::Shared(*at);
        }
        assert!(name.starts_with("__local_depot"), "{name} is no place in memory");
        Base::Local
    }

    /// `[base+offset]`.
    fn place(&mut self, text: &str) -> (Base, i64) {
        let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
        let (base, offset) = match inner.split_once('+') {
            Some((base, offset)) => (base, offset.parse().expect("an offset")),
            None => (inner, 0),
        };
        (self.base(base), offset)
    }

    fn instruction(&mut self, text: &str) {
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (predicate, rest) = rest.split_once(char::is_whitespace).expect("a guarded instruction");
                let negated = predicate.starts_with('!');
                (Some((self.register(predicate.trim_start_matches('!')), negated)), rest.trim_start())
            }
            None => (None, text),
        };
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let parts: Vec<&str> = name.split('.').collect();
        let op = match parts[0] {
            "bra" => {
                self.branches.push((self.function.code.len(), rest.trim().to_owned()));
                Op::Branch(usize::MAX)
            }
            "call" => call(rest),
            _ => {
                let operands = split_operands(rest);
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                self.plain(&parts, &operands).unwrap_or_else(|| panic!("not known: {text}"))
            }
        };
        self.function.code.push(Instruction { guard, op });
    }

    fn plain(&mut self, parts: &[&str], operands: &[&str]) -> Option<Op> {
        let kind = *parts.last()?;
        let (bits, is_signed) = match kind {
            "pred" => (1, false),
            _ => (kind.get(1..).and_then(|bits| bits.parse().ok()).unwrap_or(0), kind.starts_with('s')),
        };
        let has = |word: &str| parts[1..].contains(&word);
        Some(match (parts[0], operands) {
            ("ret", []) => Op::Return,
            ("bar", _) => Op::Barrier,
            ("ld", [to, place]) if has("param") => {
                let index = place.trim_matches(['[', ']']).rsplit_once("_param_")?.1.parse().ok()?;
                Op::LoadParameter { to: self.register(to), index }
            }
            ("st", [place, from]) if has("param") => {
                let index = place.trim_matches(['[', ']']).strip_prefix("param")?;
                let index = index.strip_suffix("+0").unwrap_or(index).parse().ok()?;
                Op::StoreParameter { index, source: self.operand(from) }
            }
            ("ld", [to, place]) => {
                let (base, offset) = self.place(place);
                let to = elements(to).iter().map(|to| self.register(to)).collect();
                Op::Load { to, base, offset, bytes: bits as usize / 8 }
            }
            ("st", [place, from]) => {
                let (base, offset) = self.place(place);
                let from = elements(from).iter().map(|from| self.operand(from)).collect();
                Op::Store { from, base, offset, bytes: bits as usize / 8 }
            }
            // One address space: generic addresses are the others'.
            ("cvta", [to, from]) => Op::Move { to: self.register(to), from: self.operand(from) },
            ("mov", [to, from]) if to.starts_with('{') => {
                let pair = elements(to);
                let [low, high] = pair.as_slice() else { return None };
                Op::Unpack { low: self.register(low), high: self.register(high), from: self.operand(from) }
            }
            ("mov", [to, from]) if from.starts_with('{') => {
                let pair = elements(from);
                let [low, high] = pair.as_slice() else { return None };
                Op::Pack { to: self.register(to), low: self.operand(low), high: self.operand(high) }
            }
            ("mov", [to, from]) if from.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                Op::AddressOf { to: self.register(to), base: self.base(from) }
            }
            ("mov", [to, from]) => Op::Move { to: self.register(to), from: self.operand(from) },
            ("add" | "addc", [to, a, b]) => Op::Add {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                bits,
                carry_in: parts[0] == "addc",
                carry_out: has("cc"),
            },
            ("sub" | "subc", [to, a, b]) => Op::Sub {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                bits,
                carry_in: parts[0] == "subc",
                carry_out: has("cc"),
            },
            ("mul" | "mad" | "madc", [to, a, b, c @ ..]) => Op::Mul {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                c: c.first().map(|c| self.operand(c)),
                bits,
                wide: has("wide"),
                high: has("hi"),
                is_signed,
                carry_in: parts[0] == "madc",
                carry_out: has("cc"),
            },
            ("neg", [to, a]) => Op::Sub {
                to: self.register(to),
                a: Operand::Immediate(0),
                b: self.operand(a),
                bits,
                carry_in: false,
                carry_out: false,
            },
            ("not", [to, a]) => Op::Not { to: self.register(to), a: self.operand(a), bits },
            ("abs", [to, a]) => self.binary(to, a, "0", bits, |a, _, bits| extend(a, bits).unsigned_abs()),
            ("and", [to, a, b]) => self.binary(to, a, b, bits, |a, b, _| a & b),
            ("or", [to, a, b]) => self.binary(to, a, b, bits, |a, b, _| a | b),
            ("xor", [to, a, b]) => self.binary(to, a, b, bits, |a, b, _| a ^ b),
            ("min", [to, a, b]) if !is_signed => self.binary(to, a, b, bits, |a, b, _| a.min(b)),
            ("max", [to, a, b]) if !is_signed => self.binary(to, a, b, bits, |a, b, _| a.max(b)),
            // Shifts by the width and more leave nothing (PTX ISA, shl and shr).
            ("shl", [to, a, b]) => {
                self.binary(to, a, b, bits, |a, b, bits| if b as u32 >= bits { 0 } else { a << b as u32 })
            }
            ("shr", [to, a, b]) if is_signed => {
                self.binary(to, a, b, bits, |a, b, bits| (extend(a, bits) >> (b as u32).min(63)) as u64)
            }
            ("shr", [to, a, b]) => {
                self.binary(to, a, b, bits, |a, b, bits| if b as u32 >= bits { 0 } else { a >> b as u32 })
            }
            ("selp", [to, a, b, predicate]) => Op::Select {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                predicate: self.register(predicate),
            },
            ("setp", [to, a, b]) if parts.len() == 3 => Op::Compare {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                bits,
                is_signed,
                holds: match parts[1] {
                    "eq" => Ordering::is_eq,
                    "ne" => Ordering::is_ne,
                    "lt" => Ordering::is_lt,
                    "le" => Ordering::is_le,
                    "gt" => Ordering::is_gt,
                    "ge" => Ordering::is_ge,
                    _ => return None,
                },
            },
            ("cvt", [to, from]) if parts.len() == 3 => Op::Convert {
                to: self.register(to),
                from: self.operand(from),
                from_bits: bits,
                from_signed: is_signed,
                bits: parts[1].get(1..)?.parse().ok()?,
            },
            ("shf", [to, low, high, by]) if has("wrap") => Op::Funnel {
                to: self.register(to),
                low: self.operand(low),
                high: self.operand(high),
                by: self.operand(by),
                left: has("l"),
            },
            ("bfi", [to, a, b, position, length]) => Op::Insert {
                to: self.register(to),
                a: self.operand(a),
                b: self.operand(b),
                position: self.operand(position),
                length: self.operand(length),
                bits,
            },
            _ => return None,
        })
    }

    fn binary(&mut self, to: &str, a: &str, b: &str, bits: u32, apply: fn(u64, u64, u32) -> u64) -> Op {
        Op::Binary { to: self.register(to), a: self.operand(a), b: self.operand(b), bits, apply }
    }
}

fn extend(value: u64, bits: u32) -> i64 {
    ((value << (64 - bits)) as i64) >> (64 - bits)
}

/// `name, (param0, param1)`; none of the functions here returns a value.
fn call(text: &str) -> Op {
    let (function, arguments) = text.split_once(',').expect("a call with arguments");
    let arguments = arguments.trim().trim_matches(['(', ')']).split(',');
    let index = |argument: &str| argument.trim().strip_prefix("param").and_then(|index| index.parse().ok());
    Op::Call {
        function: function.trim().to_owned(),
        arguments: arguments.map(|argument| index(argument).expect("an argument")).collect(),
    }
}

/// The parts of `{a, b}`, or the one operand.
fn elements(text: &str) -> Vec<&str> {
    text.trim_matches(['{', '}']).split(',').map(str::trim).collect()
}

/// At commas outside of braces.
fn split_operands(text: &str) -> Vec<String> {
    let (mut operands, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                operands.push(String::new());
                continue;
            }
            _ => {}
        }
        operands.last_mut().expect("one at least").push(c);
    }
    let operands: Vec<String> = operands.into_iter().map(|operand| operand.trim().to_owned()).collect();
    operands.into_iter().filter(|operand| !operand.is_empty()).collect()
}

//! A small assembler and its inverse: the text form of bytecode in golden tests, reproducers and `ironlane jit inspect`.
//!
//! One instruction a line. A mnemonic is revm's name of the opcode; pushes take a number (`PUSH2 0x0123`, or `PUSH 291`
//! for the shortest) or a label (`PUSH @loop`, two bytes wide; `PUSH3 @loop` for another width). `loop:` names the
//! position that follows and emits nothing: a destination is written `loop: JUMPDEST`. `HEX 60015b` is bytes as they are,
//! unknown opcodes and truncated pushes included. A comment begins with `;` or `#`.

use alloy_primitives::{U256, hex};
use revm::bytecode::opcode::{self, OpCode};
use std::{collections::HashMap, fmt::Write as _};

/// A position in a [`Program`], known once it is assembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(u32);

/// What a line of assembly stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An opcode without immediate bytes, known or not.
    Op(u8),
    /// `PUSHn` of these 1 to 32 bytes, or `PUSH0` of none.
    Push(Vec<u8>),
    /// `PUSHn` of a label's position.
    PushLabel {
        /// Which.
        label: Label,
        /// Bytes of the immediate, 1 to 32.
        width: u8,
    },
    /// Here is the label.
    Mark(Label),
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// Why a text or a program has no bytecode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AsmError {
    /// A line that says nothing known.
    #[error(
        "line {line}: `{text}` is no instruction: use a mnemonic as ADD, PUSH1 0x01, PUSH @label, label: or HEX 00"
    )]
    Unknown {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// An immediate that is no number or does not fit.
    #[error(
        "line {line}: `{text}` does not fit {mnemonic}: give a number of at most {width} bytes or a @label"
    )]
    Immediate {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// The push.
        mnemonic: String,
        /// Its bytes.
        width: u8,
    },
    /// Bytes that are not hexadecimal.
    #[error("line {line}: HEX takes an even number of hexadecimal digits")]
    Hex {
        /// Counted from 1.
        line: usize,
    },
    /// A label that is used and nowhere marked, or marked twice.
    #[error("label `{0}` must be marked exactly once, as `{0}:`")]
    Label(String),
    /// A position that its push cannot hold.
    #[error("position {position} of a label does not fit a push of {width} bytes: use a wider one")]
    TooFar {
        /// In bytes from the start.
        position: usize,
        /// Bytes of the push.
        width: u8,
    },
}

/// Assembly in the making: what the parser and the bytecode generator build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// In order.
    pub items: Vec<Item>,
    labels: u32,
}

impl Program {
    /// A program of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, AsmError> {
        Parser::default().parse(text)
    }

    /// A label not yet marked.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Marks `label` here; emits nothing.
    pub fn mark(&mut self, label: Label) {
        self.items.push(Item::Mark(label));
    }

    /// Marks `label` here and makes it a destination.
    pub fn destination(&mut self, label: Label) {
        self.mark(label);
        self.op(opcode::JUMPDEST);
    }

    /// An opcode without immediate bytes.
    pub fn op(&mut self, opcode: u8) {
        self.items.push(Item::Op(opcode));
    }

    /// The shortest of PUSH1 to PUSH32.
    pub fn push(&mut self, value: U256) {
        let bytes = value.to_be_bytes::<32>();
        let start = bytes.iter().position(|&b| b != 0).unwrap_or(31);
        self.items.push(Item::Push(bytes[start..].to_vec()));
    }

    /// The position of `label`, two bytes wide.
    pub fn push_label(&mut self, label: Label) {
        self.items.push(Item::PushLabel { label, width: 2 });
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: impl Into<Vec<u8>>) {
        self.items.push(Item::Raw(bytes.into()));
    }

    /// The bytecode. A label that is used and not marked is an error.
    pub fn assemble(&self) -> Result<Vec<u8>, AsmError> {
        let mut marked = HashMap::new();
        let mut position = 0;
        for item in &self.items {
            match item {
                Item::Op(_) => position += 1,
                Item::Push(bytes) => position += 1 + bytes.len(),
                Item::PushLabel { width, .. } => position += 1 + *width as usize,
                Item::Raw(bytes) => position += bytes.len(),
                Item::Mark(label) => {
                    if marked.insert(*label, position).is_some() {
                        return Err(AsmError::Label(format!("l{}", label.0)));
                    }
                }
            }
        }
        let mut code = Vec::with_capacity(position);
        for item in &self.items {
            match item {
                Item::Op(op) => code.push(*op),
                Item::Push(bytes) => {
                    code.push(opcode::PUSH0 + bytes.len() as u8);
                    code.extend_from_slice(bytes);
                }
                Item::PushLabel { label, width } => {
                    let position =
                        *marked.get(label).ok_or_else(|| AsmError::Label(format!("l{}", label.0)))?;
                    let bytes = U256::from(position).to_be_bytes::<32>();
                    let immediate = &bytes[32 - *width as usize..];
                    if U256::from_be_slice(immediate) != U256::from(position) {
                        return Err(AsmError::TooFar { position, width: *width });
                    }
                    code.push(opcode::PUSH0 + *width);
                    code.extend_from_slice(immediate);
                }
                Item::Mark(_) => {}
                Item::Raw(bytes) => code.extend_from_slice(bytes),
            }
        }
        Ok(code)
    }
}

/// Assembles a text.
pub fn assemble(text: &str) -> Result<Vec<u8>, AsmError> {
    Program::parse(text)?.assemble()
}

#[derive(Default)]
struct Parser {
    program: Program,
    names: HashMap<String, (Label, u32)>,
}

impl Parser {
    fn parse(mut self, text: &str) -> Result<Program, AsmError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.split([';', '#']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                match word.strip_suffix(':') {
                    Some(name) if is_name(name) => {
                        let label = self.named(name, 1);
                        self.program.mark(label);
                    }
                    _ => self.word(word, &mut words, index + 1)?,
                }
            }
        }
        for (name, (_, marks)) in &self.names {
            if *marks != 1 {
                return Err(AsmError::Label(name.clone()));
            }
        }
        Ok(self.program)
    }

    fn named(&mut self, name: &str, marks: u32) -> Label {
        let program = &mut self.program;
        let entry = self.names.entry(name.into()).or_insert_with(|| (program.label(), 0));
        entry.1 += marks;
        entry.0
    }

    fn word<'a>(
        &mut self,
        word: &str,
        words: &mut impl Iterator<Item = &'a str>,
        line: usize,
    ) -> Result<(), AsmError> {
        let mnemonic = word.to_ascii_uppercase();
        if mnemonic == "HEX" {
            let bytes = words.next().and_then(|text| hex::decode(text).ok()).ok_or(AsmError::Hex { line })?;
            self.program.raw(bytes);
            return Ok(());
        }
        let unknown = || AsmError::Unknown { line, text: word.into() };
        let Some(width) = mnemonic.strip_prefix("PUSH").filter(|width| *width != "0") else {
            let op = by_name(&mnemonic).ok_or_else(unknown)?;
            self.program.op(op);
            return Ok(());
        };
        let width: Option<u8> = if width.is_empty() {
            None
        } else {
            Some(width.parse().ok().filter(|width| (1..=32).contains(width)).ok_or_else(unknown)?)
        };
        let text = words.next().unwrap_or_default();
        if let Some(name) = text.strip_prefix('@') {
            let label = self.named(name, 0);
            self.program.items.push(Item::PushLabel { label, width: width.unwrap_or(2) });
            return Ok(());
        }
        let refuse = || AsmError::Immediate {
            line,
            text: text.into(),
            mnemonic: mnemonic.clone(),
            width: width.unwrap_or(32),
        };
        if text.is_empty() {
            return Err(refuse());
        }
        let value: U256 = text.parse().map_err(|_| refuse())?;
        match width {
            None => self.program.push(value),
            Some(width) => {
                let bytes = value.to_be_bytes::<32>();
                let immediate = &bytes[32 - width as usize..];
                if U256::from_be_slice(immediate) != value {
                    return Err(refuse());
                }
                self.program.items.push(Item::Push(immediate.to_vec()));
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn by_name(mnemonic: &str) -> Option<u8> {
    (0..=u8::MAX).find(|&op| OpCode::new(op).is_some_and(|known| known.as_str() == mnemonic))
}

/// An instruction as it lies in bytecode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction<'a> {
    /// Position in bytes.
    pub pc: usize,
    /// Its opcode.
    pub opcode: u8,
    /// Bytes of a push; fewer than it asks for where the code ends first.
    pub immediate: &'a [u8],
}

impl Instruction<'_> {
    /// Bytes in the code, opcode included.
    pub fn len(&self) -> usize {
        1 + self.immediate.len()
    }

    /// Never: an instruction has an opcode.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether the code ends inside the immediate.
    pub fn is_truncated(&self) -> bool {
        self.immediate.len() < push_width(self.opcode)
    }
}

fn push_width(op: u8) -> usize {
    if OpCode::is_push_by_op(op) { (op - opcode::PUSH0) as usize } else { 0 }
}

/// Walks the instructions from the first byte on, as execution without jumps would.
pub fn instructions(code: &[u8]) -> impl Iterator<Item = Instruction<'_>> {
    let mut pc = 0;
    std::iter::from_fn(move || {
        let opcode = *code.get(pc)?;
        let end = (pc + 1 + push_width(opcode)).min(code.len());
        let instruction = Instruction { pc, opcode, immediate: &code[pc + 1..end] };
        pc = end;
        Some(instruction)
    })
}

/// The text form of `code`, a line an instruction with its position as a comment. [`assemble`] gives the same bytes back.
pub fn listing(code: &[u8]) -> String {
    let mut text = String::new();
    for instruction in instructions(code) {
        let Instruction { pc, opcode, immediate } = instruction;
        let line = match OpCode::new(opcode) {
            Some(_) if instruction.is_truncated() => {
                format!("HEX {:02x}{}", opcode, hex::encode(immediate))
            }
            Some(known) if immediate.is_empty() => known.as_str().to_string(),
            Some(known) => format!("{} 0x{}", known.as_str(), hex::encode(immediate)),
            None => format!("HEX {opcode:02x}"),
        };
        let _ = writeln!(text, "{line:<40} ; {pc:#06x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_numbers_and_bytes_become_code() {
        let code = assemble("start: JUMPDEST ; here\nPUSH 0x1ff\nPUSH @end JUMPI\nPUSH4 @start # wide\nHEX fe0c\nend: JUMPDEST PUSH0")
            .unwrap();
        assert_eq!(hex::encode(code), "5b6101ff610010576300000000fe0c5b5f".replace("0010", "000f"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert_eq!(assemble("ADD\nNONSENSE").unwrap_err().to_string().split(':').next(), Some("line 2"));
        assert!(matches!(assemble("PUSH1 0x100"), Err(AsmError::Immediate { line: 1, width: 1, .. })));
        assert!(matches!(assemble("PUSH1"), Err(AsmError::Immediate { .. })));
        assert!(matches!(assemble("PUSH33 0"), Err(AsmError::Unknown { .. })));
        assert!(matches!(assemble("PUSH @nowhere"), Err(AsmError::Label(_))));
        assert!(matches!(assemble("a: a: STOP"), Err(AsmError::Label(_))));
        assert!(matches!(assemble("HEX 0"), Err(AsmError::Hex { line: 1 })));
        let far = format!("PUSH1 @end HEX {} end: STOP", "00".repeat(300));
        assert_eq!(assemble(&far), Err(AsmError::TooFar { position: 302, width: 1 }));
    }

    proptest! {
        #[test]
        fn a_listing_assembles_to_the_same_bytes(code in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(assemble(&listing(&code)).unwrap(), code);
        }

        #[test]
        fn no_text_panics(text in "[A-Z@: 0-9x\n;]{0,60}") {
            let _ = assemble(&text);
        }
    }
}

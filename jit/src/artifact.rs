//! What a compilation yields: position-independent machine code with its tables, as plain data that can be stored and
//! mapped later.

use revm::primitives::hardfork::SpecId;
use thiserror::Error;

/// Names a compiler: crate version, Cranelift version, CPU features, configuration and the layout of the context that
/// code is compiled against. Code of another fingerprint must not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// `Entry::offset` of a place that stays interpreted.
pub const NOT_COMPILED: u32 = u32::MAX;

/// A place where compiled code can be entered from outside its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Program counter in the bytecode.
    pub pc: u32,
    /// Start of the function to call, in bytes from the start of the text; [`NOT_COMPILED`] where there is none.
    pub offset: u32,
}

/// What a compilation cost and made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileStats {
    /// Processor time of the whole compilation, in microseconds.
    pub compile_us: u64,
    /// Of it, analysis and building CLIF.
    pub build_us: u64,
    /// CLIF instructions of all regions.
    pub clif_instructions: u32,
    /// Basic blocks of the bytecode that can be reached.
    pub blocks: u32,
    /// Of them, compiled.
    pub blocks_compiled: u32,
    /// Regions, compiled or not.
    pub regions: u32,
    /// Of them, compiled.
    pub regions_compiled: u32,
    /// Length of the bytecode.
    pub bytecode_bytes: u32,
    /// Length of the machine code.
    pub text_bytes: u32,
}

impl CompileStats {
    /// Compiled blocks as a share of all reachable blocks, 0 to 1.
    pub fn compiled_fraction(&self) -> f64 {
        if self.blocks == 0 { 1.0 } else { f64::from(self.blocks_compiled) / f64::from(self.blocks) }
    }
}

/// A compiled contract as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The compiler that made it.
    pub fingerprint: Fingerprint,
    /// The fork whose rules and gas it follows.
    pub spec: SpecId,
    /// Position-independent machine code: the trampoline first, then one function a region.
    pub text: Vec<u8>,
    /// Start of the stub inside the text that entries without code lead to: it leaves for the interpreter.
    pub stub: u32,
    /// Entries in order of their pc. Entry `i` has the number `i + 2` inside the code.
    pub entries: Vec<Entry>,
    /// Program counters of all JUMPDESTs, ascending.
    pub jumpdests: Vec<u32>,
    /// What it cost.
    pub stats: CompileStats,
}

/// Why bytes are no artifact.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArtifactError {
    /// Too short, or with bytes left over.
    #[error("compiled code has {0} bytes, which is not what its header asks for: recompile it")]
    Length(usize),
    /// Not an artifact, or of another layout.
    #[error("these bytes are not compiled code of this version: recompile it")]
    Magic,
    /// A table breaks its own rules.
    #[error("the {0} table of compiled code is damaged: recompile it")]
    Table(&'static str),
}

const MAGIC: [u8; 8] = *b"ILJITA01";

impl Artifact {
    /// Length of the bytecode it was made from.
    pub fn bytecode_len(&self) -> usize {
        self.stats.bytecode_bytes as usize
    }

    /// Bytes that it takes once loaded: text rounded up to pages, and its tables.
    pub fn loaded_bytes(&self) -> usize {
        self.text.len().next_multiple_of(4096) + 10 * self.entries.len() + 2 * self.bytecode_len()
    }

    /// As bytes, little-endian. Integrity is the storage's concern: add a checksum around them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(128 + self.text.len() + 8 * self.entries.len() + 4 * self.jumpdests.len());
        out.extend(MAGIC);
        out.extend(self.fingerprint.0);
        let stats = &self.stats;
        out.extend(stats.compile_us.to_le_bytes());
        out.extend(stats.build_us.to_le_bytes());
        for number in [
            self.spec as u32,
            self.stub,
            stats.clif_instructions,
            stats.blocks,
            stats.blocks_compiled,
            stats.regions,
            stats.regions_compiled,
            stats.bytecode_bytes,
            self.text.len() as u32,
            self.entries.len() as u32,
            self.jumpdests.len() as u32,
        ] {
            out.extend(number.to_le_bytes());
        }
        for entry in &self.entries {
            out.extend(entry.pc.to_le_bytes());
            out.extend(entry.offset.to_le_bytes());
        }
        for pc in &self.jumpdests {
            out.extend(pc.to_le_bytes());
        }
        out.extend(&self.text);
        out
    }

    /// Reads what [`Self::to_bytes`] wrote. Checks lengths and tables, so that the code stays within its own bounds; that
    /// the text is what the compiler wrote is for a checksum to say.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let mut reader = Reader { bytes, length: bytes.len() };
        if reader.take::<8>()? != MAGIC {
            return Err(ArtifactError::Magic);
        }
        let fingerprint = Fingerprint(reader.take()?);
        let compile_us = u64::from_le_bytes(reader.take()?);
        let build_us = u64::from_le_bytes(reader.take()?);
        let spec =
            u8::try_from(reader.number()?).ok().and_then(SpecId::try_from_u8).ok_or(ArtifactError::Magic)?;
        let stub = reader.number()?;
        let mut stats = CompileStats {
            compile_us,
            build_us,
            clif_instructions: reader.number()?,
            blocks: reader.number()?,
            blocks_compiled: reader.number()?,
            regions: reader.number()?,
            regions_compiled: reader.number()?,
            bytecode_bytes: reader.number()?,
            text_bytes: 0,
        };
        let (text_len, entry_count, jumpdest_count) =
            (reader.number()? as usize, reader.number()? as usize, reader.number()? as usize);
        stats.text_bytes = text_len as u32;
        let expected =
            (entry_count * 8).checked_add(jumpdest_count * 4).and_then(|n| n.checked_add(text_len));
        if expected != Some(reader.bytes.len()) {
            return Err(ArtifactError::Length(bytes.len()));
        }
        let mut entries = Vec::with_capacity(entry_count);
        for _ in 0..entry_count {
            entries.push(Entry { pc: reader.number()?, offset: reader.number()? });
        }
        let mut jumpdests = Vec::with_capacity(jumpdest_count);
        for _ in 0..jumpdest_count {
            jumpdests.push(reader.number()?);
        }
        let artifact =
            Self { fingerprint, spec, text: reader.bytes.to_vec(), stub, entries, jumpdests, stats };
        artifact.check()?;
        Ok(artifact)
    }

    /// Holds the tables against each other.
    pub(crate) fn check(&self) -> Result<(), ArtifactError> {
        let length = self.stats.bytecode_bytes;
        if self.stub as usize >= self.text.len() {
            return Err(ArtifactError::Table("stub"));
        }
        let in_text =
            |entry: &Entry| entry.offset == NOT_COMPILED || (entry.offset as usize) < self.text.len();
        // An entry may stand at the end of the code, where a call was the last instruction.
        if self.entries.len() > usize::from(u16::MAX) - 2
            || !self.entries.is_sorted_by(|a, b| a.pc < b.pc)
            || !self.entries.iter().all(|entry| entry.pc <= length && in_text(entry))
        {
            return Err(ArtifactError::Table("entry"));
        }
        if !self.jumpdests.is_sorted_by(|a, b| a < b) || self.jumpdests.iter().any(|pc| *pc >= length) {
            return Err(ArtifactError::Table("JUMPDEST"));
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ArtifactError> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(ArtifactError::Length(self.length))?;
        self.bytes = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u32, ArtifactError> {
        Ok(u32::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Artifact {
        Artifact {
            fingerprint: Fingerprint([7; 32]),
            spec: SpecId::CANCUN,
            text: vec![0xc3; 100],
            stub: 8,
            entries: vec![Entry { pc: 0, offset: 16 }, Entry { pc: 9, offset: NOT_COMPILED }],
            jumpdests: vec![3, 9],
            stats: CompileStats { bytecode_bytes: 10, text_bytes: 100, blocks: 3, ..Default::default() },
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let artifact = sample();
        assert_eq!(Artifact::from_bytes(&artifact.to_bytes()), Ok(artifact));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let good = sample().to_bytes();
        for length in 0..good.len() {
            assert!(Artifact::from_bytes(&good[..length]).is_err(), "{length} bytes");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(Artifact::from_bytes(&longer), Err(ArtifactError::Length(longer.len())));
        let mut other = good.clone();
        other[0] ^= 1;
        assert_eq!(Artifact::from_bytes(&other), Err(ArtifactError::Magic));
        let mut outside = sample();
        outside.entries[0].offset = 100;
        assert_eq!(Artifact::from_bytes(&outside.to_bytes()), Err(ArtifactError::Table("entry")));
        let mut unordered = sample();
        unordered.jumpdests = vec![9, 3];
        assert_eq!(Artifact::from_bytes(&unordered.to_bytes()), Err(ArtifactError::Table("JUMPDEST")));
    }
}

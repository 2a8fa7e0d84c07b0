#![allow(unsafe_code)]
//! Compiled code that can run: an artifact's text in code memory, and its tables in the form that the code reads.

use crate::{
    artifact::{Artifact, ArtifactError, CompileStats, Fingerprint, NOT_COMPILED},
    context::{JitContext, TrampolineFn},
    memory::{CodeMemory, CodeMemoryError},
};
use revm::primitives::hardfork::SpecId;
use std::sync::Arc;
use thiserror::Error;

/// Why an artifact could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] CodeMemoryError),
    /// Its tables are damaged.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Made for another processor architecture.
    #[error("compiled code of another architecture cannot run here: recompile it")]
    Architecture,
}

/// A contract's machine code, ready to run. Shared by `Arc`; the memory is freed with the last one.
#[derive(Debug)]
pub struct CompiledCode {
    memory: CodeMemory,
    /// By pc: see [`JitContext::jump_table`].
    jump_table: Vec<u16>,
    /// By entry number; null for the two unused numbers and for what is not compiled.
    functions: Vec<*const u8>,
    /// Ascending; entry `i` has the number `i + 2`.
    entry_pcs: Vec<u32>,
    spec: SpecId,
    fingerprint: Fingerprint,
    stats: CompileStats,
}

// SAFETY: the raw pointers point into `memory`, which is immutable and lives as long as this does.
unsafe impl Send for CompiledCode {}
// SAFETY: as above.
unsafe impl Sync for CompiledCode {}

impl CompiledCode {
    /// Puts an artifact into code memory. The caller vouches that a compiler of this process's fingerprint made its text
    /// (compare [`Artifact::fingerprint`], check the storage's checksum): machine code cannot be checked further.
    pub fn load(artifact: &Artifact) -> Result<Arc<Self>, LoadError> {
        artifact.check()?;
        let memory = CodeMemory::new(&artifact.text)?;
        let mut jump_table = vec![0u16; artifact.bytecode_len()];
        for pc in &artifact.jumpdests {
            jump_table[*pc as usize] = 1;
        }
        let mut functions = vec![std::ptr::null(); 2];
        for (index, entry) in artifact.entries.iter().enumerate() {
            if entry.offset == NOT_COMPILED {
                functions.push(std::ptr::null());
                continue;
            }
            // SAFETY: `check` has found the offset inside the text.
            functions.push(unsafe { memory.text().add(entry.offset as usize) });
            if let Some(slot) = jump_table.get_mut(entry.pc as usize)
                && *slot == 1
            {
                *slot = index as u16 + 2;
            }
        }
        // Code jumps to any entry that it has a number for: the compiler's stub leaves for the interpreter.
        let stub = memory.text().wrapping_add(artifact.stub as usize);
        for function in &mut functions {
            if function.is_null() {
                *function = stub;
            }
        }
        Ok(Arc::new(Self {
            memory,
            jump_table,
            functions,
            entry_pcs: artifact.entries.iter().map(|entry| entry.pc).collect(),
            spec: artifact.spec,
            fingerprint: artifact.fingerprint,
            stats: artifact.stats,
        }))
    }

    /// The fork it was compiled for.
    pub fn spec(&self) -> SpecId {
        self.spec
    }

    /// The compiler that made it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What its compilation cost.
    pub fn stats(&self) -> &CompileStats {
        &self.stats
    }

    /// Length of the bytecode it stands for.
    pub fn bytecode_len(&self) -> usize {
        self.jump_table.len()
    }

    /// Memory it takes, guard pages and tables included, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory.mapped_bytes()
            + 2 * self.jump_table.len()
            + size_of::<*const u8>() * self.functions.len()
            + 4 * self.entry_pcs.len()
    }

    /// The number of the compiled entry at `pc`.
    pub(crate) fn entry_at(&self, pc: usize) -> Option<usize> {
        // The first entry is the code's start, where most frames are entered.
        let index = match pc {
            0 => 0,
            _ => self.entry_pcs.binary_search(&u32::try_from(pc).ok()?).ok()?,
        };
        let number = index + 2;
        (*self.functions.get(number)? != self.stub()).then_some(number)
    }

    /// The number of the compiled entry at a JUMPDEST.
    pub(crate) fn entry_at_jumpdest(&self, pc: usize) -> Option<usize> {
        let number = usize::from(*self.jump_table.get(pc)?);
        (number >= 2 && self.functions[number] != self.stub()).then_some(number)
    }

    /// The pc of an entry's number.
    pub(crate) fn entry_pc(&self, number: u64) -> usize {
        self.entry_pcs[number as usize - 2] as usize
    }

    fn stub(&self) -> *const u8 {
        self.functions[0]
    }

    /// Points a context at this code's tables.
    pub(crate) fn tables(&self, context: &mut JitContext) {
        context.jump_table = self.jump_table.as_ptr();
        context.code_len = self.jump_table.len() as u64;
        context.entry_functions = self.functions.as_ptr();
    }

    /// Runs from an entry until the code leaves.
    ///
    /// # Safety
    ///
    /// `context` is filled as [`JitContext`] says, its tables are this code's, its stack has room for 1,024 words and
    /// holds as many as `sp` says.
    pub(crate) unsafe fn enter(&self, context: &mut JitContext, number: usize) -> u64 {
        let (sp, gas, function) = (context.sp, context.gas, self.functions[number]);
        // SAFETY: the text begins with a trampoline of this type (see `Artifact::text`).
        let trampoline = unsafe { std::mem::transmute::<*const u8, TrampolineFn>(self.memory.text()) };
        // SAFETY: the caller's promise, and `function` is one of this text's functions.
        unsafe { trampoline(context, sp, gas, number as u64, function) }
    }
}

//! What can go wrong with a trie: there is no room for it, or a file is not one.

use alloy_primitives::B256;
use std::io;

/// Why a trie could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum TrieError {
    /// Address space for the arenas was refused.
    #[error(
        "cannot reserve {bytes} bytes of address space for the trie's {what}: {source}; lower the trie's limits, or raise RLIMIT_AS and vm.overcommit_memory"
    )]
    Reserve {
        /// Which arena.
        what: &'static str,
        /// How much was asked for.
        bytes: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file does not begin as a trie file does.
    #[error("this is not a trie file: it begins with {found:02x?}; give the `trie` file of a snapshot")]
    NotATrieFile {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// Written by a newer program.
    #[error(
        "the trie file has format version {found}, this program reads up to {supported}; run the program that wrote it, or a newer one"
    )]
    NewerVersion {
        /// The file's.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The lengths in the header do not add up to the file's length.
    #[error(
        "the trie file is {found} bytes long where its header asks for {expected}; it was cut or overwritten, use another snapshot"
    )]
    WrongLength {
        /// What the header's lengths add up to.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// It holds more than this trie is configured for.
    #[error(
        "the trie file holds {found} bytes of {what}, the configuration allows {allowed}; raise the trie's limits"
    )]
    TooLarge {
        /// Which arena.
        what: &'static str,
        /// Bytes in the file.
        found: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// A record contradicts the others.
    #[error("the trie file is damaged: {what} at {place}; use another snapshot")]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Where: the index of the node (in 8-byte words), leaf or record.
        place: u64,
    },
    /// The records are well formed, yet they hash to another root than the header says.
    #[error("the trie file claims the root {stored}, its nodes hash to {computed}; use another snapshot")]
    WrongRoot {
        /// What the header says.
        stored: B256,
        /// What the nodes give.
        computed: B256,
    },
}

//! The Merkle-Patricia trie, kept in memory and updated by difference.

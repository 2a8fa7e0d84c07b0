//! Conformance: the public test corpora, driven through the node's own executor, state store and trie.

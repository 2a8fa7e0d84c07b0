//! Mini-block digests, the sequencer's signature and Merkle paths.

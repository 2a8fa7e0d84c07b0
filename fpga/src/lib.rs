//! Offload engines: sender recovery and Keccak-256 behind one trait.

//! The append-only journal: what was acknowledged is here.

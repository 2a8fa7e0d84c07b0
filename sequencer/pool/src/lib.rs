//! Admission: decode, authenticate, check, queue.

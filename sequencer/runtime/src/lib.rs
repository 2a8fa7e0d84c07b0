//! Stages, rings, topology and pinned lanes.

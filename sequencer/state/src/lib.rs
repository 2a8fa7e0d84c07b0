//! State in mapped memory: accounts, slots, code, versions and snapshots.

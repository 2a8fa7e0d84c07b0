//! Sizes of the store.

/// Sizes of the store. The maxima only reserve address space; memory is taken as it is written.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// Accounts to make room for at the start (the index is sized for them; it grows beyond).
    pub accounts: usize,
    /// Storage slots to make room for at the start.
    pub slots: usize,
    /// Most accounts ever (address space is reserved for them).
    pub max_accounts: usize,
    /// Most storage slots ever.
    pub max_slots: usize,
    /// Bytes of history kept for readers at older versions.
    pub undo_bytes: usize,
    /// Bytes of history at most while a view is pinned, or while one unsealed version is large. Beyond this the oldest
    /// versions expire even when pinned.
    pub undo_bytes_max: usize,
    /// Ask the kernel for transparent huge pages.
    pub huge_pages: bool,
    /// The version that the first seal of an empty store publishes.
    pub first_version: u64,
    /// Use a snapshot's files in place (private mapping) instead of copying them into memory.
    pub snapshot_in_place: bool,
    /// Build the index anew under a fresh key when a snapshot is opened, instead of trusting the one in it. For
    /// snapshots that came from somebody else.
    pub rebuild_index: bool,
    /// Key of the table's hash; `None` draws a random one, which keeps strangers from choosing colliding addresses.
    pub hash_key: Option<[u64; 4]>,
}

impl Default for StateConfig {
    fn default() -> Self {
        StateConfig {
            accounts: 1 << 14,
            slots: 1 << 14,
            max_accounts: 1 << 30,
            max_slots: 1 << 30,
            undo_bytes: 256 << 20,
            undo_bytes_max: 2 << 30,
            huge_pages: true,
            first_version: 0,
            snapshot_in_place: true,
            rebuild_index: false,
            hash_key: None,
        }
    }
}

//! Opening a snapshot whose bytes are arbitrary: first its manifest, then, with lengths and checksums made right, the
//! contents of one of the state's files. Opening must end in an error or in a store that can be read through.
//!
//! Input: byte 0 chooses what is changed (0: the manifest is the input itself; else one of the files), byte 1 whether the
//! file is replaced by the rest or patched by it (triples of 16-bit position and value).

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use ironlane_state::{ChainIdentity, SnapshotDir, StateConfig, open_empty, open_snapshot};
use ironlane_types::{AccountDelta, AccountInfo, KECCAK_EMPTY, StateDelta};
use std::{fs, sync::OnceLock};

const CHAIN: ChainIdentity = ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO };

fn config(choice: u8) -> StateConfig {
    StateConfig {
        accounts: 0,
        slots: 0,
        max_accounts: 1 << 16,
        max_slots: 1 << 16,
        undo_bytes: 1 << 20,
        undo_bytes_max: 2 << 20,
        snapshot_in_place: choice & 1 == 0,
        rebuild_index: choice & 2 == 0,
        hash_key: Some([1, 2, 3, 4]),
        ..StateConfig::default()
    }
}

/// The files of a good snapshot of a small state with everything in it.
fn good() -> &'static Vec<(String, Vec<u8>)> {
    static GOOD: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let temp = tempfile::tempdir().expect("temporary folder");
        let dir = SnapshotDir::open(temp.path(), CHAIN).expect("folder");
        let (state, mut writer) = open_empty(config(0)).expect("open");
        let code = Bytes::from_static(&[0x60, 0x00]);
        let hash = keccak256(&code);
        let accounts = (0..40u8).map(|n| {
            let balance = if n % 5 == 0 { U256::MAX - U256::from(n) } else { U256::from(n) };
            let code_hash = if n % 3 == 0 { hash } else { KECCAK_EMPTY };
            let slots = (0..n % 4).map(|k| (U256::from(k), U256::from(n))).collect();
            let info = Some(AccountInfo { nonce: n.into(), balance, code_hash });
            AccountDelta { address: Address::repeat_byte(n), info, storage_wiped: false, slots }
        });
        writer.apply(&StateDelta { accounts: accounts.collect(), codes: vec![(hash, code)] }).expect("apply");
        writer.seal();
        let mut snapshot = dir.create(1).expect("create");
        state.view().pin().expect("newest").write_snapshot(&mut snapshot).expect("write");
        let folder = snapshot.finish(b"").expect("finish");
        let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
            .expect("list")
            .map(|e| e.expect("entry").path())
            .map(|p| {
                (p.file_name().expect("name").to_string_lossy().into_owned(), fs::read(&p).expect("read"))
            })
            .filter(|(name, _)| name != "manifest")
            .collect();
        files.sort();
        files
    })
}

pub(crate) fn check(data: &[u8]) {
    let [choice, mode, rest @ ..] = data else { return };
    let temp = tempfile::tempdir().expect("temporary folder");
    let dir = SnapshotDir::open(temp.path(), CHAIN).expect("folder");
    let mut snapshot = dir.create(1).expect("create");
    let target = usize::from(*choice).checked_sub(1).map(|c| c % good().len());
    for (i, (name, bytes)) in good().iter().enumerate() {
        let mut bytes = bytes.clone();
        if target == Some(i) {
            if mode & 4 == 0 {
                bytes = rest.to_vec();
            } else {
                for patch in rest.chunks_exact(3) {
                    let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
                    bytes[at] = patch[2];
                }
            }
        }
        snapshot.add_file(name, |out| out.write_all(&bytes)).expect("write");
    }
    let folder = snapshot.finish(b"").expect("finish");
    if target.is_none() {
        fs::write(folder.join("manifest"), rest).expect("write");
    }
    let Ok(Some(reader)) = dir.open_newest() else { return };
    let Ok((state, mut writer)) = open_snapshot(config(*mode), &reader) else { return };
    let view = state.view();
    for (address, info) in view.accounts().flatten() {
        let _ = view.code(&info.code_hash);
        let _ = view.account(&address);
        let _ = view.storage(&address, U256::ONE);
    }
    let _ = view.slots().count();
    let info = Some(AccountInfo { nonce: 1, balance: U256::MAX, code_hash: KECCAK_EMPTY });
    let delta = |n| AccountDelta {
        address: Address::repeat_byte(n),
        info,
        storage_wiped: n % 2 == 0,
        slots: vec![(U256::from(n), U256::ONE)],
    };
    let _ = writer.apply(&StateDelta { accounts: (0..80).map(delta).collect(), codes: vec![] });
    writer.seal();
}

//! The manifest of a snapshot: what it is of, and which files belong to it. `docs/formats.md` has it to the byte.

use super::ChainIdentity;
use alloy_primitives::B256;

/// First bytes of a manifest.
const MAGIC: &[u8; 8] = b"IRLNSNAP";
/// The format that this program writes and reads. It covers the manifest and every file of the state.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Magic, version, length, checksum. This part keeps its shape in every version.
const HEADER_BYTES: usize = 8 + 4 + 4 + 32;
/// Most bytes of the caller's metadata.
pub(crate) const METADATA_BYTES_MAX: usize = 1 << 20;
/// Most files.
pub(crate) const FILES_MAX: usize = 64;
/// Longest file name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Most bytes of a manifest.
pub(crate) const MANIFEST_BYTES_MAX: u64 =
    (METADATA_BYTES_MAX + FILES_MAX * (NAME_BYTES_MAX + 41) + 1024) as u64;

/// A file of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) len: u64,
    /// BLAKE3.
    pub(crate) checksum: [u8; 32],
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) height: u64,
    pub(crate) identity: ChainIdentity,
    pub(crate) metadata: Vec<u8>,
    pub(crate) files: Vec<FileEntry>,
}

/// Why bytes are no manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// Intact, of another format.
    Format(u32),
    Damaged(&'static str),
}

/// Whether a file may have this name: lower case letters, digits, `-` and `.`, not beginning with a dot.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

fn checksum(head: &[u8], body: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(body).finalize().as_bytes()
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.metadata.len() + 64 + self.files.len() * 96);
        body.extend_from_slice(&self.height.to_le_bytes());
        body.extend_from_slice(&self.identity.chain_id.to_le_bytes());
        body.extend_from_slice(self.identity.genesis_hash.as_slice());
        body.extend_from_slice(&(self.metadata.len() as u32).to_le_bytes());
        body.extend_from_slice(&self.metadata);
        body.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            body.push(file.name.len() as u8);
            body.extend_from_slice(file.name.as_bytes());
            body.extend_from_slice(&file.len.to_le_bytes());
            body.extend_from_slice(&file.checksum);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&SNAPSHOT_FORMAT.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        let sum = checksum(&out, &body);
        out.extend_from_slice(&sum);
        out.extend_from_slice(&body);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let damaged = ManifestError::Damaged;
        let (header, body) =
            bytes.split_at_checked(HEADER_BYTES).ok_or(damaged("the manifest is cut short"))?;
        let (head, sum) = header.split_at(16);
        let mut head_reader = Reader(head);
        if head_reader.take(8) != Some(MAGIC) {
            return Err(damaged("the manifest does not begin as one"));
        }
        let (version, len) = (head_reader.u32().unwrap_or(0), head_reader.u32().unwrap_or(0));
        if len as usize != body.len() {
            return Err(damaged("the manifest has another length than it says"));
        }
        // The checksum comes before the version, so that a flipped bit does not pass for a newer format.
        if checksum(head, body) != sum {
            return Err(damaged("the manifest's checksum does not match"));
        }
        if version != SNAPSHOT_FORMAT {
            return Err(ManifestError::Format(version));
        }
        Self::decode_body(body).ok_or(damaged("the manifest's fields are not as the format says"))
    }

    fn decode_body(body: &[u8]) -> Option<Manifest> {
        let mut r = Reader(body);
        let height = r.u64()?;
        let identity = ChainIdentity { chain_id: r.u64()?, genesis_hash: B256::from_slice(r.take(32)?) };
        let metadata_len = r.u32()? as usize;
        let metadata = r.take(metadata_len).filter(|m| m.len() <= METADATA_BYTES_MAX)?.to_vec();
        let count = r.u32()? as usize;
        if count > FILES_MAX {
            return None;
        }
        let mut files: Vec<FileEntry> = Vec::with_capacity(count);
        for _ in 0..count {
            let name_len = usize::from(*r.take(1)?.first()?);
            let name = std::str::from_utf8(r.take(name_len)?).ok().filter(|name| is_name(name))?.to_owned();
            if files.iter().any(|f| f.name == name) {
                return None;
            }
            files.push(FileEntry { name, len: r.u64()?, checksum: r.take(32)?.try_into().ok()? });
        }
        r.0.is_empty().then_some(Manifest { height, identity, metadata, files })
    }
}

/// Takes little-endian fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        Manifest {
            height: 77,
            identity: ChainIdentity { chain_id: 31337, genesis_hash: B256::repeat_byte(3) },
            metadata: b"head".to_vec(),
            files: vec![
                FileEntry { name: "state-head.rkyv".into(), len: 5, checksum: [1; 32] },
                FileEntry { name: "trie".into(), len: 0, checksum: [2; 32] },
            ],
        }
    }

    #[test]
    fn comes_back() {
        assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let good = sample().encode();
        for i in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(matches!(Manifest::decode(&bad), Err(ManifestError::Damaged(_))), "bit {i}");
        }
        for len in 0..good.len() {
            assert!(matches!(Manifest::decode(&good[..len]), Err(ManifestError::Damaged(_))), "length {len}");
        }
    }

    #[test]
    fn an_intact_newer_version_is_named() {
        let mut newer = sample().encode();
        newer[8..12].copy_from_slice(&9u32.to_le_bytes());
        let sum = checksum(&newer[..16], &newer[HEADER_BYTES..]);
        newer[16..48].copy_from_slice(&sum);
        assert_eq!(Manifest::decode(&newer), Err(ManifestError::Format(9)));
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        for bad in ["", "..", ".hidden", "a/b", "A", "a b", "ü"] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_name("state-accounts.rkyv"));
    }
}

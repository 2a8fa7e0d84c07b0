//! Which chain a data directory holds, and its rules, without reading a large genesis at every start.
//!
//! A genesis file may list a million accounts, which a node with a snapshot never needs again. The first start therefore
//! keeps beside `genesis.json` its outline (`chain.json`: the rules, the state root, the checksum of the file that they
//! came from). Later starts compare the checksum of the file's bytes and take the outline; accounts are read only when no
//! snapshot can be used. The outline is a cache: one that cannot be read is made anew from the genesis.

use crate::node::datadir::{DataDir, write_durably};
use anyhow::{Context, bail, ensure};
use ironlane_executor::{ChainSpec, GenesisOutline};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// First bytes of `chain.json`, and the version of its format.
const OUTLINE_MAGIC: &str = "ironlane-chain 1 ";

/// A chain whose accounts may still lie in its genesis file.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The rules and block zero. [`ironlane_executor::Genesis::alloc`] may be empty: whoever needs the accounts asks
    /// [`Self::with_accounts`].
    pub spec: Arc<ChainSpec>,
    accounts: Accounts,
}

#[derive(Debug, Clone)]
enum Accounts {
    /// The chain with them.
    Read(Arc<ChainSpec>),
    /// The genesis file, and the checksum that it must have.
    Unread(PathBuf, String),
}

/// What `chain.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    /// BLAKE3 of the genesis file that the outline was made of.
    genesis_blake3: String,
    outline: GenesisOutline,
}

impl Chain {
    /// The chain that `genesis` names, or without it the one that the directory remembers: its genesis, or the development
    /// chain. The first genesis is remembered; another one later is refused.
    pub fn open(dir: &DataDir, genesis: Option<&Path>) -> anyhow::Result<Self> {
        let own = dir.genesis();
        let remembered = remembered(dir);
        let path = genesis.unwrap_or(&own);
        let checksum = match checksum(path) {
            Ok(checksum) => checksum,
            Err(error) if genesis.is_none() && error.kind() == ErrorKind::NotFound => match remembered {
                None => return Ok(Self::whole(ChainSpec::dev())),
                Some(_) => bail!(
                    "{} was made with a genesis, and its copy {} is gone: give --genesis again",
                    dir.path().display(),
                    own.display()
                ),
            },
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the genesis file {} cannot be read", path.display()));
            }
        };
        match remembered {
            Some(remembered) if remembered.genesis_blake3 == checksum => {
                if genesis.is_some() && !own.exists() {
                    dir.remember_genesis(&read(path)?)?;
                }
                let spec = remembered.outline.chain_spec().context("chain.json in the data directory")?;
                Ok(Self { spec: Arc::new(spec), accounts: Accounts::Unread(own, checksum) })
            }
            Some(_) if genesis.is_none() => bail!(
                "{} was changed since {} was made with it: a chain's genesis cannot change, so restore the file, or use \
                 another --datadir for the new one",
                own.display(),
                dir.path().display()
            ),
            Some(_) => bail!(
                "{} was made with another genesis: use another --datadir, or the genesis in {}",
                dir.path().display(),
                own.display()
            ),
            None => Self::first(dir, path, genesis.is_some()),
        }
    }

    /// The chain that a stopped node's directory remembers.
    pub fn known(dir: &DataDir) -> anyhow::Result<Self> {
        Self::open(dir, None)
    }

    /// Reads a whole genesis file, which no directory needs to know.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let spec = ChainSpec::from_genesis_json(&read(path)?)
            .with_context(|| format!("{} is not a usable genesis", path.display()))?;
        Ok(Self::whole(spec))
    }

    fn whole(spec: ChainSpec) -> Self {
        let spec = Arc::new(spec);
        Self { accounts: Accounts::Read(spec.clone()), spec }
    }

    /// Reads the file as a whole, and remembers what it says.
    fn first(dir: &DataDir, path: &Path, foreign: bool) -> anyhow::Result<Self> {
        let json = read(path)?;
        let (spec, outline) = GenesisOutline::of(&json)
            .with_context(|| format!("{} is not a usable genesis", path.display()))?;
        if foreign {
            dir.remember_genesis(&json)?;
        }
        let remembered = Remembered { genesis_blake3: blake3::hash(&json).to_hex().to_string(), outline };
        let body = serde_json::to_string(&remembered)?;
        let text = format!("{OUTLINE_MAGIC}{}\n{body}", blake3::hash(body.as_bytes()).to_hex());
        write_durably(&dir.outline(), text.as_bytes())?;
        // The accounts are for recovery alone; what runs does not hold them.
        let running = remembered.outline.chain_spec()?;
        Ok(Self { spec: Arc::new(running), accounts: Accounts::Read(Arc::new(spec)) })
    }

    /// The chain with the accounts of its genesis, which are read now if they were not.
    pub fn with_accounts(&self) -> anyhow::Result<Arc<ChainSpec>> {
        let (path, expected) = match &self.accounts {
            Accounts::Read(spec) => return Ok(spec.clone()),
            Accounts::Unread(path, expected) => (path, expected),
        };
        let json = read(path)?;
        ensure!(
            *expected == *blake3::hash(&json).to_hex(),
            "{} is damaged: it no longer has the checksum {expected} that it had at the first start; restore it",
            path.display()
        );
        let spec = ChainSpec::from_genesis_json(&json)
            .with_context(|| format!("{} is not a usable genesis", path.display()))?;
        Ok(Arc::new(spec))
    }

    /// Whether the accounts of the genesis were read.
    pub fn has_accounts(&self) -> bool {
        matches!(self.accounts, Accounts::Read(_))
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("the genesis file {} cannot be read", path.display()))
}

/// BLAKE3 of a file, in hexadecimal.
fn checksum(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The outline, if it is there and whole.
fn remembered(dir: &DataDir) -> Option<Remembered> {
    let path = dir.outline();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "{} cannot be read: it is made anew from the genesis", path.display());
            return None;
        }
    };
    let whole = || -> Option<Remembered> {
        let (checksum, body) = text.strip_prefix(OUTLINE_MAGIC)?.split_once('\n')?;
        (*blake3::hash(body.as_bytes()).to_hex() == *checksum).then(|| serde_json::from_str(body).ok())?
    };
    let found = whole();
    if found.is_none() {
        tracing::warn!("{} is damaged: it is made anew from the genesis", path.display());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: &str = r#"{"config":{"chainId":777,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,
        "eip158Block":0,"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,
        "berlinBlock":0,"londonBlock":0,"mergeNetsplitBlock":0,"terminalTotalDifficulty":0,"shanghaiTime":0,
        "cancunTime":0,"blobSchedule":{"cancun":{"target":2,"max":4,"baseFeeUpdateFraction":3338477}}},
        "difficulty":"0x0","gasLimit":"0x1c9c380","alloc":{
        "0000000000000000000000000000000000000001":{"balance":"0x10"},
        "0000000000000000000000000000000000000002":{"balance":"0x0","storage":{"0x01":"0x02"}}}}"#;

    fn opened() -> (tempfile::TempDir, DataDir, std::path::PathBuf) {
        let base = tempfile::tempdir().expect("tempdir");
        let given = base.path().join("given.json");
        std::fs::write(&given, GENESIS).expect("writes");
        let dir = DataDir::open(&base.path().join("data")).expect("opens");
        (base, dir, given)
    }

    #[test]
    fn a_later_start_takes_the_outline_and_has_the_same_rules() {
        let (_base, dir, given) = opened();
        let first = Chain::open(&dir, Some(&given)).expect("first");
        assert!(first.has_accounts());
        for again in [Chain::open(&dir, Some(&given)), Chain::open(&dir, None)] {
            let again = again.expect("opens");
            assert!(!again.has_accounts(), "the outline was not used");
            let (a, b) = (&first.spec, &again.spec);
            assert_eq!((a.chain_id, &a.forks, &a.storage_only), (b.chain_id, &b.forks, &b.storage_only));
            assert_eq!((&a.genesis.header, a.genesis.hash), (&b.genesis.header, b.genesis.hash));
            assert!(b.genesis.alloc.accounts.is_empty());
            let whole = again.with_accounts().expect("reads");
            assert_eq!(whole.genesis.alloc.accounts.len(), 2);
        }
    }

    #[test]
    fn a_changed_genesis_is_noticed_and_refused() {
        let (_base, dir, given) = opened();
        Chain::open(&dir, Some(&given)).expect("first");
        // Even a change that leaves the genesis block as it was: the time of a fork.
        let changed = GENESIS.replace("\"shanghaiTime\":0", "\"shanghaiTime\":0,\"pragueTime\":9");
        std::fs::write(&given, &changed).expect("writes");
        let refused = Chain::open(&dir, Some(&given)).expect_err("another genesis").to_string();
        assert!(refused.contains("another genesis"), "{refused}");
        std::fs::write(dir.genesis(), &changed).expect("writes");
        let refused = Chain::open(&dir, None).expect_err("changed").to_string();
        assert!(refused.contains("was changed since"), "{refused}");
        std::fs::remove_file(dir.genesis()).expect("removes");
        let refused = Chain::open(&dir, None).expect_err("gone").to_string();
        assert!(refused.contains("give --genesis again"), "{refused}");
        std::fs::write(&given, GENESIS).expect("writes");
        assert!(!Chain::open(&dir, Some(&given)).expect("again").has_accounts());
        assert_eq!(std::fs::read_to_string(dir.genesis()).expect("restored"), GENESIS);
    }

    #[test]
    fn a_damaged_or_missing_outline_is_made_anew() {
        let (_base, dir, given) = opened();
        Chain::open(&dir, Some(&given)).expect("first");
        let whole = std::fs::read_to_string(dir.outline()).expect("outline");
        let lied = whole.replace("\"chainId\":777", "\"chainId\":778");
        assert_ne!(whole, lied);
        for damage in [Some(lied.as_str()), Some(&whole[..whole.len() / 2]), Some(""), None] {
            match damage {
                Some(text) => std::fs::write(dir.outline(), text).expect("writes"),
                None => std::fs::remove_file(dir.outline()).expect("removes"),
            }
            let again = Chain::open(&dir, None).expect("opens");
            assert!(again.has_accounts() && again.spec.chain_id == 777);
            assert_eq!(std::fs::read_to_string(dir.outline()).expect("outline"), whole);
        }
    }

    #[test]
    fn accounts_of_a_damaged_genesis_are_not_taken() {
        let (_base, dir, given) = opened();
        Chain::open(&dir, Some(&given)).expect("first");
        let chain = Chain::open(&dir, Some(&given)).expect("outline");
        std::fs::write(dir.genesis(), GENESIS.replace("0x10", "0x11")).expect("writes");
        let refused = chain.with_accounts().expect_err("damaged").to_string();
        assert!(refused.contains("is damaged"), "{refused}");
    }
}

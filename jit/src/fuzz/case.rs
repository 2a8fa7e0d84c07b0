//! A case: a few accounts, one transaction, one fork; and its text form, which holds everything needed to run it again.

use alloy_primitives::{Address, B256, Bytes, U256, address, hex};
use revm::primitives::hardfork::SpecId;
use std::fmt::Write as _;

/// Who sends when no other is named.
pub const SENDER: Address = address!("a94f5374fce5edbc8e2a8697c15331677e6ebf0b");

/// One account of the pre-state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseAccount {
    /// Where.
    pub address: Address,
    /// In wei.
    pub balance: U256,
    /// Transactions or creations so far.
    pub nonce: u64,
    /// Runtime code, or an EIP-7702 designator.
    pub code: Bytes,
    /// Slots that are not zero.
    pub storage: Vec<(U256, U256)>,
}

/// What is executed in full: pre-state, transaction, rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Rules.
    pub spec: SpecId,
    /// Pre-state. A sender that is not in it has ether and no code.
    pub accounts: Vec<CaseAccount>,
    /// Who sends.
    pub sender: Address,
    /// Whom the transaction calls; it creates a contract when none.
    pub to: Option<Address>,
    /// Wei that go along.
    pub value: U256,
    /// Call data or initcode.
    pub data: Bytes,
    /// Gas limit of the transaction.
    pub gas_limit: u64,
    /// Versioned hashes; a blob transaction when there are any.
    pub blob_hashes: Vec<B256>,
    /// Number of the block.
    pub number: u64,
    /// Seconds since 1970 of the block.
    pub timestamp: u64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            spec: SpecId::OSAKA,
            accounts: Vec::new(),
            sender: SENDER,
            to: None,
            value: U256::ZERO,
            data: Bytes::new(),
            gas_limit: 0,
            blob_hashes: Vec::new(),
            number: 1_000,
            timestamp: 1_760_000_000,
        }
    }
}

/// Why a reproducer cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CaseError {
    /// A line that says nothing known or whose value cannot be read.
    #[error("line {line}: `{text}`: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// Something without which no case runs.
    #[error("the file says no `{0}`: a reproducer needs one such line")]
    Missing(&'static str),
}

/// The name of a fork as files and the command line write it.
pub fn spec_name(spec: SpecId) -> String {
    format!("{spec:?}").to_ascii_lowercase()
}

/// The fork of that name, from `frontier` to `osaka`.
pub fn parse_spec(name: &str) -> Option<SpecId> {
    SPECS.iter().copied().find(|&spec| spec_name(spec) == name.to_ascii_lowercase().replace('-', "_"))
}

/// Every fork with its own rules, up to the newest stable one.
pub const SPECS: [SpecId; 14] = [
    SpecId::FRONTIER,
    SpecId::HOMESTEAD,
    SpecId::TANGERINE,
    SpecId::SPURIOUS_DRAGON,
    SpecId::BYZANTIUM,
    SpecId::PETERSBURG,
    SpecId::ISTANBUL,
    SpecId::BERLIN,
    SpecId::LONDON,
    SpecId::MERGE,
    SpecId::SHANGHAI,
    SpecId::CANCUN,
    SpecId::PRAGUE,
    SpecId::OSAKA,
];

impl Case {
    /// The account at `address`.
    pub fn account(&self, address: Address) -> Option<&CaseAccount> {
        self.accounts.iter().find(|account| account.address == address)
    }

    /// The text form, code with its listing as comments.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "spec {}", spec_name(self.spec));
        match self.to {
            Some(to) => writeln!(text, "to {to:#x}"),
            None => writeln!(text, "create"),
        }
        .ok();
        let _ = writeln!(text, "gas {}\nvalue {:#x}\ndata {}", self.gas_limit, self.value, self.data);
        let _ = writeln!(text, "sender {:#x}\nblock {} {}", self.sender, self.number, self.timestamp);
        for hash in &self.blob_hashes {
            let _ = writeln!(text, "blob {hash:#x}");
        }
        for account in &self.accounts {
            let CaseAccount { address, balance, nonce, code, storage } = account;
            let _ = writeln!(text, "\naccount {address:#x} balance {balance:#x} nonce {nonce}");
            for (key, value) in storage {
                let _ = writeln!(text, "slot {key:#x} {value:#x}");
            }
            let _ = writeln!(text, "code {code}");
            for line in crate::asm::listing(code).lines() {
                let _ = writeln!(text, "#   {line}");
            }
        }
        if self.to.is_none() {
            let _ = writeln!(text, "\n# initcode");
            for line in crate::asm::listing(&self.data).lines() {
                let _ = writeln!(text, "#   {line}");
            }
        }
        text
    }

    /// Reads the text form. Comments (`#`) and lines `opt …`, which are the engine's, are passed over.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let mut case = Self::default();
        let (mut spec, mut target) = (false, false);
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            let refuse =
                |reason: &str| CaseError::Line { line: index + 1, text: line.into(), reason: reason.into() };
            let bytes = |text: &str| -> Result<Bytes, CaseError> {
                hex::decode(text).map(Bytes::from).map_err(|_| refuse("these are no hexadecimal bytes"))
            };
            let word = |text: &str| -> Result<U256, CaseError> {
                text.parse().map_err(|_| refuse("this is no 256-bit number"))
            };
            let number = |text: &str| -> Result<u64, CaseError> {
                text.parse().map_err(|_| refuse("this is no number"))
            };
            let address = |text: &str| -> Result<Address, CaseError> {
                text.parse().map_err(|_| refuse("this is no address"))
            };
            match words[..] {
                [] | ["opt", ..] => {}
                ["spec", name] => {
                    case.spec = parse_spec(name).ok_or_else(|| refuse("there is no such fork"))?;
                    spec = true;
                }
                ["to", to] => {
                    case.to = Some(address(to)?);
                    target = true;
                }
                ["create"] => target = true,
                ["sender", sender] => case.sender = address(sender)?,
                ["block", at, time] => (case.number, case.timestamp) = (number(at)?, number(time)?),
                ["gas", gas] => case.gas_limit = number(gas)?,
                ["value", value] => case.value = word(value)?,
                ["data", data] => case.data = bytes(data)?,
                ["blob", hash] => {
                    case.blob_hashes.push(hash.parse().map_err(|_| refuse("this is no hash of 32 bytes"))?)
                }
                ["account", at, "balance", balance, "nonce", nonce] => case.accounts.push(CaseAccount {
                    address: address(at)?,
                    balance: word(balance)?,
                    nonce: number(nonce)?,
                    ..Default::default()
                }),
                ["slot", key, value] => {
                    let account =
                        case.accounts.last_mut().ok_or_else(|| refuse("no account stands above"))?;
                    account.storage.push((word(key)?, word(value)?));
                }
                ["code", code] => {
                    let account =
                        case.accounts.last_mut().ok_or_else(|| refuse("no account stands above"))?;
                    account.code = bytes(code)?;
                }
                _ => {
                    return Err(refuse(
                        "a line says spec, to, create, gas, value, data, sender, block, blob, account, slot or code",
                    ));
                }
            }
        }
        if !spec {
            return Err(CaseError::Missing("spec"));
        }
        if !target {
            return Err(CaseError::Missing("to"));
        }
        if case.gas_limit == 0 {
            return Err(CaseError::Missing("gas"));
        }
        Ok(case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_holds_the_whole_case() {
        let case = Case {
            spec: SpecId::SPURIOUS_DRAGON,
            accounts: vec![CaseAccount {
                address: Address::repeat_byte(0xcc),
                balance: U256::MAX,
                nonce: 7,
                code: Bytes::from_static(&[0x60, 0x00, 0x0c, 0x61, 0x01]),
                storage: vec![(U256::from(1), U256::from(2))],
            }],
            to: Some(Address::repeat_byte(0xcc)),
            value: U256::from(3),
            data: Bytes::from_static(&[1, 2]),
            gas_limit: 50_000,
            blob_hashes: vec![B256::repeat_byte(1)],
            sender: Address::repeat_byte(9),
            number: 5,
            timestamp: 6,
        };
        assert_eq!(Case::parse(&case.to_text()), Ok(case.clone()));
        let creation = Case { to: None, ..case };
        assert_eq!(Case::parse(&creation.to_text()), Ok(creation));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Case::parse("gas 1"), Err(CaseError::Missing("spec")));
        assert!(Case::parse("spec moon").unwrap_err().to_string().contains("no such fork"));
        assert!(Case::parse("slot 1 2").unwrap_err().to_string().contains("no account"));
        assert!(Case::parse("spec osaka\ncreate\ngas many").unwrap_err().to_string().starts_with("line 3"));
    }
}

//! Arguments of a request: an array, by position, each read strictly. A wrong one is named by its position, as geth
//! does.

use crate::error::{Answer, Failure};
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use jsonrpsee::types::Params;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The arguments of one request, not parsed yet.
pub(crate) struct Args(Vec<Box<RawValue>>);

impl Args {
    /// Splits the array; more than `most` are refused.
    pub(crate) fn new(params: &Params<'_>, most: usize) -> Answer<Self> {
        let Some(text) = params.as_str().filter(|text| *text != "null") else { return Ok(Args(Vec::new())) };
        if !text.starts_with('[') {
            return Err(Failure::params("non-array args: name arguments by position, in an array"));
        }
        let items: Vec<Box<RawValue>> = serde_json::from_str(text)
            .map_err(|error| Failure::params(format!("invalid params: {error}")))?;
        if items.len() > most {
            return Err(Failure::params(format!("too many arguments, want at most {most}")));
        }
        Ok(Args(items))
    }

    /// An argument that must be there.
    pub(crate) fn required<T: DeserializeOwned>(&self, index: usize) -> Answer<T> {
        match self.0.get(index).filter(|raw| raw.get() != "null") {
            Some(raw) => parse(index, raw),
            None => Err(Failure::params(format!("missing value for required argument {index}"))),
        }
    }

    /// An argument that may be missing or null.
    pub(crate) fn optional<T: DeserializeOwned>(&self, index: usize) -> Answer<Option<T>> {
        self.0.get(index).filter(|raw| raw.get() != "null").map(|raw| parse(index, raw)).transpose()
    }
}

fn parse<T: DeserializeOwned>(index: usize, raw: &RawValue) -> Answer<T> {
    serde_json::from_str(raw.get()).map_err(|error| {
        // serde names a place inside the argument's own text, which helps nobody who sees the whole request.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        Failure::argument(index, text)
    })
}

/// A 20-byte address in hexadecimal with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AddressArg(pub(crate) Address);

/// A 32-byte value in hexadecimal with its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashArg(pub(crate) B256);

/// A storage key: up to 32 bytes of hexadecimal; shorter ones are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyArg(pub(crate) U256);

/// Bytes in hexadecimal with their prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BytesArg(pub(crate) Bytes);

/// A quantity below 2^64: hexadecimal, or a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumberArg(pub(crate) u64);

fn digits(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Err("empty hex string");
    }
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or("hex string without 0x prefix")
}

fn fixed<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let digits = digits(text)?;
    if digits.len() != 2 * N {
        return Err(format!("hex string has length {}, want {}", digits.len(), 2 * N));
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "invalid hex string".to_string())?;
    Ok(bytes)
}

fn number(text: &str) -> Result<u64, String> {
    let digits = digits(text)?;
    if digits.is_empty() {
        return Err("hex string \"0x\"".into());
    }
    if digits.trim_start_matches('0').len() > 16 {
        return Err("hex number > 64 bits".into());
    }
    u64::from_str_radix(digits, 16).map_err(|_| "invalid hex string".into())
}

impl<'de> Deserialize<'de> for AddressArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        fixed(&text).map(|bytes| AddressArg(Address::from(bytes))).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HashArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        fixed(&text).map(|bytes| HashArg(B256::from(bytes))).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for KeyArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let digits = digits(&text).map_err(D::Error::custom)?;
        if digits.len() > 64 {
            return Err(D::Error::custom(
                "unable to decode storage key: hex string too long, want at most 32 bytes",
            ));
        }
        let key = if digits.is_empty() { Ok(U256::ZERO) } else { U256::from_str_radix(digits, 16) };
        key.map(KeyArg).map_err(|_| D::Error::custom("unable to decode storage key: invalid hex string"))
    }
}

impl<'de> Deserialize<'de> for BytesArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let digits = digits(&text).map_err(D::Error::custom)?;
        let bytes = hex::decode(digits).map_err(|error| match error {
            hex::FromHexError::OddLength => D::Error::custom("hex string of odd length"),
            _ => D::Error::custom("invalid hex string"),
        })?;
        Ok(BytesArg(bytes.into()))
    }
}

impl<'de> Deserialize<'de> for NumberArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
        }
        match Either::deserialize(input)
            .map_err(|_| D::Error::custom("expected a quantity in hexadecimal"))?
        {
            Either::Text(text) => number(&text).map(NumberArg).map_err(D::Error::custom),
            Either::Number(number) => Ok(NumberArg(number)),
        }
    }
}

/// Which block is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockArg {
    Latest,
    Pending,
    /// `safe` and `finalized`: what is sealed is final here.
    Sealed,
    Earliest,
    Number(u64),
    Hash(B256),
}

impl BlockArg {
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        Ok(match text {
            "latest" => BlockArg::Latest,
            "pending" => BlockArg::Pending,
            "safe" | "finalized" => BlockArg::Sealed,
            "earliest" => BlockArg::Earliest,
            hash if hash.len() == 66 => BlockArg::Hash(B256::from(fixed::<32>(hash)?)),
            other => BlockArg::Number(number(other)?),
        })
    }
}

impl<'de> Deserialize<'de> for BlockArg {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Object(Object),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            block_number: Option<String>,
            block_hash: Option<HashArg>,
            /// Every sealed block is canonical here.
            #[serde(rename = "requireCanonical")]
            _require_canonical: Option<bool>,
        }
        let wrong = "expected a block: \"latest\", a number in hexadecimal, a hash, or {\"blockHash\": …}";
        match Either::deserialize(input).map_err(|_| D::Error::custom(wrong))? {
            Either::Text(text) => BlockArg::from_text(&text).map_err(D::Error::custom),
            Either::Object(Object { block_number: Some(_), block_hash: Some(_), .. }) => Err(
                D::Error::custom("cannot specify both BlockHash and BlockNumber, choose one or the other"),
            ),
            Either::Object(Object { block_hash: Some(hash), .. }) => Ok(BlockArg::Hash(hash.0)),
            Either::Object(Object { block_number: Some(text), .. }) => {
                BlockArg::from_text(&text).map_err(D::Error::custom)
            }
            Either::Object(_) => Err(D::Error::custom(wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str, most: usize) -> Answer<Args> {
        Args::new(&Params::new(Some(text)), most)
    }

    #[test]
    fn arguments_are_counted_and_named_by_position() {
        assert_eq!(args("[1,2]", 1).err().unwrap().message, "too many arguments, want at most 1");
        assert_eq!(args("{\"a\":1}", 1).err().unwrap().code, -32602);
        let none = args("[null]", 2).unwrap();
        assert_eq!(none.required::<bool>(0).unwrap_err().message, "missing value for required argument 0");
        assert_eq!(none.optional::<bool>(1).unwrap(), None);
        let failure = args("[\"2\"]", 1).unwrap().required::<BlockArg>(0).unwrap_err();
        assert_eq!(failure.message, "invalid argument 0: hex string without 0x prefix");
        assert!(Args::new(&Params::new(None), 0).unwrap().0.is_empty());
    }

    #[test]
    fn hexadecimal_is_read_strictly() {
        let read = |text: &str| args(&format!("[\"{text}\"]"), 1).unwrap();
        assert!(read("11").required::<AddressArg>(0).is_err());
        assert!(read("0x11").required::<AddressArg>(0).is_err());
        assert!(read(&"1".repeat(64)).required::<HashArg>(0).is_err());
        assert!(read("0xabc").required::<BytesArg>(0).unwrap_err().message.contains("odd length"));
        assert!(read("0xzz").required::<BytesArg>(0).is_err());
        assert_eq!(read("0x10").required::<NumberArg>(0).unwrap(), NumberArg(16));
        assert!(read("0x").required::<NumberArg>(0).is_err());
        assert!(
            read("0x10000000000000000").required::<NumberArg>(0).unwrap_err().message.contains("64 bits")
        );
        assert_eq!(read("0x1").required::<KeyArg>(0).unwrap(), KeyArg(U256::from(1)));
        assert!(read(&format!("0x{}", "1".repeat(65))).required::<KeyArg>(0).is_err());
    }

    #[test]
    fn blocks_are_named_in_every_way_that_geth_takes() {
        let hash = format!("0x{}", "ab".repeat(32));
        let read = |text: &str| args(&format!("[{text}]"), 1).unwrap().required::<BlockArg>(0);
        assert_eq!(read("\"latest\"").unwrap(), BlockArg::Latest);
        assert_eq!(read("\"finalized\"").unwrap(), BlockArg::Sealed);
        assert_eq!(read("\"0x10\"").unwrap(), BlockArg::Number(16));
        assert_eq!(read(&format!("\"{hash}\"")).unwrap(), BlockArg::Hash(B256::repeat_byte(0xab)));
        let object = format!("{{\"blockHash\":\"{hash}\",\"requireCanonical\":true}}");
        assert_eq!(read(&object).unwrap(), BlockArg::Hash(B256::repeat_byte(0xab)));
        assert_eq!(read("{\"blockNumber\":\"0x1\"}").unwrap(), BlockArg::Number(1));
        assert!(read("{}").is_err());
        assert!(read("12").is_err());
        assert!(read("\"newest\"").is_err());
    }
}

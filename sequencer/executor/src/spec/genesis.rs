//! Reading a genesis file in geth's format.

use super::{ChainSpec, ForkSchedule, alloc_account, alloc_root, genesis_header};
use crate::SpecError;
use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B64, B256, Bytes, U256, hex};
use ironlane_types::StateDelta;
use serde_json::{Map, Value};

/// A thousand blobs above the target: the price is then about e^27 wei at the fraction of Prague.
const EXCESS_BLOB_GAS_MAX: u64 = 1 << 27;

pub(super) type Object = Map<String, Value>;

pub(super) fn parse(json: &[u8]) -> Result<ChainSpec, SpecError> {
    let root = read(json)?;
    let alloc = alloc(&root)?;
    build(&root, alloc, None)
}

/// The file as an object.
pub(super) fn read(json: &[u8]) -> Result<Object, SpecError> {
    match serde_json::from_slice(json).map_err(|e| SpecError::Json(e.to_string()))? {
        Value::Object(root) => Ok(root),
        other => Err(field("the file", if other.is_null() { "is missing" } else { "is not an object" })),
    }
}

/// The chain of a genesis file whose accounts were read. Without `state_root` it is computed from them.
pub(super) fn build(
    root: &Object,
    alloc: StateDelta,
    state_root: Option<B256>,
) -> Result<ChainSpec, SpecError> {
    let config = object(root.get("config").unwrap_or(&Value::Null), "config")?;

    let chain_id = number(config, "config", "chainId")?.ok_or_else(|| missing("config.chainId"))?;
    let forks = forks(config)?;
    let header = Header {
        parent_hash: fixed(root, "parentHash")?,
        beneficiary: Address::from_slice(&bytes_of(root, "coinbase", 20)?),
        difficulty: big(root, "difficulty")?.unwrap_or_default(),
        number: number(root, "", "number")?.unwrap_or(0),
        gas_limit: number(root, "", "gasLimit")?.ok_or_else(|| missing("gasLimit"))?,
        gas_used: number(root, "", "gasUsed")?.unwrap_or(0),
        timestamp: number(root, "", "timestamp")?.unwrap_or(0),
        extra_data: match root.get("extraData") {
            None | Some(Value::Null) => Bytes::new(),
            Some(value) => hex_bytes(value, "extraData")?,
        },
        mix_hash: fixed(root, "mixHash")?,
        nonce: B64::from(number(root, "", "nonce")?.unwrap_or(0)),
        base_fee_per_gas: number(root, "", "baseFeePerGas")?,
        blob_gas_used: number(root, "", "blobGasUsed")?,
        excess_blob_gas: number(root, "", "excessBlobGas")?,
        parent_beacon_block_root: match root.get("parentBeaconBlockRoot") {
            None | Some(Value::Null) => None,
            Some(_) => Some(fixed(root, "parentBeaconBlockRoot")?),
        },
        ..Default::default()
    };
    // The blob price grows with its exponential; beyond this no number holds it.
    if header.excess_blob_gas.is_some_and(|gas| gas > EXCESS_BLOB_GAS_MAX) {
        return Err(field("excessBlobGas", format!("is above {EXCESS_BLOB_GAS_MAX}")));
    }
    let header = genesis_header(&forks, header, state_root.unwrap_or_else(|| alloc_root(&alloc)));
    let mut spec = ChainSpec::new(chain_id, forks, header, alloc);
    if let Some(value) = config.get("depositContractAddress").filter(|v| !v.is_null()) {
        let bytes = hex_bytes(value, "config.depositContractAddress")?;
        spec.deposit_contract = Address::try_from(&bytes[..])
            .map_err(|_| field("config.depositContractAddress", "is not 20 bytes"))?;
    }
    if let Some(own) = config.get("ironlane").filter(|v| !v.is_null()) {
        let own = object(own, "config.ironlane")?;
        for (key, value) in own {
            match (key.as_str(), value) {
                ("blockRlpSizeLimit", Value::Bool(limit)) => spec.block_rlp_limit = *limit,
                ("blockRlpSizeLimit", _) => {
                    return Err(field("config.ironlane.blockRlpSizeLimit", "is not true or false"));
                }
                _ => return Err(field(&format!("config.ironlane.{key}"), "is not known")),
            }
        }
    }
    Ok(spec)
}

fn forks(config: &Object) -> Result<ForkSchedule, SpecError> {
    if let Some(name) =
        config.keys().find(|k| k.starts_with("amsterdam") || k.starts_with("verkle") || k.starts_with("ubt"))
        && config.get(name).is_some_and(|v| !v.is_null())
    {
        return Err(SpecError::UnknownFork(name.clone()));
    }
    let at = |key: &str| number(config, "config", key);
    let dao_supported = !matches!(config.get("daoForkSupport"), Some(Value::Bool(false)));
    let mut forks = ForkSchedule {
        homestead: at("homesteadBlock")?,
        dao: at("daoForkBlock")?.filter(|_| dao_supported),
        tangerine_whistle: at("eip150Block")?,
        spurious_dragon: at("eip158Block")?.or(at("eip155Block")?),
        byzantium: at("byzantiumBlock")?,
        constantinople: at("constantinopleBlock")?,
        petersburg: at("petersburgBlock")?.or(at("constantinopleBlock")?),
        istanbul: at("istanbulBlock")?,
        muir_glacier: at("muirGlacierBlock")?,
        berlin: at("berlinBlock")?,
        london: at("londonBlock")?,
        arrow_glacier: at("arrowGlacierBlock")?,
        gray_glacier: at("grayGlacierBlock")?,
        merge: at("mergeNetsplitBlock")?,
        terminal_total_difficulty: big(config, "terminalTotalDifficulty")?,
        shanghai_time: at("shanghaiTime")?,
        cancun_time: at("cancunTime")?,
        prague_time: at("pragueTime")?,
        osaka_time: at("osakaTime")?,
        blob_schedule: Vec::new(),
    };
    if matches!(config.get("terminalTotalDifficultyPassed"), Some(Value::Bool(true))) && forks.merge.is_none()
    {
        forks.merge = Some(0);
    }
    forks.blob_schedule = blob_schedule(config, &forks)?;
    forks.check_order()?;
    Ok(forks)
}

/// The blob parameters of each fork that changes them: `blobSchedule`, or mainnet's where it says nothing.
fn blob_schedule(config: &Object, forks: &ForkSchedule) -> Result<Vec<(u64, BlobParams)>, SpecError> {
    let empty = Object::new();
    let schedule = match config.get("blobSchedule") {
        None | Some(Value::Null) => &empty,
        Some(value) => object(value, "config.blobSchedule")?,
    };
    let bpo = |n: u32| number(config, "config", &format!("bpo{n}Time"));
    let times = [
        ("cancun", forks.cancun_time, Some(BlobParams::cancun())),
        ("prague", forks.prague_time, Some(BlobParams::prague())),
        ("osaka", forks.osaka_time, Some(BlobParams::osaka())),
        ("bpo1", bpo(1)?, Some(BlobParams::bpo1())),
        ("bpo2", bpo(2)?, Some(BlobParams::bpo2())),
        ("bpo3", bpo(3)?, None),
        ("bpo4", bpo(4)?, None),
        ("bpo5", bpo(5)?, None),
    ];
    let mut result: Vec<(u64, BlobParams)> = Vec::new();
    for (name, time, default) in times {
        let Some(time) = time else { continue };
        let path = format!("config.blobSchedule.{name}");
        let params = match (schedule.get(name).filter(|v| !v.is_null()), default) {
            (Some(value), _) => {
                let entry = object(value, &path)?;
                let get =
                    |key: &str| number(entry, &path, key)?.ok_or_else(|| missing(&format!("{path}.{key}")));
                let fraction = get("baseFeeUpdateFraction")?;
                if fraction == 0 {
                    return Err(field(&format!("{path}.baseFeeUpdateFraction"), "is zero"));
                }
                blob_params(forks, time, get("target")?, get("max")?, fraction)
            }
            (None, Some(default)) => default,
            (None, None) => return Err(missing(&path)),
        };
        result.push((time, params));
    }
    result.sort_by_key(|(time, _)| *time);
    Ok(result)
}

/// Parameters that hold from `time` on. From Osaka on a transaction has at most six blobs and blobs have a reserve price
/// (EIP-7594, EIP-7918).
pub(crate) fn blob_params(
    forks: &ForkSchedule,
    time: u64,
    target: u64,
    max: u64,
    fraction: u64,
) -> BlobParams {
    let base = if forks.osaka_time.is_some_and(|osaka| time >= osaka) {
        BlobParams::osaka()
    } else {
        BlobParams { max_blobs_per_tx: max, ..BlobParams::prague() }
    };
    BlobParams {
        target_blob_count: target,
        max_blob_count: max,
        update_fraction: fraction.max(1).into(),
        ..base
    }
}

pub(super) fn alloc(root: &Object) -> Result<StateDelta, SpecError> {
    match root.get("alloc").filter(|v| !v.is_null()) {
        Some(accounts) => parse_alloc(accounts),
        None => Ok(StateDelta::default()),
    }
}

/// Accounts by address, as a genesis lists them and as test files list a pre-state.
pub(crate) fn parse_alloc(accounts: &Value) -> Result<StateDelta, SpecError> {
    let mut alloc = StateDelta::default();
    for (key, value) in object(accounts, "alloc")? {
        let path = format!("alloc.{key}");
        let address =
            Address::try_from(&hex_text(key, &path)?[..]).map_err(|_| field(&path, "is not 20 bytes"))?;
        let account = object(value, &path)?;
        let named = |e: SpecError| match e {
            SpecError::Field { field, reason } => {
                SpecError::Field { field: format!("{path}.{field}"), reason }
            }
            other => other,
        };
        let code = match account.get("code") {
            None | Some(Value::Null) => Bytes::new(),
            Some(code) => hex_bytes(code, "code").map_err(named)?,
        };
        let mut slots = Vec::new();
        if let Some(storage) = account.get("storage").filter(|v| !v.is_null()) {
            for (slot, value) in object(storage, "storage").map_err(named)? {
                let word = |text: &str| -> Result<U256, SpecError> {
                    let bytes = hex_text(text, &format!("{path}.storage.{slot}"))?;
                    U256::try_from_be_slice(&bytes)
                        .ok_or_else(|| field(&format!("{path}.storage.{slot}"), "has more than 32 bytes"))
                };
                let value = value
                    .as_str()
                    .ok_or_else(|| field(&format!("{path}.storage.{slot}"), "is not a hexadecimal string"))?;
                slots.push((word(slot)?, word(value)?));
            }
        }
        let nonce = number(account, &path, "nonce")?.unwrap_or(0);
        let balance = big(account, "balance").map_err(named)?.unwrap_or_default();
        alloc_account(&mut alloc, address, nonce, balance, code, slots);
    }
    Ok(alloc)
}

pub(super) fn field(name: &str, reason: impl ToString) -> SpecError {
    SpecError::Field { field: name.into(), reason: reason.to_string() }
}

fn missing(name: &str) -> SpecError {
    field(name, "is missing")
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Object, SpecError> {
    value
        .as_object()
        .ok_or_else(|| if value.is_null() { missing(name) } else { field(name, "is not an object") })
}

/// A quantity: a JSON number, or a string in hexadecimal (0x…) or decimal.
fn big(from: &Object, key: &str) -> Result<Option<U256>, SpecError> {
    let text = match from.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(field(key, "is neither a number nor a string")),
    };
    let parsed = match text.strip_prefix("0x") {
        Some("") => Ok(U256::ZERO),
        Some(digits) => U256::from_str_radix(digits, 16),
        None => U256::from_str_radix(&text, 10),
    };
    parsed.map(Some).map_err(|_| field(key, format!("`{text}` is not a number of at most 256 bits")))
}

fn number(from: &Object, path: &str, key: &str) -> Result<Option<u64>, SpecError> {
    let name = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    let Some(value) = big(from, key).map_err(|e| match e {
        SpecError::Field { reason, .. } => SpecError::Field { field: name.clone(), reason },
        other => other,
    })?
    else {
        return Ok(None);
    };
    u64::try_from(value).map(Some).map_err(|_| field(&name, "does not fit in 64 bits"))
}

fn hex_text(text: &str, name: &str) -> Result<Vec<u8>, SpecError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_string() };
    hex::decode(padded).map_err(|_| field(name, "is not hexadecimal"))
}

fn hex_bytes(value: &Value, name: &str) -> Result<Bytes, SpecError> {
    let text = value.as_str().ok_or_else(|| field(name, "is not a hexadecimal string"))?;
    hex_text(text, name).map(Bytes::from)
}

fn bytes_of(from: &Object, key: &str, length: usize) -> Result<Vec<u8>, SpecError> {
    let bytes = match from.get(key) {
        None | Some(Value::Null) => return Ok(vec![0; length]),
        Some(value) => hex_bytes(value, key)?,
    };
    if bytes.len() != length {
        return Err(field(key, format!("is not {length} bytes")));
    }
    Ok(bytes.to_vec())
}

fn fixed(from: &Object, key: &str) -> Result<B256, SpecError> {
    Ok(B256::from_slice(&bytes_of(from, key, 32)?))
}

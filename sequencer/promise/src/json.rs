//! The promise as JSON: quantities and data in hexadecimal, as in Ethereum's JSON-RPC.

use crate::{Leaf, MerklePath, PATH_LEN_MAX, Promise};
use alloy_primitives::{B256, FixedBytes, U64};
use ironlane_types::MiniBlockHeader;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PromiseJson {
    header: HeaderJson,
    signature: FixedBytes<65>,
    transaction: LeafJson,
    path: Vec<B256>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeaderJson {
    height: U64,
    parent: B256,
    block_number: U64,
    first_seq: U64,
    tx_count: U64,
    timestamp_us: U64,
    txs_root: B256,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeafJson {
    seq: U64,
    hash: B256,
    status: U64,
    gas_used: U64,
    logs_hash: B256,
}

impl Serialize for Promise {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (header, leaf) = (&self.header, &self.leaf);
        let json = PromiseJson {
            header: HeaderJson {
                height: U64::from(header.height),
                parent: header.parent,
                block_number: U64::from(header.block_number),
                first_seq: U64::from(header.first_seq),
                tx_count: U64::from(header.tx_count),
                timestamp_us: U64::from(header.timestamp_us),
                txs_root: header.txs_root,
            },
            signature: FixedBytes(self.signature),
            transaction: LeafJson {
                seq: U64::from(leaf.seq),
                hash: leaf.tx_hash,
                status: U64::from(u8::from(leaf.success)),
                gas_used: U64::from(leaf.gas_used),
                logs_hash: leaf.logs_hash,
            },
            path: self.path.siblings.clone(),
        };
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Promise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let json = PromiseJson::deserialize(deserializer)?;
        let (header, leaf) = (json.header, json.transaction);
        let tx_count = u32::try_from(header.tx_count.to::<u64>());
        let success = match leaf.status.to::<u64>() {
            0 => false,
            1 => true,
            other => return Err(D::Error::custom(format!("status is {other}; it is 0x0 or 0x1"))),
        };
        if json.path.len() > PATH_LEN_MAX {
            return Err(D::Error::custom(format!("path has more than {PATH_LEN_MAX} hashes")));
        }
        Ok(Promise {
            header: MiniBlockHeader {
                height: header.height.to(),
                parent: header.parent,
                block_number: header.block_number.to(),
                first_seq: header.first_seq.to(),
                tx_count: tx_count.map_err(|_| D::Error::custom("txCount does not fit 32 bits"))?,
                timestamp_us: header.timestamp_us.to(),
                txs_root: header.txs_root,
            },
            signature: json.signature.0,
            leaf: Leaf {
                seq: leaf.seq.to(),
                tx_hash: leaf.hash,
                success,
                gas_used: leaf.gas_used.to(),
                logs_hash: leaf.logs_hash,
            },
            path: MerklePath { siblings: json.path },
        })
    }
}

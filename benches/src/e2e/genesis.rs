//! The chain that the benchmark's node runs: every stable fork from the start, funded senders, the token in its place.

use super::workload::{CHAIN_ID, SenderKey, TOKEN, TOKEN_ARTIFACT};
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, B256, U256, keccak256};
use anyhow::Context;
use serde_json::{Map, Value, json};

/// No second of any workload fills a block of this size.
const GAS_LIMIT: u64 = 100_000_000_000;
const BASE_FEE_WEI: u64 = 1_000_000_000;

/// Storage slot of an account's token balance: the mapping is the contract's slot 0.
fn balance_slot(account: Address) -> B256 {
    let mut preimage = [0u8; 64];
    preimage[12..32].copy_from_slice(account.as_slice());
    keccak256(preimage)
}

/// A genesis.json in geth's format. Each sender has a million ether, and 10^18 of the token when `with_token`.
///
/// # Errors
/// When the token's artifact is not as it should be.
pub(super) fn genesis(senders: &[SenderKey], with_token: bool) -> anyhow::Result<Value> {
    let mut alloc = Map::new();
    let system = [
        (eip4788::BEACON_ROOTS_ADDRESS, eip4788::BEACON_ROOTS_CODE.clone()),
        (eip2935::HISTORY_STORAGE_ADDRESS, eip2935::HISTORY_STORAGE_CODE.clone()),
        (eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone()),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone(),
        ),
    ];
    for (address, code) in system {
        alloc.insert(address.to_string(), json!({ "balance": "0x0", "nonce": "0x1", "code": code }));
    }
    let wealth = U256::from(10).pow(U256::from(24));
    for sender in senders {
        alloc.insert(sender.address.to_string(), json!({ "balance": wealth }));
    }
    if with_token {
        let artifact: Value =
            serde_json::from_str(TOKEN_ARTIFACT).context("the token's artifact is no JSON")?;
        let code =
            artifact["deployedBytecode"].as_str().context("the token's artifact has no deployedBytecode")?;
        let each = U256::from(10).pow(U256::from(18));
        let word = |value: U256| B256::from(value).to_string();
        let mut storage = Map::new();
        for sender in senders {
            storage.insert(balance_slot(sender.address).to_string(), word(each).into());
        }
        let supply = word(each * U256::from(senders.len()));
        storage.insert(word(U256::from(2)), supply.into());
        let token = json!({ "balance": "0x0", "nonce": "0x1", "code": code, "storage": storage });
        alloc.insert(TOKEN.to_string(), token);
    }
    let mut config = Map::new();
    for block in [
        "homestead",
        "eip150",
        "eip155",
        "eip158",
        "byzantium",
        "constantinople",
        "petersburg",
        "istanbul",
        "muirGlacier",
        "berlin",
        "london",
        "arrowGlacier",
        "grayGlacier",
    ] {
        config.insert(format!("{block}Block"), 0.into());
    }
    for time in ["shanghai", "cancun", "prague", "osaka"] {
        config.insert(format!("{time}Time"), 0.into());
    }
    config.insert("chainId".into(), CHAIN_ID.into());
    config.insert("mergeNetsplitBlock".into(), 0.into());
    config.insert("terminalTotalDifficulty".into(), 0.into());
    config.insert("terminalTotalDifficultyPassed".into(), true.into());
    // A block of one second of full load is larger than EIP-7934 allows on the public network.
    config.insert("ironlane".into(), json!({ "blockRlpSizeLimit": false }));
    Ok(json!({
        "config": config,
        "nonce": "0x0",
        "timestamp": "0x0",
        "extraData": "0x",
        "gasLimit": format!("{GAS_LIMIT:#x}"),
        "difficulty": "0x0",
        "mixHash": B256::ZERO,
        "coinbase": Address::ZERO,
        "baseFeePerGas": format!("{BASE_FEE_WEI:#x}"),
        "alloc": alloc,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::workload::senders;

    #[test]
    fn the_executor_takes_it_and_finds_senders_and_token() {
        let senders = senders(1, 5);
        let json = genesis(&senders, true).expect("builds").to_string();
        let spec = ironlane_executor::ChainSpec::from_genesis_json(json.as_bytes()).expect("a valid genesis");
        assert_eq!(spec.chain_id, CHAIN_ID);
        assert_eq!(spec.genesis.header.gas_limit, GAS_LIMIT);
        let token = spec.genesis.alloc.accounts.iter().find(|a| a.address == TOKEN).expect("the token");
        assert_eq!(token.slots.len(), 6, "five balances and the supply");
        let slot = U256::from_be_bytes(balance_slot(senders[0].address).0);
        assert!(token.slots.contains(&(slot, U256::from(10).pow(U256::from(18)))));
        for sender in senders {
            let account = spec.genesis.alloc.accounts.iter().find(|a| a.address == sender.address);
            assert!(account.and_then(|a| a.info).is_some_and(|i| i.balance > U256::ZERO));
        }
    }
}

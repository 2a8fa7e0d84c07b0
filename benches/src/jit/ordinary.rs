//! Calls that mainnet is full of, to the contracts that mainnet runs: token transfers and Uniswap V2 swaps, with the slots
//! that they read filled in.

use super::cases::{Set, WorkCase};
use alloy_primitives::{Address, Bytes, U256, address, b256, keccak256};
use anyhow::Context as _;
use ironlane_jit::fuzz::{Case, CaseAccount, SENDER};
use std::{fs, path::Path};

const FRIEND: Address = Address::repeat_byte(0x77);
const WETH: Address = address!("c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2");
const USDC: Address = address!("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48");
const USDC_CODE: Address = address!("43506849d7c04f9138d1a2050bbf3a0c054402dd");
const PAIR: Address = address!("b4e16d0168e52d35cacd2c6185b44281ec28c9dc");
const FACTORY: Address = address!("5c69bee701ef814a2b6a3edd4b1652cb9cc5aa6f");
const ROUTER: Address = address!("7a250d5630b4cf539739df2c5dacb4c659f2488d");
const ETHER: u128 = 1_000_000_000_000_000_000;

/// The calls whose contracts `folder` holds.
pub(super) fn calls(folder: &Path) -> anyhow::Result<Vec<WorkCase>> {
    let mut files = vec![folder.join("contracts/mainnet-named.json"), folder.join("mainnet-named.json")];
    files.retain(|file| file.is_file());
    let Some(file) = files.first() else { return Ok(Vec::new()) };
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let named: serde_json::Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let account = |name: &str, storage: Vec<(U256, U256)>| -> anyhow::Result<CaseAccount> {
        let entry = &named[name];
        let text = |key: &str| entry[key].as_str().with_context(|| format!("{name} has no {key}"));
        Ok(CaseAccount {
            address: text("address")?.parse()?,
            nonce: 1,
            code: text("code")?.parse()?,
            storage,
            ..CaseAccount::default()
        })
    };
    let tokens = |at: u64, more: Vec<(U256, U256)>| {
        let wealth = U256::from(1_000_000 * ETHER);
        let balances = [(slot(SENDER, at), wealth), (slot(FRIEND, at), U256::from(1))];
        balances.into_iter().chain(more).collect::<Vec<_>>()
    };
    let transfer = call("transfer(address,uint256)", &[word(FRIEND), U256::from(1_000)]);
    let mut calls = Vec::new();
    for (name, balances) in [("DAI", 2), ("USDT", 2), ("WBTC", 0), ("WETH9", 3)] {
        calls.push((
            format!("{name} transfer"),
            vec![account(name, tokens(balances, vec![]))?],
            transfer.clone(),
        ));
    }
    let implementation: U256 =
        b256!("7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3").into();
    let usdc = |more: Vec<(U256, U256)>| -> anyhow::Result<Vec<CaseAccount>> {
        let storage = tokens(9, [vec![(implementation, word(USDC_CODE))], more].concat());
        Ok(vec![account("USDC_proxy", storage)?, account("USDC_impl_v2_2", vec![])?])
    };
    calls.push(("USDC transfer".into(), usdc(vec![])?, transfer));
    calls.push(("WETH9 deposit".into(), vec![account("WETH9", tokens(3, vec![]))?], call("deposit()", &[])));

    // A pool of 50,000 ether and 150 million dollars.
    let (ethers, dollars) = (U256::from(50_000 * ETHER), U256::from(150_000_000_000_000u64));
    let reserves = dollars | (ethers << 112) | (U256::from(1_700_000_000u64) << 224);
    let pool = |number: u64, value: U256| (U256::from(number), value);
    let swap = |paid: u128| -> anyhow::Result<Vec<CaseAccount>> {
        let pair = vec![
            pool(5, word(FACTORY)),
            pool(6, word(USDC)),
            pool(7, word(WETH)),
            pool(8, reserves),
            pool(12, U256::ONE),
        ];
        let mut weth = tokens(3, vec![(slot(PAIR, 3), ethers + U256::from(paid))]);
        // allowance[sender][router]
        weth.push((
            keccak256([word(ROUTER).to_be_bytes::<32>(), slot(SENDER, 4).to_be_bytes()].concat()).into(),
            U256::MAX,
        ));
        let mut accounts = usdc(vec![(slot(PAIR, 9), dollars)])?;
        accounts.push(account("WETH9", weth)?);
        accounts.push(account("UniswapV2Pair_USDC_WETH", pair)?);
        accounts.push(account("UniswapV2Router02", vec![])?);
        Ok(accounts)
    };
    // One ether was sent before.
    let direct = [call(
        "swap(uint256,uint256,address,bytes)",
        &[U256::from(2_900_000_000u64), U256::ZERO, word(FRIEND), U256::from(128), U256::ZERO],
    )]
    .concat();
    calls.push(("Uniswap V2 pair swap".into(), swap(ETHER)?, direct.into()));
    let routed = call(
        "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
        &[
            U256::from(ETHER),
            U256::ONE,
            U256::from(160),
            word(FRIEND),
            U256::MAX,
            U256::from(2),
            word(WETH),
            word(USDC),
        ],
    );
    calls.push(("Uniswap V2 router swap".into(), swap(0)?, routed));

    Ok(calls
        .into_iter()
        .map(|(name, accounts, data)| {
            let to = if name.starts_with("USDC") {
                USDC
            } else if name.contains("pair") {
                PAIR
            } else if name.contains("router") {
                ROUTER
            } else {
                accounts[0].address
            };
            let value = if name.contains("deposit") { U256::from(ETHER) } else { U256::ZERO };
            let case = Case { accounts, to: Some(to), value, data, gas_limit: 1_000_000, ..Case::default() };
            WorkCase { name: format!("mainnet/{name}"), set: Set::Ordinary, case }
        })
        .collect())
}

fn word(address: Address) -> U256 {
    U256::from_be_slice(address.as_slice())
}

/// Where a mapping at slot `at` keeps the value of `key`.
fn slot(key: Address, at: u64) -> U256 {
    keccak256([word(key).to_be_bytes::<32>(), U256::from(at).to_be_bytes()].concat()).into()
}

fn call(signature: &str, words: &[U256]) -> Bytes {
    let mut data = keccak256(signature)[..4].to_vec();
    for word in words {
        data.extend(word.to_be_bytes::<32>());
    }
    data.into()
}

//! The development chain.

use super::{ChainSpec, ForkSchedule, alloc_account, alloc_root, genesis_header};
use alloy_consensus::Header;
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, B256, Bytes, U256, address, b256, bytes};
use ironlane_types::StateDelta;
use revm::primitives::hardfork::SpecId;

/// Accounts of Anvil and Hardhat with their secret keys, from the mnemonic "test test test test test test test test test
/// test test junk", path m/44'/60'/0'/0/i. Everybody knows these keys: they hold nothing outside of development chains.
pub const DEV_KEYS: [(Address, B256); 10] = [
    (
        address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    ),
    (
        address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    ),
    (
        address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    ),
    (
        address!("90F79bf6EB2c4f870365E785982E1f101E93b906"),
        b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    ),
    (
        address!("15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
        b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    ),
    (
        address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
        b256!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    ),
    (
        address!("976EA74026E726554dB657fA54763abd0C3a0aa9"),
        b256!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    ),
    (
        address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
        b256!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    ),
    (
        address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
        b256!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    ),
    (
        address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"),
        b256!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
    ),
];

/// The deterministic deployment proxy: call it with a salt and init code, it answers the address from CREATE2.
const DEPLOYMENT_PROXY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
const DEPLOYMENT_PROXY_CODE: Bytes = bytes!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// Gas limit of a development block: no workload of one second fills it.
const GAS_LIMIT: u64 = 30_000_000_000;
const BASE_FEE_WEI: u64 = 1_000_000_000;

pub(super) fn spec() -> ChainSpec {
    let mut alloc = StateDelta::default();
    let ether = U256::from(10).pow(U256::from(18));
    for (address, _) in DEV_KEYS {
        alloc_account(&mut alloc, address, 0, U256::from(10_000) * ether, Bytes::new(), Vec::new());
    }
    for (address, code) in [
        (eip4788::BEACON_ROOTS_ADDRESS, eip4788::BEACON_ROOTS_CODE.clone()),
        (eip2935::HISTORY_STORAGE_ADDRESS, eip2935::HISTORY_STORAGE_CODE.clone()),
        (eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE.clone()),
        (
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE.clone(),
        ),
        (DEPLOYMENT_PROXY, DEPLOYMENT_PROXY_CODE),
    ] {
        alloc_account(&mut alloc, address, 1, U256::ZERO, code, Vec::new());
    }
    let forks = ForkSchedule::all_until(SpecId::OSAKA);
    let header = Header { gas_limit: GAS_LIMIT, base_fee_per_gas: Some(BASE_FEE_WEI), ..Default::default() };
    let header = genesis_header(&forks, header, alloc_root(&alloc));
    let mut spec = ChainSpec::new(31337, forks, header, alloc);
    spec.block_rlp_limit = false;
    spec
}

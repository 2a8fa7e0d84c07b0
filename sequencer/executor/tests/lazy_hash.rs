//! A block that opens before its parent has a hash ends as if the hash had been known.

#[path = "common/chain.rs"]
mod chain;

use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use chain::{Call, executor, next};
use ironlane_executor::{
    BlockError, BlockHashes, ChainSpec, DEV_KEYS, Executor, ExecutorConfig, OracleTrie, StateRoot,
    assemble_header, next_context,
};
use ironlane_state::StateWriter;
use ironlane_types::{AccountDelta, AccountInfo, ExecutedTx, Reject};
use std::{sync::Arc, time::Duration};

const HASH_1: B256 = B256::repeat_byte(0x11);
const HASH_2: B256 = B256::repeat_byte(0x22);
/// SSTORE(0, BLOCKHASH(CALLDATA[0])).
const ASKS_OPCODE: Address = address!("aa00000000000000000000000000000000000001");
/// SSTORE(0, answer of the history contract to CALLDATA[0]).
const ASKS_HISTORY: Address = address!("aa00000000000000000000000000000000000002");

fn spec() -> Arc<ChainSpec> {
    let mut alloc = ChainSpec::dev().genesis.alloc;
    let opcode = vec![0x5f, 0x35, 0x40, 0x5f, 0x55, 0x00];
    let mut history = vec![0x5f, 0x35, 0x5f, 0x52, 0x60, 32, 0x5f, 0x60, 32, 0x5f, 0x73];
    history.extend_from_slice(HISTORY_STORAGE_ADDRESS.as_slice());
    history.extend_from_slice(&[0x5a, 0xfa, 0x50, 0x5f, 0x51, 0x5f, 0x55, 0x00]);
    for (address, code) in [(ASKS_OPCODE, opcode), (ASKS_HISTORY, history)] {
        let code_hash = keccak256(&code);
        alloc.codes.push((code_hash, Bytes::from(code)));
        let info = Some(AccountInfo { nonce: 1, balance: U256::ZERO, code_hash });
        alloc.accounts.push(AccountDelta { address, info, storage_wiped: false, slots: Vec::new() });
    }
    let dev = ChainSpec::dev();
    Arc::new(ChainSpec::new(31337, dev.forks, dev.genesis.header, alloc))
}

/// An executor with block 1 closed and its hash known, block 2 closed and its hash unknown, block 3 open.
fn at_block_3(spec: &Arc<ChainSpec>) -> (Executor<StateWriter>, OracleTrie) {
    let mut executor = executor(spec, ExecutorConfig::default());
    let mut trie = OracleTrie::default();
    trie.apply(&spec.genesis.alloc);
    let mut parent = spec.genesis.header.clone();
    for number in 1..=2 {
        executor.open_block(next_context(spec, &parent, next(number * 10, Address::ZERO))).expect("opens");
        let closed = executor.close_block().expect("closes: its parent's hash is known");
        trie.apply(&closed.delta);
        parent = assemble_header(&closed, B256::ZERO, B256::ZERO);
        if number == 1 {
            executor.hashes().set(1, HASH_1);
        }
    }
    (executor, trie)
}

fn open_block_3(spec: &ChainSpec, executor: &mut Executor<StateWriter>) {
    let parent = alloy_consensus::Header { number: 2, timestamp: 20, ..spec.genesis.header.clone() };
    executor
        .open_block(next_context(spec, &parent, next(30, Address::ZERO)))
        .expect("opens without the hash");
}

fn ask(
    executor: &mut Executor<StateWriter>,
    contract: Address,
    number: u64,
) -> Result<Arc<ExecutedTx>, Reject> {
    let nonce = executor.next_seq();
    let call = Call { input: B256::from(U256::from(number)).into(), ..Call::plain(contract, nonce) };
    executor.execute(call.from(DEV_KEYS[0].0))
}

/// Runs block 3 and answers what it did. `late`: block 2's hash comes while the block runs.
fn run(
    spec: &Arc<ChainSpec>,
    late: bool,
    body: &dyn Fn(&mut Executor<StateWriter>),
) -> (Vec<Arc<ExecutedTx>>, B256) {
    let (mut executor, mut trie) = at_block_3(spec);
    let hashes: BlockHashes = executor.hashes().clone();
    let root_stage = late.then(|| {
        let hashes = hashes.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(40));
            hashes.set(2, HASH_2);
        })
    });
    if !late {
        hashes.set(2, HASH_2);
    }
    open_block_3(spec, &mut executor);
    body(&mut executor);
    let closed = executor.close_block().expect("closes");
    assert_eq!(
        executor.store().storage(&HISTORY_STORAGE_ADDRESS, U256::from(2)),
        U256::from_be_bytes(HASH_2.0)
    );
    trie.apply(&closed.delta);
    if let Some(root_stage) = root_stage {
        root_stage.join().expect("no panic");
    }
    (closed.txs, trie.root())
}

fn same_both_ways(body: &dyn Fn(&mut Executor<StateWriter>)) {
    let spec = spec();
    let (eager, eager_root) = run(&spec, false, body);
    let (lazy, lazy_root) = run(&spec, true, body);
    assert_eq!(eager_root, lazy_root);
    let outcomes = |txs: &[Arc<ExecutedTx>]| txs.iter().map(|tx| tx.outcome.clone()).collect::<Vec<_>>();
    assert_eq!(outcomes(&eager), outcomes(&lazy));
}

#[test]
fn a_block_that_asks_nothing() {
    same_both_ways(&|executor| {
        ask(executor, Address::with_last_byte(0xee), 0).expect("a transfer");
        executor.seal_mini_block().expect("seals");
    });
}

#[test]
fn the_opcode_waits_for_the_parents_hash_and_for_no_other() {
    same_both_ways(&|executor| {
        ask(executor, ASKS_OPCODE, 1).expect("known");
        executor.seal_mini_block().expect("seals");
        assert_eq!(executor.store().storage(&ASKS_OPCODE, U256::ZERO), U256::from_be_bytes(HASH_1.0));
        ask(executor, ASKS_OPCODE, 2).expect("waited for");
        executor.seal_mini_block().expect("seals");
        assert_eq!(executor.store().storage(&ASKS_OPCODE, U256::ZERO), U256::from_be_bytes(HASH_2.0));
    });
}

#[test]
fn the_history_contract_waits_for_the_parents_hash_and_for_no_other() {
    same_both_ways(&|executor| {
        ask(executor, ASKS_HISTORY, 1).expect("in the state");
        executor.seal_mini_block().expect("seals");
        assert_eq!(executor.store().storage(&ASKS_HISTORY, U256::ZERO), U256::from_be_bytes(HASH_1.0));
        ask(executor, ASKS_HISTORY, 2).expect("waited for");
        executor.seal_mini_block().expect("seals");
        assert_eq!(executor.store().storage(&ASKS_HISTORY, U256::ZERO), U256::from_be_bytes(HASH_2.0));
    });
}

#[test]
fn what_does_not_need_the_hash_does_not_wait_for_it() {
    let spec = spec();
    let (mut executor, _) = at_block_3(&spec);
    open_block_3(&spec, &mut executor);
    // Nobody will set the hash of block 2: a wait would never end.
    ask(&mut executor, ASKS_OPCODE, 1).expect("an older block");
    ask(&mut executor, ASKS_HISTORY, 1).expect("an older slot");
    ask(&mut executor, Address::with_last_byte(0xee), 0).expect("a transfer");
    executor.seal_mini_block().expect("seals");
}

#[test]
fn a_shutdown_ends_the_wait_and_changes_nothing() {
    let spec = spec();
    let (mut executor, _) = at_block_3(&spec);
    open_block_3(&spec, &mut executor);
    let hashes = executor.hashes().clone();
    let stop = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        hashes.close();
    });
    assert_eq!(ask(&mut executor, ASKS_OPCODE, 2).map(|_| ()), Err(Reject::NotAdmitting));
    stop.join().expect("no panic");
    assert_eq!(executor.tx_count(), 0);
    ask(&mut executor, ASKS_OPCODE, 1).expect("the same nonce is still free");
    assert!(matches!(executor.close_block(), Err(BlockError::Store(_))));
}

//! A node's parts around the server: the real executor, state, trie, history and signer, and a pool that takes
//! whatever is well formed and keeps it until the test makes a block.
#![allow(dead_code)]

#[path = "../../../executor/tests/common/mod.rs"]
pub(crate) mod corpus;
pub(crate) mod http;
pub(crate) mod ws;

use alloy_consensus::{SignableTransaction, Transaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use ironlane_executor::{
    BlockHashes, ChainSpec, DEV_KEYS, Executor, ExecutorConfig, NextBlock, decode_transaction, next_context,
    revm, seal_block,
};
use ironlane_history::{History, HistoryConfig};
use ironlane_promise::{Leaf, MerkleTree, Signer, digest};
use ironlane_rpc::*;
use ironlane_state::{State, StateConfig, StateWriter};
use ironlane_trie::{Trie, TrieConfig};
use ironlane_types::{ExecutedTx, MiniBlock, MiniBlockHeader, Reject, SealedBlock, Tx, TxEnvelope};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;

pub(crate) fn account(index: usize) -> Address {
    DEV_KEYS[index].0
}

/// What the node and its stand-in for admission share.
pub(crate) struct Pool {
    spec: Arc<ChainSpec>,
    txs: Mutex<Vec<Arc<Tx>>>,
    dropped: Mutex<Vec<(B256, Reject)>>,
    pub(crate) pending: broadcast::Sender<B256>,
    history: History,
}

impl Pool {
    fn admit(&self, raw: Bytes) -> Result<B256, Reject> {
        let tx = decode_transaction(raw, revm::primitives::hardfork::SpecId::OSAKA)
            .map_err(|_| Reject::Malformed)?;
        if tx.envelope.is_eip4844() {
            return Err(Reject::BlobUnsupported);
        }
        let hash = tx.hash;
        self.txs.lock().push(Arc::new(tx));
        let _ = self.pending.send(hash);
        Ok(hash)
    }

    pub(crate) fn drop_with(&self, hash: B256, reason: Reject) {
        self.txs.lock().retain(|tx| tx.hash != hash);
        self.dropped.lock().push((hash, reason));
    }
}

pub(crate) struct PoolDoor(pub(crate) Arc<Pool>);

impl Ingress for PoolDoor {
    fn submit(&self, raw: Bytes) -> BoxFuture<Result<B256, Reject>> {
        let pool = self.0.clone();
        Box::pin(async move { pool.admit(raw) })
    }

    fn submit_sync(&self, raw: Bytes, timeout: Duration) -> BoxFuture<SyncOutcome> {
        let pool = self.0.clone();
        Box::pin(async move {
            let hash = match pool.admit(raw) {
                Ok(hash) => hash,
                Err(reject) => return SyncOutcome::Rejected(reject),
            };
            let until = tokio::time::Instant::now() + timeout;
            while tokio::time::Instant::now() < until {
                if pool.history.transaction(&hash).ok().flatten().is_some() {
                    return SyncOutcome::Included(hash);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            SyncOutcome::TimedOut(hash)
        })
    }

    fn pool_counts(&self) -> PoolCounts {
        PoolCounts { pending: self.0.txs.lock().len() as u64, queued: 0 }
    }

    fn pool_content(&self, sender: Option<Address>) -> PoolContent {
        let txs = self.0.txs.lock();
        let pending =
            txs.iter().filter(|tx| sender.is_none_or(|sender| tx.sender == sender)).cloned().collect();
        PoolContent { pending, queued: Vec::new() }
    }

    fn pending_nonce(&self, address: &Address) -> Option<u64> {
        let txs = self.0.txs.lock();
        txs.iter().filter(|tx| tx.sender == *address).map(|tx| tx.envelope.nonce() + 1).max()
    }

    fn pool_transaction(&self, hash: &B256) -> Option<PoolTx> {
        let txs = self.0.txs.lock();
        txs.iter().find(|tx| tx.hash == *hash).map(|tx| PoolTx { tx: tx.clone(), queued: false })
    }

    fn drop_reason(&self, hash: &B256) -> Option<Reject> {
        self.0.dropped.lock().iter().find(|(dropped, _)| dropped == hash).map(|(_, reason)| *reason)
    }

    fn subscribe_pending(&self) -> broadcast::Receiver<B256> {
        self.0.pending.subscribe()
    }
}

/// The trie with the number of the block whose state it holds.
pub(crate) struct TrieDoor(pub(crate) Arc<Mutex<(Trie, u64)>>);

impl Proofs for TrieDoor {
    fn prove(&self, address: Address, keys: Vec<U256>) -> BoxFuture<Result<ProvenAccount, ProofError>> {
        let trie = self.0.clone();
        Box::pin(async move {
            let trie = trie.lock();
            Ok(ProvenAccount { block_number: trie.1, proof: trie.0.prove(&address, &keys) })
        })
    }
}

pub(crate) struct Chain {
    pub(crate) executor: Executor<StateWriter>,
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) trie: Arc<Mutex<(Trie, u64)>>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) pending: PendingBlocks,
    pub(crate) signer: Signer,
    height: u64,
    parent_digest: B256,
    open: Vec<Arc<ExecutedTx>>,
}

fn small() -> StateConfig {
    StateConfig { huge_pages: false, max_accounts: 1 << 16, max_slots: 1 << 16, ..StateConfig::default() }
}

impl Chain {
    /// The development chain with its genesis published.
    pub(crate) fn dev() -> Self {
        Self::dev_with(small())
    }

    pub(crate) fn dev_with(config: StateConfig) -> Self {
        let spec = Arc::new(ChainSpec::dev());
        let (state, mut store) = ironlane_state::open_empty(config).unwrap();
        store.apply(&spec.genesis.alloc).unwrap();
        let version = store.seal();
        let mut trie = Trie::new(TrieConfig { huge_pages: false, ..TrieConfig::default() }).unwrap();
        trie.apply(&spec.genesis.alloc);
        trie.root();
        let hashes = BlockHashes::new();
        hashes.set(0, spec.genesis.hash);
        let executor = Executor::new(spec.clone(), store, hashes, ExecutorConfig::default());
        Self::with_parts(spec, state, executor, trie, vec![genesis(&ChainSpec::dev(), version)])
    }

    pub(crate) fn with_parts(
        spec: Arc<ChainSpec>,
        state: State,
        executor: Executor<StateWriter>,
        trie: Trie,
        blocks: Vec<SealedBlock>,
    ) -> Self {
        let history =
            History::open(None, HistoryConfig { expected_txs: 1_000, ..HistoryConfig::default() }).unwrap();
        let number = blocks.last().unwrap().header.number;
        blocks.into_iter().for_each(|block| history.publish_block(block).unwrap());
        let pool = Arc::new(Pool {
            spec: spec.clone(),
            txs: Mutex::default(),
            dropped: Mutex::default(),
            pending: broadcast::channel(64).0,
            history: history.clone(),
        });
        let parent_digest = spec.genesis.hash;
        Chain {
            executor,
            state,
            history,
            spec,
            trie: Arc::new(Mutex::new((trie, number))),
            pool,
            pending: PendingBlocks::default(),
            signer: Signer::from_key(&[7; 32]).unwrap(),
            height: 0,
            parent_digest,
            open: Vec::new(),
        }
    }

    pub(crate) fn context(&self) -> RpcContext {
        RpcContext {
            state: self.state.clone(),
            history: self.history.clone(),
            spec: self.spec.clone(),
            ingress: Arc::new(PoolDoor(self.pool.clone())),
            proofs: Arc::new(TrieDoor(self.trie.clone())),
            pending: self.pending.clone(),
            client_version: "ironlane/test".into(),
            sequencer: self.signer.address(),
        }
    }

    pub(crate) fn open_block(&mut self) {
        let head = self.history.head().unwrap();
        let next = NextBlock {
            timestamp: head.header.timestamp + 1,
            beneficiary: Address::repeat_byte(0xfe),
            gas_limit: None,
            prev_randao: B256::repeat_byte(3),
            extra_data: Bytes::new(),
        };
        let context = next_context(&self.spec, &head.header, next);
        self.executor.open_block(context.clone()).unwrap();
        self.pending.open(Arc::new(context));
        self.open.clear();
    }

    /// Executes what the pool holds and publishes it as one mini-block of the open block.
    pub(crate) fn mini_block(&mut self) {
        let txs = std::mem::take(&mut *self.pool.txs.lock());
        let executed: Vec<_> = txs.into_iter().map(|tx| self.executor.execute(tx).expect("valid")).collect();
        let state_version = self.executor.seal_mini_block().unwrap();
        self.height += 1;
        let leaves = executed.iter().map(|tx| Leaf::of(tx).hash()).collect();
        let header = MiniBlockHeader {
            height: self.height,
            parent: self.parent_digest,
            block_number: self.executor.context().unwrap().number,
            first_seq: executed.first().map_or(0, |tx| tx.seq),
            tx_count: executed.len() as u32,
            timestamp_us: 1_700_000_000_000_000 + self.height,
            txs_root: MerkleTree::new(leaves).root(),
        };
        let digest = digest(&header, self.spec.chain_id);
        self.parent_digest = digest;
        let signature = self.signer.sign(digest);
        self.open.extend(executed.iter().cloned());
        let mini = MiniBlock { header, digest, signature, txs: executed, state_version };
        self.history.publish_mini_block(mini).unwrap();
    }

    /// Closes the open block and publishes it.
    pub(crate) fn seal(&mut self) -> Arc<SealedBlock> {
        let head = self.history.head().unwrap();
        let closed = self.executor.close_block().unwrap();
        let number = closed.context.number;
        let root = {
            let mut trie = self.trie.lock();
            trie.0.apply(&closed.delta);
            trie.1 = number;
            trie.0.root()
        };
        let block = seal_block(closed, head.hash, root);
        self.executor.hashes().set(number, block.hash);
        self.history.publish_block(block).unwrap();
        self.history.head().unwrap()
    }

    /// A whole block from what the pool holds.
    pub(crate) fn block(&mut self) -> Arc<SealedBlock> {
        self.open_block();
        self.mini_block();
        self.seal()
    }
}

pub(crate) fn genesis(spec: &ChainSpec, state_version: u64) -> SealedBlock {
    let header = spec.genesis.header.clone();
    let withdrawals = header.withdrawals_root.map(|_| Vec::new());
    SealedBlock {
        hash: spec.genesis.hash,
        header,
        txs: Vec::new(),
        withdrawals,
        ommers: Vec::new(),
        state_version,
    }
}

/// The chain of the execution-apis, imported block by block; `None` without the corpus.
pub(crate) fn corpus_chain() -> Option<(Chain, std::path::PathBuf)> {
    let folder = corpus::corpus("rpc-compat-dev")?;
    let spec = ChainSpec::from_genesis_json(&std::fs::read(folder.join("genesis.json")).unwrap()).unwrap();
    let spec = Arc::new(spec);
    let (state, store) = ironlane_state::open_empty(small()).unwrap();
    let trie = Trie::new(TrieConfig { huge_pages: false, ..TrieConfig::default() }).unwrap();
    let mut importer =
        ironlane_executor::Importer::new(spec.clone(), store, trie, ExecutorConfig::default()).unwrap();
    let mut blocks = vec![genesis(&spec, state.sealed_version().unwrap())];
    let bytes = std::fs::read(folder.join("chain.rlp")).unwrap();
    for block in importer.import_all(&bytes) {
        blocks.push(block.unwrap());
    }
    let (executor, trie) = importer.into_parts();
    Some((Chain::with_parts(spec, state, executor, trie, blocks), folder))
}

/// A signed EIP-1559 transaction of a development account.
pub(crate) fn signed(from: usize, nonce: u64, to: TxKind, value: u64, input: &[u8]) -> Bytes {
    let tx = TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to,
        value: U256::from(value),
        input: Bytes::copy_from_slice(input),
        access_list: Default::default(),
    };
    let key = secp256k1::SecretKey::from_byte_array(DEV_KEYS[from].1.0).unwrap();
    let message = secp256k1::Message::from_digest(tx.signature_hash().0);
    let (id, bytes) = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, &key).serialize_compact();
    let signature = Signature::from_scalars_and_parity(
        B256::from_slice(&bytes[..32]),
        B256::from_slice(&bytes[32..]),
        i32::from(id) == 1,
    );
    TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

pub(crate) fn hash_of(raw: &Bytes) -> B256 {
    keccak256(raw)
}

/// Init code that deploys `runtime`.
pub(crate) fn deploy_code(runtime: &[u8]) -> Vec<u8> {
    let len = u8::try_from(runtime.len()).unwrap();
    let mut code = vec![0x60, len, 0x60, 11, 0x5f, 0x39, 0x60, len, 0x5f, 0xf3, 0x00];
    code.extend_from_slice(runtime);
    code
}

/// A server over the chain, with its runtime.
pub(crate) struct Server {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) handle: Option<RpcHandle>,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(chain: &Chain) -> Self {
        Self::start_with(chain, RpcConfig::default())
    }

    pub(crate) fn start_with(chain: &Chain, config: RpcConfig) -> Self {
        let config = RpcConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let handle = runtime.block_on(serve(chain.context(), config)).unwrap();
        let address = handle.local_addr();
        Server { runtime, handle: Some(handle), address }
    }

    pub(crate) fn stats(&self) -> Arc<RpcStats> {
        self.handle.as_ref().unwrap().stats()
    }

    /// The whole response object.
    pub(crate) fn ask(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let (status, text) = http::post(self.address, &body);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The result; panics on an error.
    pub(crate) fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Code and message of the error; panics on a result.
    pub(crate) fn fail(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.ask(method, params);
        let error = answer.get("error").unwrap_or_else(|| panic!("{method} should fail: {answer}"));
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let handle = self.handle.take();
        self.runtime.block_on(async move {
            if let Some(handle) = handle {
                handle.stop().await;
            }
        });
    }
}

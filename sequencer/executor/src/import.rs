//! Importing foreign chains: every block is checked field by field, re-executed, and only then written.

use crate::{
    BlockError, BlockHashes, ChainSpec, ExecuteError, Executor, ExecutorConfig, ImportError, InvalidBlock,
    StateRoot, header, ommers, recover_transaction, validate, validate_body, validate_header,
};
use alloy_consensus::{Block, Eip658Value, Header, Receipt};
use alloy_primitives::{B256, U256, map::AddressHashSet};
use alloy_rlp::{Decodable, Encodable};
use alloy_trie::root::ordered_trie_root_with_encoder;
use ironlane_state::{StateConfig, StateWriter};
use ironlane_trie::{Trie, TrieConfig};
use ironlane_types::{AccountDelta, ClosedBlock, ExecutedTx, SealedBlock, StateDelta, TxEnvelope};
use revm::primitives::hardfork::SpecId;
use serde::Serialize;
use std::{collections::VecDeque, path::Path, sync::Arc, time::Instant};

/// Ancestors that ommer rules look at.
const ANCESTORS: usize = 8;

/// What an import did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// Blocks imported, genesis not counted.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Hash of the newest block.
    pub head_hash: B256,
    /// Its state root.
    pub state_root: B256,
    /// How long it took.
    pub seconds: f64,
}

/// A block that was found valid and written.
pub type ImportedBlock = SealedBlock;

/// Appends foreign blocks to a chain. An invalid block leaves it exactly as it was.
pub struct Importer<T: StateRoot = Trie> {
    executor: Executor<StateWriter>,
    trie: T,
    head: Header,
    head_hash: B256,
    total_difficulty: U256,
    /// Newest first: hash, header, hashes of the ommers.
    ancestors: VecDeque<(B256, Header, Vec<B256>)>,
}

impl<T: StateRoot> Importer<T> {
    /// A chain that has its genesis only, in an empty store and trie.
    pub fn new(
        spec: Arc<ChainSpec>,
        store: StateWriter,
        trie: T,
        config: ExecutorConfig,
    ) -> Result<Self, ImportError> {
        let mut executor = Executor::new(spec.clone(), store, BlockHashes::new(), config);
        let mut trie = trie;
        let genesis = &spec.genesis;
        executor.store_mut().apply(&genesis.alloc).map_err(|e| ImportError::State(e.to_string()))?;
        executor.store_mut().seal();
        trie.apply(&genesis.alloc);
        let root = trie.root();
        if root != genesis.header.state_root {
            return Err(ImportError::Trie(format!(
                "the genesis state has root {root}, its header says {}",
                genesis.header.state_root
            )));
        }
        executor.hashes().set(genesis.header.number, genesis.hash);
        Ok(Self {
            executor,
            trie,
            head: genesis.header.clone(),
            head_hash: genesis.hash,
            total_difficulty: genesis.header.difficulty,
            ancestors: VecDeque::from([(genesis.hash, genesis.header.clone(), Vec::new())]),
        })
    }

    /// The newest block's header.
    pub fn head(&self) -> &Header {
        &self.head
    }

    /// The newest block's hash.
    pub fn head_hash(&self) -> B256 {
        self.head_hash
    }

    /// The executor, for reading its store.
    pub fn executor(&self) -> &Executor<StateWriter> {
        &self.executor
    }

    /// Executor and trie, with the state after the newest block.
    pub fn into_parts(self) -> (Executor<StateWriter>, T) {
        (self.executor, self.trie)
    }

    /// Decodes one block, checks it against the newest one, executes it and, when every field agrees, writes it.
    pub fn import(&mut self, rlp: &[u8]) -> Result<ImportedBlock, InvalidBlock> {
        let block = decode(rlp)?;
        if block.header.parent_hash != self.head_hash {
            return Err(InvalidBlock::UnknownParent(block.header.parent_hash));
        }
        let spec = self.executor.spec().clone();
        self.check_merge(&spec, &block.header)?;
        validate_header(&spec, &block.header, &self.head)?;
        validate_body(&spec, &block.header, &block.body, rlp.len())?;
        ommers::validate(&spec, &block.header, &block.body.ommers, self.ancestors.make_contiguous())?;

        let (header, body) = (block.header, block.body);
        let rules = spec.parameters_at(header.number, header.timestamp, header.difficulty).spec_id;
        let withdrawals = body.withdrawals.map(|list| list.into_inner());
        let context = spec.context_of(&header, withdrawals, body.ommers);
        self.executor.open_block(context).map_err(InvalidBlock::Block)?;
        let sealed = self.execute(&header, body.transactions, rules).inspect_err(|_| self.undo())?;
        self.executor.commit_block().map_err(InvalidBlock::Block)?;

        self.head_hash = sealed.hash;
        self.total_difficulty += header.difficulty;
        self.executor.hashes().set(header.number, sealed.hash);
        let named = sealed.ommers.iter().map(|ommer| ommer.hash_slow()).collect();
        self.ancestors.push_front((sealed.hash, header.clone(), named));
        self.ancestors.truncate(ANCESTORS);
        self.head = header;
        Ok(sealed)
    }

    /// Imports the blocks of a chain file (concatenated RLP, as `geth export` writes), one at each step. The genesis block,
    /// with which such a file may begin, is passed over. The first error ends the import: what follows has no parent.
    pub fn import_all<'a>(&'a mut self, chain: &'a [u8]) -> Imports<'a, T> {
        Imports { importer: self, bytes: chain.len() as u64, rest: chain }
    }

    /// Proof of work ends with the first block whose parent reached the terminal total difficulty (EIP-3675).
    fn check_merge(&self, spec: &ChainSpec, header: &Header) -> Result<(), InvalidBlock> {
        let Some(terminal) = spec.forks.terminal_total_difficulty else { return Ok(()) };
        let after = self.total_difficulty >= terminal
            || spec.forks.merged_by_schedule(header.number, header.timestamp);
        if after == header.difficulty.is_zero() {
            return Ok(());
        }
        let expected = if after { "0 (after the merge)" } else { "above 0 (before the merge)" };
        Err(InvalidBlock::field("difficulty", expected, header.difficulty))
    }

    /// Executes the opened block and compares; nothing of it is in the store yet.
    fn execute(
        &mut self,
        header: &Header,
        transactions: Vec<TxEnvelope>,
        rules: SpecId,
    ) -> Result<ImportedBlock, InvalidBlock> {
        let roots_in_receipts = !rules.is_enabled_in(SpecId::BYZANTIUM);
        let mut roots = Vec::new();
        for (index, envelope) in transactions.into_iter().enumerate() {
            let invalid = |reason: String| InvalidBlock::Transaction { index, reason };
            let tx = recover_transaction(envelope, rules).map_err(invalid)?;
            self.executor.try_execute(Arc::new(tx)).map_err(|error| match error {
                ExecuteError::Store(store) => InvalidBlock::Block(BlockError::Store(store)),
                other => invalid(other.to_string()),
            })?;
            if roots_in_receipts {
                self.trie.apply(&self.executor.pending_delta());
                roots.push(self.trie.root());
            }
        }
        let closed = self.executor.finish_block().map_err(InvalidBlock::Block)?;
        validate::same("gasUsed", closed.gas_used, header.gas_used)?;
        let receipts_root = if roots_in_receipts {
            old_receipts_root(&closed.txs, &roots)
        } else {
            header::receipts_root(&closed.txs)
        };
        self.compare(&closed, header, receipts_root)?;
        self.trie.apply(&closed.delta);
        validate::same("stateRoot", self.trie.root(), header.state_root)?;
        Ok(header::sealed(closed, header.clone()))
    }

    /// Compares every field that execution determines, but the state root.
    fn compare(
        &self,
        closed: &ClosedBlock,
        header: &Header,
        receipts_root: B256,
    ) -> Result<(), InvalidBlock> {
        let made = header::header_with_receipts(closed, self.head_hash, header.state_root, receipts_root);
        validate::same("receiptsRoot", made.receipts_root, header.receipts_root)?;
        validate::same("logsBloom", made.logs_bloom, header.logs_bloom)?;
        validate::same_option("blobGasUsed", made.blob_gas_used, header.blob_gas_used)?;
        validate::same_option("requestsHash", made.requests_hash, header.requests_hash)?;
        // All other fields were compared before execution, or come from the header: the hash says that none was missed.
        validate::same("hash", made.hash_slow(), header.hash_slow())
    }

    /// Takes back what the open block did: its writes are dropped, and the trie gets the old values again.
    fn undo(&mut self) {
        let delta = self.executor.pending_delta();
        let old = self.old_values(&delta);
        self.trie.apply(&old);
        self.trie.root();
        self.executor.discard_block();
    }

    /// The values that the store, which does not have the block, holds for everything in `delta`.
    fn old_values(&self, delta: &StateDelta) -> StateDelta {
        let store = self.executor.store();
        let whole: AddressHashSet = delta
            .accounts
            .iter()
            .filter(|account| account.storage_wiped || account.info.is_none())
            .map(|account| account.address)
            .collect();
        let mut old = StateDelta::default();
        for account in &delta.accounts {
            let info = store.account(&account.address);
            let wiped = whole.contains(&account.address);
            let slots = if wiped || info.is_none() {
                Vec::new()
            } else {
                account.slots.iter().map(|(key, _)| (*key, store.storage(&account.address, *key))).collect()
            };
            old.accounts.push(AccountDelta { address: account.address, info, storage_wiped: wiped, slots });
        }
        if !whole.is_empty() {
            // Rare: only an invalid block that also destroyed a contract pays for a walk over all slots.
            let view = store.state().view();
            for (owner, key, value) in view.slots().flatten().filter(|(owner, ..)| whole.contains(owner)) {
                if let Some(account) = old.accounts.iter_mut().find(|account| account.address == owner) {
                    account.slots.push((key, value));
                }
            }
        }
        old
    }
}

/// An import under way: [`Importer::import_all`].
pub struct Imports<'a, T: StateRoot> {
    importer: &'a mut Importer<T>,
    bytes: u64,
    rest: &'a [u8],
}

impl<T: StateRoot> Imports<'_, T> {
    /// Bytes of the file that are done.
    pub fn done(&self) -> u64 {
        self.bytes - self.rest.len() as u64
    }

    /// The next block, or `None` for the genesis block at the front.
    fn step(&mut self) -> Result<Option<ImportedBlock>, InvalidBlock> {
        let length = item_length(self.rest).map_err(|e| InvalidBlock::Rlp(e.to_string()))?;
        let (block, after) = self.rest.split_at(length);
        let genesis = self.importer.executor.spec().genesis.header.number;
        let first = self.importer.head.number == genesis;
        self.rest = after;
        if first && decode(block).is_ok_and(|b| b.header.hash_slow() == self.importer.head_hash) {
            return Ok(None);
        }
        self.importer.import(block).map(Some)
    }
}

impl<T: StateRoot> Iterator for Imports<'_, T> {
    type Item = Result<ImportedBlock, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let number = self.importer.head.number + 1;
            match self.step() {
                Ok(None) => {}
                Ok(Some(block)) => return Some(Ok(block)),
                Err(reason) => {
                    self.rest = &[];
                    return Some(Err(ImportError::Invalid { number, reason: Box::new(reason) }));
                }
            }
        }
        None
    }
}

/// Imports a file of concatenated block RLP (as `geth export` writes) onto a genesis, in memory. `progress` hears bytes
/// done and bytes in all after each block.
pub fn import_chain(
    genesis: &Path,
    chain: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<ImportReport, ImportError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| ImportError::Io { path: path.to_path_buf(), source })
    };
    let spec = Arc::new(ChainSpec::from_genesis_json(&read(genesis)?)?);
    let bytes = read(chain)?;
    let started = Instant::now();
    let (_, store) =
        ironlane_state::open_empty(StateConfig::default()).map_err(|e| ImportError::State(e.to_string()))?;
    let trie = Trie::new(TrieConfig::default()).map_err(|e| ImportError::Trie(e.to_string()))?;
    let mut importer = Importer::new(spec, store, trie, ExecutorConfig::default())?;
    let (mut blocks, mut transactions) = (0, 0);
    let mut imports = importer.import_all(&bytes);
    while let Some(imported) = imports.next() {
        blocks += 1;
        transactions += imported?.txs.len() as u64;
        progress(imports.done(), bytes.len() as u64);
    }
    Ok(ImportReport {
        blocks,
        transactions,
        head_hash: importer.head_hash(),
        state_root: importer.head().state_root,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn decode(rlp: &[u8]) -> Result<Block<TxEnvelope>, InvalidBlock> {
    let mut rest = rlp;
    let block = Block::<TxEnvelope>::decode(&mut rest).map_err(|e| InvalidBlock::Rlp(e.to_string()))?;
    if !rest.is_empty() {
        return Err(InvalidBlock::Rlp(format!("{} bytes follow the block", rest.len())));
    }
    let mut again = Vec::with_capacity(rlp.len());
    block.encode(&mut again);
    if again != rlp {
        return Err(InvalidBlock::Rlp("it is not canonically encoded".into()));
    }
    Ok(block)
}

/// Bytes of the RLP item at the front.
fn item_length(bytes: &[u8]) -> Result<usize, alloy_rlp::Error> {
    let mut rest = bytes;
    let head = alloy_rlp::Header::decode(&mut rest)?;
    let length = bytes.len() - rest.len() + head.payload_length;
    if length > bytes.len() { Err(alloy_rlp::Error::InputTooShort) } else { Ok(length) }
}

/// Receipts before Byzantium hold the state root after their transaction in place of a status.
fn old_receipts_root(txs: &[Arc<ExecutedTx>], roots: &[B256]) -> B256 {
    let receipts: Vec<_> = txs
        .iter()
        .zip(roots)
        .map(|(tx, root)| {
            Receipt {
                status: Eip658Value::PostState(*root),
                cumulative_gas_used: tx.cumulative_gas_used,
                logs: tx.outcome.logs.clone(),
            }
            .with_bloom()
        })
        .collect();
    ordered_trie_root_with_encoder(&receipts, |receipt, out| receipt.encode(out))
}

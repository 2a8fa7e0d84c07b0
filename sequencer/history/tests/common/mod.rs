//! A chain made from a seed: real encodings, hashes and blooms, invented content.
#![allow(dead_code)]

use alloy_consensus::{Header, SignableTransaction, TxEip1559, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, Signature, TxKind, U256, keccak256};
use ironlane_types::{ExecutedTx, MiniBlock, MiniBlockHeader, Outcome, SealedBlock, Tx, TxEnvelope};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

/// A chain that grows.
pub(crate) struct Chain {
    rng: StdRng,
    parent: B256,
    number: u64,
    seq: u64,
    height: u64,
    version: u64,
}

/// A block with its mini-blocks, ready to be published.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) block: SealedBlock,
    pub(crate) minis: Vec<MiniBlock>,
}

pub(crate) fn address(n: u8) -> Address {
    Address::repeat_byte(n)
}

pub(crate) fn topic(n: u8) -> B256 {
    B256::repeat_byte(n)
}

impl Chain {
    pub(crate) fn new(seed: u64) -> Self {
        Chain {
            rng: StdRng::seed_from_u64(seed),
            parent: B256::ZERO,
            number: 0,
            seq: 0,
            height: 0,
            version: 0,
        }
    }

    /// The next block: `txs` transactions in at most `minis` mini-blocks (none: an imported block).
    pub(crate) fn next(&mut self, txs: usize, minis: usize) -> Made {
        let mut executed = Vec::new();
        let (mut gas, mut logs) = (0, 0);
        for index in 0..txs {
            let tx = self.tx();
            let outcome = self.outcome();
            gas += outcome.gas_used;
            let first_log_index = logs;
            logs += outcome.logs.len() as u32;
            executed.push(Arc::new(ExecutedTx {
                seq: self.seq,
                tx: Arc::new(tx),
                outcome,
                cumulative_gas_used: gas,
                index_in_block: index as u32,
                first_log_index,
            }));
            self.seq += 1;
        }
        let minis = self.minis(&executed, minis);
        self.version += 1;
        let bloom: Bloom = executed.iter().flat_map(|tx| tx.outcome.logs.iter()).collect();
        let header = Header {
            parent_hash: self.parent,
            number: self.number,
            timestamp: 1_700_000_000 + self.number,
            gas_used: gas,
            logs_bloom: bloom,
            base_fee_per_gas: Some(self.rng.random_range(1..1_000_000)),
            withdrawals_root: Some(B256::ZERO),
            ..Header::default()
        };
        let hash = header.hash_slow();
        let withdrawals = (!self.number.is_multiple_of(3)).then(|| {
            (0..self.number % 4)
                .map(|index| Withdrawal { index, validator_index: 7, address: address(9), amount: 5 })
                .collect()
        });
        let ommers = if self.number % 5 == 4 { vec![Header::default()] } else { Vec::new() };
        self.parent = hash;
        self.number += 1;
        let block =
            SealedBlock { hash, header, txs: executed, withdrawals, ommers, state_version: self.version };
        Made { block, minis }
    }

    fn minis(&mut self, txs: &[Arc<ExecutedTx>], count: usize) -> Vec<MiniBlock> {
        let mut minis = Vec::new();
        let mut rest = txs;
        for left in (1..=count).rev() {
            if rest.is_empty() {
                break;
            }
            let take = if left == 1 { rest.len() } else { self.rng.random_range(1..=rest.len()) };
            let (these, later) = rest.split_at(take);
            rest = later;
            self.height += 1;
            self.version += 1;
            let header = MiniBlockHeader {
                height: self.height,
                parent: self.rng.random::<[u8; 32]>().into(),
                block_number: self.number,
                first_seq: these[0].seq,
                tx_count: these.len() as u32,
                timestamp_us: 1_700_000_000_000_000 + self.height,
                txs_root: self.rng.random::<[u8; 32]>().into(),
            };
            minis.push(MiniBlock {
                digest: keccak256(self.height.to_le_bytes()),
                header,
                signature: [self.height as u8; 65],
                txs: these.to_vec(),
                state_version: self.version,
            });
        }
        minis
    }

    fn tx(&mut self) -> Tx {
        let input: Vec<u8> = (0..self.rng.random_range(0..80)).map(|_| self.rng.random()).collect();
        let signature = Signature::new(U256::from(self.seq + 1), U256::from(self.rng.random::<u64>()), true);
        let to = if self.rng.random_ratio(1, 8) {
            TxKind::Create
        } else {
            TxKind::Call(address(self.rng.random()))
        };
        let envelope: TxEnvelope = if self.rng.random() {
            let tx = TxLegacy {
                nonce: self.seq,
                to,
                input: input.into(),
                chain_id: Some(1),
                ..Default::default()
            };
            tx.into_signed(signature).into()
        } else {
            let tx =
                TxEip1559 { nonce: self.seq, to, input: input.into(), chain_id: 1, ..Default::default() };
            tx.into_signed(signature).into()
        };
        let raw: Bytes = envelope.encoded_2718().into();
        Tx { hash: keccak256(&raw), sender: address(self.rng.random_range(0..8)), envelope, raw }
    }

    fn outcome(&mut self) -> Outcome {
        let logs = (0..self.rng.random_range(0..3usize))
            .map(|_| {
                let topics = (0..self.rng.random_range(0..=4usize))
                    .map(|_| topic(self.rng.random_range(0..6)))
                    .collect();
                let data = vec![1; self.rng.random_range(0..40)];
                Log::new_unchecked(address(self.rng.random_range(0..5)), topics, data.into())
            })
            .collect();
        Outcome {
            success: self.rng.random(),
            gas_used: self.rng.random_range(21_000..90_000),
            effective_gas_price: self.rng.random(),
            logs,
            contract_address: self.rng.random_ratio(1, 6).then(|| address(self.rng.random())),
        }
    }
}

/// Whether two transactions are the same in everything that the history keeps.
pub(crate) fn same_tx(a: &ExecutedTx, b: &ExecutedTx) -> bool {
    a.seq == b.seq
        && a.tx.hash == b.tx.hash
        && a.tx.sender == b.tx.sender
        && a.tx.raw == b.tx.raw
        && a.tx.envelope == b.tx.envelope
        && a.outcome == b.outcome
        && a.cumulative_gas_used == b.cumulative_gas_used
        && a.index_in_block == b.index_in_block
        && a.first_log_index == b.first_log_index
}

/// Whether two blocks are the same.
pub(crate) fn same_block(a: &SealedBlock, b: &SealedBlock) -> bool {
    a.hash == b.hash
        && a.header == b.header
        && a.withdrawals == b.withdrawals
        && a.ommers == b.ommers
        && a.state_version == b.state_version
        && a.txs.len() == b.txs.len()
        && a.txs.iter().zip(&b.txs).all(|(a, b)| same_tx(a, b))
}

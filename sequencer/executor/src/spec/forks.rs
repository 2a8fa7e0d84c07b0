//! When which fork begins.

use crate::SpecError;
use alloy_eips::eip7840::BlobParams;
use alloy_primitives::U256;
use revm::primitives::hardfork::SpecId;

/// Activation blocks before the merge, times after it; `None`: never.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)] // Each field is the block, or the time, of the fork that it is named after.
pub struct ForkSchedule {
    pub homestead: Option<u64>,
    /// The DAO fork with its irregular state change.
    pub dao: Option<u64>,
    pub tangerine_whistle: Option<u64>,
    pub spurious_dragon: Option<u64>,
    pub byzantium: Option<u64>,
    pub constantinople: Option<u64>,
    pub petersburg: Option<u64>,
    pub istanbul: Option<u64>,
    pub muir_glacier: Option<u64>,
    pub berlin: Option<u64>,
    pub london: Option<u64>,
    pub arrow_glacier: Option<u64>,
    pub gray_glacier: Option<u64>,
    /// First block after the merge, where the genesis knows it.
    pub merge: Option<u64>,
    /// Total difficulty that ends proof of work; `None`: it never ends.
    pub terminal_total_difficulty: Option<U256>,
    pub shanghai_time: Option<u64>,
    pub cancun_time: Option<u64>,
    pub prague_time: Option<u64>,
    pub osaka_time: Option<u64>,
    /// Blob parameters with the time from which they hold, oldest first.
    pub blob_schedule: Vec<(u64, BlobParams)>,
}

impl ForkSchedule {
    /// Every fork up to and including `spec`, from genesis on; mainnet's blob parameters.
    pub fn all_until(spec: SpecId) -> Self {
        let at = |fork: SpecId| spec.is_enabled_in(fork).then_some(0);
        let merged = spec.is_enabled_in(SpecId::MERGE);
        let mut blob_schedule = Vec::new();
        for (fork, params) in [
            (SpecId::CANCUN, BlobParams::cancun()),
            (SpecId::PRAGUE, BlobParams::prague()),
            (SpecId::OSAKA, BlobParams::osaka()),
        ] {
            if spec.is_enabled_in(fork) {
                blob_schedule = vec![(0, params)];
            }
        }
        Self {
            homestead: at(SpecId::HOMESTEAD),
            dao: None,
            tangerine_whistle: at(SpecId::TANGERINE),
            spurious_dragon: at(SpecId::SPURIOUS_DRAGON),
            byzantium: at(SpecId::BYZANTIUM),
            constantinople: at(SpecId::PETERSBURG),
            petersburg: at(SpecId::PETERSBURG),
            istanbul: at(SpecId::ISTANBUL),
            muir_glacier: at(SpecId::BERLIN),
            berlin: at(SpecId::BERLIN),
            london: at(SpecId::LONDON),
            arrow_glacier: at(SpecId::MERGE),
            gray_glacier: at(SpecId::MERGE),
            merge: at(SpecId::MERGE),
            terminal_total_difficulty: merged.then_some(U256::ZERO),
            shanghai_time: at(SpecId::SHANGHAI),
            cancun_time: at(SpecId::CANCUN),
            prague_time: at(SpecId::PRAGUE),
            osaka_time: at(SpecId::OSAKA),
            blob_schedule,
        }
    }

    /// Whether the schedule alone says that a block comes after the merge: its height, or a fork that begins later.
    pub fn merged_by_schedule(&self, number: u64, timestamp: u64) -> bool {
        reached(self.merge, number)
            || reached(self.shanghai_time, timestamp)
            || self.terminal_total_difficulty.is_some_and(|ttd| ttd.is_zero())
    }

    /// revm's name of the rules. revm knows Constantinople only as Petersburg, which removed EIP-1283 from it.
    pub fn spec_id(&self, number: u64, timestamp: u64, merged: bool) -> SpecId {
        if merged {
            for (time, spec) in [
                (self.osaka_time, SpecId::OSAKA),
                (self.prague_time, SpecId::PRAGUE),
                (self.cancun_time, SpecId::CANCUN),
                (self.shanghai_time, SpecId::SHANGHAI),
            ] {
                if reached(time, timestamp) {
                    return spec;
                }
            }
            return SpecId::MERGE;
        }
        for (block, spec) in [
            (self.london, SpecId::LONDON),
            (self.berlin, SpecId::BERLIN),
            (self.istanbul, SpecId::ISTANBUL),
            (self.petersburg, SpecId::PETERSBURG),
            (self.constantinople, SpecId::PETERSBURG),
            (self.byzantium, SpecId::BYZANTIUM),
            (self.spurious_dragon, SpecId::SPURIOUS_DRAGON),
            (self.tangerine_whistle, SpecId::TANGERINE),
            (self.homestead, SpecId::HOMESTEAD),
        ] {
            if reached(block, number) {
                return spec;
            }
        }
        SpecId::FRONTIER
    }

    /// Blob parameters at a time; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        self.blob_schedule.iter().rev().find(|(time, _)| timestamp >= *time).map(|(_, params)| *params)
    }

    /// Wei that the miner of a block gets (before the merge; zero after it).
    pub fn block_reward(&self, number: u64, merged: bool) -> U256 {
        const ETHER: u64 = 1_000_000_000_000_000_000;
        if merged {
            return U256::ZERO;
        }
        let ethers = if reached(self.constantinople, number) || reached(self.petersburg, number) {
            2
        } else if reached(self.byzantium, number) {
            3
        } else {
            5
        };
        U256::from(ethers * ETHER)
    }

    /// By how many blocks the difficulty bomb was put off (EIP-649, 1234, 2384, 3554, 4345, 5133).
    pub fn bomb_delay(&self, number: u64) -> u64 {
        for (block, delay) in [
            (self.gray_glacier, 11_400_000),
            (self.arrow_glacier, 10_700_000),
            (self.london, 9_700_000),
            (self.muir_glacier, 9_000_000),
            (self.petersburg, 5_000_000),
            (self.constantinople, 5_000_000),
            (self.byzantium, 3_000_000),
        ] {
            if reached(block, number) {
                return delay;
            }
        }
        0
    }

    /// Refuses a schedule whose forks are out of order: rules build on each other.
    pub(crate) fn check_order(&self) -> Result<(), SpecError> {
        let blocks = [
            ("homesteadBlock", self.homestead),
            ("eip150Block", self.tangerine_whistle),
            ("eip158Block", self.spurious_dragon),
            ("byzantiumBlock", self.byzantium),
            ("constantinopleBlock", self.constantinople),
            ("petersburgBlock", self.petersburg),
            ("istanbulBlock", self.istanbul),
            ("berlinBlock", self.berlin),
            ("londonBlock", self.london),
        ];
        let times = [
            ("shanghaiTime", self.shanghai_time),
            ("cancunTime", self.cancun_time),
            ("pragueTime", self.prague_time),
            ("osakaTime", self.osaka_time),
        ];
        for list in [&blocks[..], &times[..]] {
            for pair in list.windows(2) {
                let ((earlier, first), (later, second)) = (pair[0], pair[1]);
                if second.is_some_and(|second| first.is_none_or(|first| first > second)) {
                    return Err(SpecError::ForkOrder { earlier, later });
                }
            }
        }
        Ok(())
    }
}

fn reached(fork: Option<u64>, now: u64) -> bool {
    fork.is_some_and(|fork| now >= fork)
}

//! The CPUs of a machine and how they hang together.

use crate::{CpuSet, CpuSetError, sysfs};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One logical CPU that is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// The kernel's number.
    pub id: usize,
    /// Socket, as the firmware numbers it.
    pub package: usize,
    /// Physical core: an index from 0 over the whole machine. CPUs with the same number are SMT siblings.
    pub core: usize,
    /// Place among the SMT siblings of its core: 0 for the sibling with the lowest number.
    pub smt_rank: usize,
    /// NUMA node; 0 where the kernel knows none.
    pub numa_node: usize,
    /// Last-level (L3) cache group: an index from 0 over the machine; `None` where the kernel shows no L3.
    pub l3: Option<usize>,
    /// Relative capacity, 1024 for the fastest, where the kernel tells (big and little cores on Arm).
    pub capacity: Option<u32>,
}

/// The machine's CPUs, and what this process may use of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CpuTopology {
    /// Online CPUs in ascending order; never empty.
    pub cpus: Vec<Cpu>,
    /// CPUs that the scheduler leaves alone (`isolcpus`, or an isolated cpuset partition).
    pub isolated: CpuSet,
    /// CPUs without the periodic tick while one thread runs (`nohz_full`).
    pub nohz_full: CpuSet,
    /// The affinity mask of this process (cgroup cpusets narrow it too).
    pub allowed: CpuSet,
    /// CPU time that the cgroup grants, in thousandths of a CPU; `None` when it is not limited.
    pub quota_milli: Option<u64>,
}

/// Why the topology could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostInfoError {
    /// A file that every Linux has is missing or unreadable.
    #[error("{path} could not be read ({source}): is sysfs mounted at /sys and procfs at /proc?", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold a CPU list.
    #[error("{path}: {source}", path = path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What it held.
        source: CpuSetError,
    },
    /// A file does not hold a number.
    #[error("{path} holds `{text}` where a number was expected", path = path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// What it held.
        text: String,
    },
    /// No CPU is online: the tree is not one of a running machine.
    #[error("{path} names no online CPU: this is not the sysfs of a running machine", path = path.display())]
    NoCpu {
        /// The file.
        path: PathBuf,
    },
    /// hwloc could not be asked, or answered something unusable.
    #[error("hwloc: {0}")]
    Hwloc(String),
}

impl CpuTopology {
    /// Reads the machine below `root` (`/` for this machine; tests give a folder with `sys` and `proc` in it).
    ///
    /// # Errors
    ///
    /// [`HostInfoError`] when the list of online CPUs or a CPU's own files are missing or damaged. What not every kernel
    /// has (NUMA, caches, isolation, cgroups, capacities) is simply absent from the answer.
    pub fn read(root: &Path) -> Result<CpuTopology, HostInfoError> {
        sysfs::read(root)
    }

    /// A machine of `cpus` equal single-thread cores on one socket, all allowed: for where sysfs cannot be read.
    pub fn flat(cpus: usize) -> CpuTopology {
        let count = cpus.max(1);
        let cpu = |id| Cpu { id, package: 0, core: id, smt_rank: 0, numa_node: 0, l3: None, capacity: None };
        CpuTopology {
            cpus: (0..count).map(cpu).collect(),
            isolated: CpuSet::default(),
            nohz_full: CpuSet::default(),
            allowed: (0..count).collect(),
            quota_milli: None,
        }
    }

    /// The CPU with this number, if it is online.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok().map(|at| &self.cpus[at])
    }

    /// Numbers of the online CPUs.
    pub fn online(&self) -> CpuSet {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// The CPUs that a thread may be bound to. The default mask leaves isolated CPUs out although binding to them is
    /// their very purpose; so they count as usable, unless somebody has narrowed the mask (taskset, a cpuset) by hand.
    pub fn usable(&self) -> CpuSet {
        let online = self.online();
        let allowed = self.allowed.intersection(&online);
        match allowed == online.difference(&self.isolated) {
            true => allowed.union(&self.isolated.intersection(&online)),
            false => allowed,
        }
    }

    /// Physical cores with at least one usable CPU: core index to its usable CPUs, first sibling first.
    pub fn usable_cores(&self) -> BTreeMap<usize, Vec<&Cpu>> {
        let usable = self.usable();
        let mut cores: BTreeMap<usize, Vec<&Cpu>> = BTreeMap::new();
        for cpu in self.cpus.iter().filter(|cpu| usable.contains(cpu.id)) {
            cores.entry(cpu.core).or_default().push(cpu);
        }
        cores
    }

    /// Physical cores that the process can keep busy: usable cores, or fewer when a cgroup grants less CPU time.
    pub fn effective_cores(&self) -> usize {
        let cores = self.usable_cores().len();
        let granted = self.quota_milli.map_or(cores, |milli| (milli / 1000).max(1) as usize);
        cores.min(granted).max(1)
    }

    /// Number of sockets.
    pub fn packages(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.package).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Number of physical cores online.
    pub fn cores(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.core).max().map_or(0, |last| last + 1)
    }

    /// Whether the scheduler leaves this CPU alone.
    pub fn is_isolated(&self, id: usize) -> bool {
        self.isolated.contains(id)
    }
}

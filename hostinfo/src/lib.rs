//! What the machine is: CPUs, physical cores, SMT siblings, caches, NUMA nodes, isolation, and what of it this process may use.
//!
//! The door is [`CpuTopology::read`]: it takes the root of a file tree (`/` on a live machine, a fixture in tests), reads
//! `sys/devices/system` and `proc/self` below it, and writes nothing. Whoever places threads asks [`CpuTopology::usable`]
//! for the CPUs that may be bound to, and each [`Cpu`] for its physical core, so that two busy threads do not end up on
//! the two halves of one core. With the feature `hwloc` the same facts can be read through hwloc and compared
//! (`hwloc::cross_check`).

mod cpu_set;
#[cfg(feature = "hwloc")]
pub mod hwloc;
mod sysfs;
mod topology;

pub use cpu_set::{CpuSet, CpuSetError};
pub use topology::{Cpu, CpuTopology, HostInfoError};

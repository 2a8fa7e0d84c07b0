//! From the machine's topology to cores that lanes may have.

use crate::topology::{Topology, TopologyError};
use crate::{Cores, place};
use ironlane_hostinfo::CpuTopology;
use std::path::Path;

impl Cores {
    /// One CPU for each physical core that may be used, nearest first: the NUMA node with the most usable cores, then by
    /// number; where cores differ in capacity, the fast ones first. A cgroup's limit of CPU time shortens the list.
    pub fn of(host: &CpuTopology) -> Cores {
        let cores: Vec<_> =
            host.usable_cores().into_values().filter_map(|siblings| siblings.into_iter().next()).collect();
        let on_node = |node| cores.iter().filter(|cpu| cpu.numa_node == node).count();
        let mut order = cores.clone();
        order.sort_by_key(|cpu| {
            let slowness = std::cmp::Reverse(cpu.capacity.unwrap_or(1024));
            (slowness, std::cmp::Reverse(on_node(cpu.numa_node)), cpu.numa_node, cpu.id)
        });
        order.truncate(host.effective_cores());
        let physical: Vec<usize> = order.into_iter().map(|cpu| cpu.id).collect();
        let isolated = physical.iter().copied().filter(|id| host.is_isolated(*id)).collect();
        Cores { physical, isolated }
    }
}

impl Topology {
    /// `auto`: a profile for this machine, placed on its cores. Anything else as [`Topology::open`].
    ///
    /// # Errors
    ///
    /// As [`Topology::open`].
    pub fn choose(name_or_path: &str, host: &CpuTopology) -> Result<Topology, TopologyError> {
        match name_or_path {
            "auto" => place(&Cores::of(host)),
            other => Topology::open(other),
        }
    }
}

/// What this machine is. Where sysfs cannot be read the machine is taken for as many equal cores as the standard library
/// counts, and the reason is logged. With the feature `hwloc` a disagreement between sysfs and hwloc is logged too.
pub fn read_host() -> CpuTopology {
    let host = match CpuTopology::read(Path::new("/")) {
        Ok(host) => host,
        Err(error) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            tracing::warn!(%error, cores, "the CPU topology is unknown: taking all CPUs for equal cores");
            return CpuTopology::flat(cores);
        }
    };
    #[cfg(feature = "hwloc")]
    match ironlane_hostinfo::hwloc::cross_check(&host) {
        Ok(differences) if differences.is_empty() => tracing::debug!("hwloc agrees with sysfs"),
        Ok(differences) => {
            let text = differences.join("; ");
            tracing::warn!(differences = text, "hwloc sees other CPUs than sysfs: sysfs is used");
        }
        Err(error) => tracing::warn!(%error, "hwloc could not be asked"),
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironlane_hostinfo::Cpu;

    /// `nodes` NUMA nodes of `cores` cores with two threads each; siblings are `nodes * cores` apart.
    fn machine(nodes: usize, cores: usize) -> CpuTopology {
        let all = nodes * cores;
        let mut host = CpuTopology::flat(2 * all);
        for cpu in &mut host.cpus {
            let core = cpu.id % all;
            *cpu =
                Cpu { core, smt_rank: cpu.id / all, numa_node: core / cores, package: core / cores, ..*cpu };
        }
        host
    }

    #[test]
    fn siblings_are_left_idle_and_nodes_are_filled_one_after_the_other() {
        let cores = Cores::of(&machine(2, 4));
        assert_eq!(cores.physical, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(cores.isolated.is_empty());
    }

    #[test]
    fn the_node_with_more_usable_cores_comes_first() {
        let mut host = machine(2, 4);
        host.allowed = (3..8).collect();
        assert_eq!(Cores::of(&host).physical, [4, 5, 6, 7, 3]);
    }

    #[test]
    fn fast_cores_come_first_and_a_quota_counts() {
        let mut host = CpuTopology::flat(6);
        for cpu in &mut host.cpus {
            cpu.capacity = Some(if cpu.id < 4 { 446 } else { 1024 });
        }
        assert_eq!(Cores::of(&host).physical, [4, 5, 0, 1, 2, 3]);
        host.quota_milli = Some(2500);
        assert_eq!(Cores::of(&host).physical, [4, 5]);
        assert_eq!(Topology::choose("auto", &host).expect("fits").name, "duo");
    }

    #[test]
    fn isolated_cores_are_known_although_the_mask_leaves_them_out() {
        let mut host = CpuTopology::flat(8);
        host.isolated = (2..8).collect();
        host.allowed = (0..2).collect();
        let cores = Cores::of(&host);
        assert_eq!(cores.physical.len(), 8);
        assert_eq!(cores.isolated, [2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn this_machine_gets_a_layout() {
        let host = read_host();
        let topology = Topology::choose("auto", &host).expect("every machine gets one");
        topology.check().expect("it is valid");
        let usable = host.usable();
        assert!(topology.lanes.iter().filter_map(|lane| lane.core).all(|core| usable.contains(core)));
        assert_eq!(Topology::choose("duo", &host).expect("a profile").name, "duo");
    }
}

//! `auto`: a profile for the machine at hand, with its lanes laid on cores.

use crate::topology::{Policy, Topology, TopologyError};

/// What placement needs to know of a machine. All lists hold logical CPU numbers that this process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cores {
    /// One logical CPU for each physical core (its siblings are left idle), in order of NUMA node, then number.
    pub physical: Vec<usize>,
    /// CPUs that the kernel schedules nothing on by itself (`isolcpus`).
    pub isolated: Vec<usize>,
}

/// Fewest cores on which recovery workers are pinned. Below, lanes, workers, JSON-RPC and the kernel share so few cores
/// that the scheduler fills the gaps better than a fixed layout.
const PINNED_WORKERS_CORES_MIN: usize = 8;

/// Chooses a profile by the number of cores (below 4 `duo`, below 16 `quad`, else `sixteen`) and pins each lane that does
/// not float to a core of its own where there are enough: isolated cores first, and they poll for ever; the ordinary core
/// with the lowest number is left to the operating system. Recovery workers get the other cores. On fewer than 4 cores
/// nothing is pinned.
pub fn place(cores: &Cores) -> Result<Topology, TopologyError> {
    let name = match cores.physical.len() {
        0..4 => "duo",
        4..16 => "quad",
        _ => "sixteen",
    };
    let mut topology = Topology::profile(name)?;
    let is_isolated = |core: &usize| cores.isolated.contains(core);
    let mut order: Vec<usize> = cores.physical.iter().filter(|core| is_isolated(core)).copied().collect();
    let ordinary: Vec<usize> = cores.physical.iter().filter(|core| !is_isolated(core)).copied().collect();
    // One ordinary core keeps house: interrupts, shells, the console. Most interrupts go to the lowest number.
    let house = ordinary.iter().copied().min();
    order.extend(ordinary.iter().copied().filter(|core| Some(*core) != house));
    let fixed = topology.lanes.iter().filter(|lane| !lane.float).count();
    if name == "duo" || order.len() < fixed {
        for lane in &mut topology.lanes {
            lane.core = None;
            lane.policy = Policy::Shared;
        }
        topology.auth.cores.clear();
        topology.auth.workers = cores.physical.len().max(1);
        return Ok(topology);
    }
    let mut free = order.into_iter();
    for lane in &mut topology.lanes {
        lane.core = if lane.float { None } else { free.next() };
        let isolated = lane.core.is_some_and(|core| is_isolated(&core));
        lane.policy = if isolated { Policy::Busy } else { Policy::Shared };
    }
    let rest: Vec<usize> = free.collect();
    if cores.physical.len() < PINNED_WORKERS_CORES_MIN {
        topology.auth.workers = (cores.physical.len() - fixed).max(1);
        topology.auth.cores.clear();
    } else {
        topology.auth.workers = rest.len().max(1);
        topology.auth.cores = rest;
    }
    topology.check()?;
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, isolated: std::ops::Range<usize>) -> Cores {
        Cores { physical: (0..cores).collect(), isolated: isolated.collect() }
    }

    #[test]
    fn small_machines_are_left_to_the_scheduler() {
        let topology = place(&machine(2, 0..0)).expect("fits");
        assert_eq!((topology.name.as_str(), topology.auth.workers), ("duo", 2));
        assert!(topology.lanes.iter().all(|lane| lane.core.is_none() && lane.policy == Policy::Shared));
    }

    #[test]
    fn lanes_get_cores_of_their_own_and_core_zero_keeps_house() {
        for cores in [4, 6, 16, 64] {
            let topology = place(&machine(cores, 0..0)).expect("fits");
            let mut used: Vec<usize> = topology.lanes.iter().filter_map(|lane| lane.core).collect();
            used.extend(&topology.auth.cores);
            let count = used.len();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used.len(), count, "no core twice");
            if !used.is_empty() && cores > topology.lanes.len() {
                assert!(!used.contains(&0), "core 0 keeps house on {cores} cores");
            }
        }
    }

    #[test]
    fn four_cores_leave_two_for_recovery() {
        let topology = place(&machine(4, 0..0)).expect("fits");
        let pinned: Vec<_> = topology.lanes.iter().filter_map(|lane| lane.core).collect();
        assert_eq!((pinned, topology.auth.workers), (vec![1, 2], 2));
        assert!(topology.auth.cores.is_empty());
        let topology = place(&machine(8, 0..0)).expect("fits");
        assert_eq!(topology.auth.cores, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn isolated_cores_poll() {
        let topology = place(&machine(16, 2..16)).expect("fits");
        assert!(topology.lanes.iter().all(|lane| lane.policy == Policy::Busy));
        assert!(topology.lanes.iter().all(|lane| lane.core.is_some_and(|core| core >= 2)));
        assert_eq!(topology.auth.cores.len(), topology.auth.workers);
    }
}

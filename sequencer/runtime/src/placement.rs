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

/// Chooses a profile by the number of cores (below 4 `duo`, below 16 `quad`, else `sixteen`) and pins each lane to a core
/// of its own where there are enough: isolated cores first, and they poll for ever; the first ordinary core is left to
/// the operating system. On fewer cores than lanes nothing is pinned: the scheduler does better than a guess.
pub fn place(cores: &Cores) -> Result<Topology, TopologyError> {
    let name = match cores.physical.len() {
        0..4 => "duo",
        4..16 => "quad",
        _ => "sixteen",
    };
    let mut topology = Topology::profile(name)?;
    let is_isolated = |core: &&usize| cores.isolated.contains(core);
    let mut order: Vec<usize> = cores.physical.iter().filter(is_isolated).copied().collect();
    let ordinary = cores.physical.iter().filter(|core| !is_isolated(core)).copied();
    // The first ordinary core keeps house: interrupts, shells, the console.
    order.extend(ordinary.skip(usize::from(cores.physical.len() > topology.lanes.len())));
    if order.len() < topology.lanes.len() {
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
        lane.core = free.next();
        let isolated = lane.core.is_some_and(|core| cores.isolated.contains(&core));
        lane.policy = if isolated { Policy::Busy } else { Policy::Shared };
    }
    let rest: Vec<usize> = free.collect();
    topology.auth.workers = rest.len().max(1);
    topology.auth.cores = rest;
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
    fn isolated_cores_poll() {
        let topology = place(&machine(16, 2..16)).expect("fits");
        assert!(topology.lanes.iter().all(|lane| lane.policy == Policy::Busy));
        assert!(topology.lanes.iter().all(|lane| lane.core.is_some_and(|core| core >= 2)));
        assert_eq!(topology.auth.cores.len(), topology.auth.workers);
    }
}

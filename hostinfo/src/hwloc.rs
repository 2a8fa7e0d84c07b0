//! The same facts through hwloc, as a second opinion on what sysfs says.

use crate::{Cpu, CpuSet, CpuTopology, HostInfoError};
use hwlocality::Topology;
use hwlocality::object::types::ObjectType;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads this machine through hwloc. hwloc knows nothing of isolation, quotas and the tick, so these come from sysfs.
///
/// # Errors
///
/// [`HostInfoError::Hwloc`] when hwloc refuses or names no CPU; otherwise as [`CpuTopology::read`].
pub fn read() -> Result<CpuTopology, HostInfoError> {
    let kernel = CpuTopology::read(Path::new("/"))?;
    let topology = Topology::new().map_err(|error| HostInfoError::Hwloc(error.to_string()))?;
    let mut cores = BTreeMap::new();
    let mut caches = BTreeMap::new();
    let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
    let mut units: Vec<_> = topology
        .objects_with_type(ObjectType::PU)
        .filter_map(|unit| Some((unit.os_index()?, unit)))
        .collect();
    units.sort_by_key(|(id, _)| *id);
    let mut cpus = Vec::with_capacity(units.len());
    for (id, unit) in units {
        let ancestor = |kind| unit.first_ancestor_with_type(kind);
        let next = cores.len();
        let core = match ancestor(ObjectType::Core) {
            Some(core) => *cores.entry((true, core.logical_index())).or_insert(next),
            None => *cores.entry((false, id)).or_insert(next),
        };
        let rank = ranks.entry(core).or_insert(0);
        let smt_rank = *rank;
        *rank += 1;
        let l3 = ancestor(ObjectType::L3Cache).map(|cache| {
            let next = caches.len();
            *caches.entry(cache.logical_index()).or_insert(next)
        });
        let package = ancestor(ObjectType::Package).and_then(|package| package.os_index()).unwrap_or(0);
        // NUMA nodes hang beside the tree: the node is the one whose CPU set holds this unit.
        let numa_node = topology
            .objects_with_type(ObjectType::NUMANode)
            .find(|node| node.cpuset().zip(unit.cpuset()).is_some_and(|(node, unit)| node.includes(&*unit)))
            .and_then(|node| node.os_index())
            .unwrap_or(0);
        let capacity = kernel.cpu(id).and_then(|cpu| cpu.capacity);
        cpus.push(Cpu { id, package, core, smt_rank, numa_node, l3, capacity });
    }
    if cpus.is_empty() {
        return Err(HostInfoError::Hwloc("it names no processing unit".into()));
    }
    let allowed: CpuSet = topology.allowed_cpuset().iter_set().map(usize::from).collect();
    let allowed = allowed.intersection(&kernel.allowed);
    Ok(CpuTopology { cpus, allowed, ..kernel })
}

/// Where hwloc and sysfs disagree about this machine, one sentence each; empty when they agree.
///
/// # Errors
///
/// As [`read`].
pub fn cross_check(sysfs: &CpuTopology) -> Result<Vec<String>, HostInfoError> {
    let hwloc = read()?;
    let mut differences = Vec::new();
    if sysfs.online() != hwloc.online() {
        let text = format!("sysfs has CPUs {} online, hwloc {}", sysfs.online(), hwloc.online());
        differences.push(text);
    }
    for ours in &sysfs.cpus {
        let Some(theirs) = hwloc.cpu(ours.id) else { continue };
        if ours != theirs {
            differences.push(format!("CPU {}: sysfs says {ours:?}, hwloc {theirs:?}", ours.id));
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hwloc_and_sysfs_agree_about_this_machine() {
        let sysfs = CpuTopology::read(Path::new("/")).expect("sysfs is readable");
        assert_eq!(cross_check(&sysfs).expect("hwloc answers"), Vec::<String>::new());
    }
}

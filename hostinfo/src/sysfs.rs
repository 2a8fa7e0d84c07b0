//! Reads the topology from `sys/devices/system/cpu`, `sys/devices/system/node`, `proc/self` and the cgroup tree.

use crate::{Cpu, CpuSet, CpuTopology, HostInfoError};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Cache indices looked at for each CPU; real machines have four or five.
const CACHE_INDICES_MAX: usize = 16;

pub(crate) fn read(root: &Path) -> Result<CpuTopology, HostInfoError> {
    let system = root.join("sys/devices/system");
    let online_path = system.join("cpu/online");
    let online: CpuSet = list(&online_path)?.ok_or_else(|| missing(&online_path))?;
    if online.is_empty() {
        return Err(HostInfoError::NoCpu { path: online_path });
    }
    let nodes = numa_nodes(&system)?;
    // Core ids repeat between sockets and may have gaps: (package, die, core id) is what is unique.
    let mut cores: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
    let mut siblings_seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut l3_groups: BTreeMap<String, usize> = BTreeMap::new();
    let mut cpus = Vec::with_capacity(online.len());
    for id in online.iter() {
        let folder = system.join(format!("cpu/cpu{id}"));
        // Some virtual machines and Arm boards leave package or die at -1, or out: then there is one.
        let package = unsigned(&folder.join("topology/physical_package_id"))?.unwrap_or(0);
        let die = unsigned(&folder.join("topology/die_id"))?.unwrap_or(0);
        let core_id = unsigned(&folder.join("topology/core_id"))?;
        let key = match core_id {
            Some(core_id) => (package, die, core_id),
            // Without a core id each CPU counts as a core of its own, told apart by its number.
            None => (package, usize::MAX, id),
        };
        let next = cores.len();
        let core = *cores.entry(key).or_insert(next);
        let rank = siblings_seen.entry(core).or_insert(0);
        let smt_rank = *rank;
        *rank += 1;
        let l3 = l3_list(&folder)?.map(|shared| {
            let next = l3_groups.len();
            *l3_groups.entry(shared.to_string()).or_insert(next)
        });
        let capacity = unsigned(&folder.join("cpu_capacity"))?.and_then(|c| u32::try_from(c).ok());
        let numa_node = nodes.get(&id).copied().unwrap_or(0);
        cpus.push(Cpu { id, package, core, smt_rank, numa_node, l3, capacity });
    }
    let isolated = list(&system.join("cpu/isolated"))?.unwrap_or_default();
    let nohz_full = list(&system.join("cpu/nohz_full"))?.unwrap_or_default();
    let group = cgroup_folder(root)?;
    let allowed = allowed(root)?.unwrap_or_else(|| online.clone());
    let allowed =
        match group.as_deref().map(|g| list(&g.join("cpuset.cpus.effective"))).transpose()?.flatten() {
            Some(set) if !set.is_empty() => allowed.intersection(&set),
            _ => allowed,
        };
    // A mask that names no online CPU cannot be the one of a running process.
    let allowed = if allowed.intersection(&online).is_empty() { online } else { allowed };
    let quota_milli = group.as_deref().map(quota).transpose()?.flatten();
    Ok(CpuTopology { cpus, isolated, nohz_full, allowed, quota_milli })
}

fn missing(path: &Path) -> HostInfoError {
    HostInfoError::Read { path: path.to_path_buf(), source: ErrorKind::NotFound.into() }
}

/// The trimmed text of a file; `None` when there is no such file (or the kernel refuses the attribute on this CPU).
fn text(path: &Path) -> Result<Option<String>, HostInfoError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(HostInfoError::Read { path: path.to_path_buf(), source }),
    }
}

fn list(path: &Path) -> Result<Option<CpuSet>, HostInfoError> {
    let Some(text) = text(path)? else { return Ok(None) };
    text.parse().map(Some).map_err(|source| HostInfoError::List { path: path.to_path_buf(), source })
}

/// A number; `None` when the file is missing or holds a negative number, the kernel's way to say "unknown".
fn unsigned(path: &Path) -> Result<Option<usize>, HostInfoError> {
    let Some(text) = text(path)? else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(number) => Ok(usize::try_from(number).ok()),
        Err(_) => {
            let text = text.chars().take(80).collect();
            Err(HostInfoError::Number { path: path.to_path_buf(), text })
        }
    }
}

/// CPU to NUMA node. Empty on kernels without NUMA.
fn numa_nodes(system: &Path) -> Result<BTreeMap<usize, usize>, HostInfoError> {
    let mut nodes = BTreeMap::new();
    let online = list(&system.join("node/online"))?.unwrap_or_default();
    for node in online.iter() {
        let cpus = list(&system.join(format!("node/node{node}/cpulist")))?.unwrap_or_default();
        nodes.extend(cpus.iter().map(|cpu| (cpu, node)));
    }
    Ok(nodes)
}

/// The CPUs that share this CPU's L3 cache.
fn l3_list(cpu: &Path) -> Result<Option<CpuSet>, HostInfoError> {
    for index in 0..CACHE_INDICES_MAX {
        let folder = cpu.join(format!("cache/index{index}"));
        match unsigned(&folder.join("level"))? {
            None => return Ok(None),
            Some(3) => return list(&folder.join("shared_cpu_list")),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// The affinity mask of this process.
fn allowed(root: &Path) -> Result<Option<CpuSet>, HostInfoError> {
    let path = root.join("proc/self/status");
    let Some(status) = text(&path)? else { return Ok(None) };
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.map(|text| text.parse().map_err(|source| HostInfoError::List { path, source })).transpose()
}

/// The folder of this process's cgroup (version 2).
fn cgroup_folder(root: &Path) -> Result<Option<PathBuf>, HostInfoError> {
    let Some(membership) = text(&root.join("proc/self/cgroup"))? else { return Ok(None) };
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"));
    // A path that climbs (`/../..`) belongs to a cgroup outside this namespace: nothing of it can be seen from here.
    let path = path.filter(|path| !path.split('/').any(|part| part == ".."));
    Ok(path.map(|path| root.join("sys/fs/cgroup").join(path.trim_start_matches('/'))))
}

/// `cpu.max` in thousandths of a CPU.
fn quota(group: &Path) -> Result<Option<u64>, HostInfoError> {
    let Some(text) = text(&group.join("cpu.max"))? else { return Ok(None) };
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next(), words.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or(100_000));
    Ok(quota.and_then(|q| q.parse::<u64>().ok()).and_then(|q| q.saturating_mul(1000).checked_div(period)))
}

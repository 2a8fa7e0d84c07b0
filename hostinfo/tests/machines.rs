//! Whole machines as file trees: what `CpuTopology::read` makes of them.

use ironlane_hostinfo::{CpuSet, CpuTopology, HostInfoError};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A file tree with the attributes that the kernel shows.
struct Tree(TempDir);

impl Tree {
    fn new() -> Tree {
        Tree(TempDir::new().expect("a temporary folder"))
    }

    fn put(&self, path: &str, text: &str) -> &Tree {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("every path has a folder")).expect("folder");
        fs::write(path, format!("{text}\n")).expect("file");
        self
    }

    fn cpu(&self, id: usize, package: i32, core: i32, l3: Option<&str>) -> &Tree {
        let base = format!("sys/devices/system/cpu/cpu{id}");
        self.put(&format!("{base}/topology/physical_package_id"), &package.to_string());
        self.put(&format!("{base}/topology/core_id"), &core.to_string());
        for (index, level) in [1, 1, 2].into_iter().enumerate() {
            self.put(&format!("{base}/cache/index{index}/level"), &level.to_string());
            self.put(&format!("{base}/cache/index{index}/shared_cpu_list"), &id.to_string());
        }
        if let Some(shared) = l3 {
            self.put(&format!("{base}/cache/index3/level"), "3");
            self.put(&format!("{base}/cache/index3/shared_cpu_list"), shared);
        }
        self
    }

    fn system(&self, online: &str, isolated: &str, nohz_full: &str, allowed: &str) -> &Tree {
        self.put("sys/devices/system/cpu/online", online);
        self.put("sys/devices/system/cpu/isolated", isolated);
        self.put("sys/devices/system/cpu/nohz_full", nohz_full);
        self.put("proc/self/status", &format!("Name:\tnode\nCpus_allowed_list:\t{allowed}\nThreads:\t1"))
    }

    fn read(&self) -> Result<CpuTopology, HostInfoError> {
        CpuTopology::read(self.0.path())
    }
}

fn set(text: &str) -> CpuSet {
    text.parse().expect("a CPU list")
}

/// A virtual machine with two single-thread cores and one L3.
fn small_vm() -> Tree {
    let tree = Tree::new();
    tree.system("0-1", "", "(null)", "0-1");
    tree.cpu(0, 0, 0, Some("0-1")).cpu(1, 0, 1, Some("0-1"));
    tree.put("sys/devices/system/node/online", "0").put("sys/devices/system/node/node0/cpulist", "0-1");
    tree
}

/// Two sockets of four cores with two threads each, numbered as Linux does on such machines: siblings are 8 apart, core
/// ids repeat between the sockets and have gaps.
fn two_sockets() -> Tree {
    let tree = Tree::new();
    tree.system("0-15", "2-3,10-11", "2-3,10-11", "0-1,4-9,12-15");
    for id in 0..16 {
        let (package, place) = ((id % 8) / 4, id % 4);
        let l3 = if package == 0 { "0-3,8-11" } else { "4-7,12-15" };
        tree.cpu(id, package as i32, [0, 1, 8, 9][place], Some(l3));
    }
    tree.put("sys/devices/system/node/online", "0-1");
    tree.put("sys/devices/system/node/node0/cpulist", "0-3,8-11");
    tree.put("sys/devices/system/node/node1/cpulist", "4-7,12-15");
    tree
}

/// An Arm board: four little and two big cores, two clusters, no L3, no NUMA.
fn arm_board() -> Tree {
    let tree = Tree::new();
    tree.put("sys/devices/system/cpu/online", "0-5");
    tree.put("proc/self/status", "Cpus_allowed_list:\t0-5");
    for id in 0..6 {
        let core = if id < 4 { id } else { id - 4 };
        // Clusters show up as packages on older kernels, and their core ids repeat.
        let package = if id < 4 { 0 } else { 1 };
        tree.cpu(id, package, core as i32, None);
        let capacity = if id < 4 { "446" } else { "1024" };
        tree.put(&format!("sys/devices/system/cpu/cpu{id}/cpu_capacity"), capacity);
    }
    tree
}

#[test]
fn a_small_virtual_machine() {
    let host = small_vm().read().expect("readable");
    assert_eq!((host.cpus.len(), host.cores(), host.packages(), host.effective_cores()), (2, 2, 1, 2));
    assert!(host.cpus.iter().all(|cpu| cpu.smt_rank == 0 && cpu.l3 == Some(0) && cpu.numa_node == 0));
    assert!(host.isolated.is_empty() && host.nohz_full.is_empty());
    assert_eq!(host.usable(), set("0-1"));
}

#[test]
fn two_sockets_with_smt_and_isolated_cores() {
    let host = two_sockets().read().expect("readable");
    assert_eq!((host.cpus.len(), host.cores(), host.packages()), (16, 8, 2));
    for id in 0..8 {
        let (first, second) = (host.cpu(id).expect("online"), host.cpu(id + 8).expect("online"));
        assert_eq!(first.core, second.core, "CPUs {id} and {} are siblings", id + 8);
        assert_eq!((first.smt_rank, second.smt_rank), (0, 1));
        assert_eq!(first.package, id / 4);
        assert_eq!(first.numa_node, id / 4);
        assert_eq!(first.l3, Some(id / 4));
    }
    assert_eq!(host.isolated, set("2-3,10-11"));
    // The mask leaves exactly the isolated CPUs out: nobody narrowed it, so they may be bound to.
    assert_eq!(host.usable(), set("0-15"));
    let cores = host.usable_cores();
    assert_eq!(cores.len(), 8);
    assert!(cores.values().all(|siblings| siblings.len() == 2 && siblings[0].id + 8 == siblings[1].id));
}

#[test]
fn a_mask_narrowed_by_hand_is_respected() {
    let tree = two_sockets();
    tree.put("proc/self/status", "Cpus_allowed_list:\t4,12,5");
    let host = tree.read().expect("readable");
    assert_eq!(host.usable(), set("4-5,12"));
    assert_eq!(host.effective_cores(), 2, "4 and 12 are one core");
}

#[test]
fn big_and_little_cores_without_l3_and_numa() {
    let host = arm_board().read().expect("readable");
    assert_eq!((host.cpus.len(), host.cores()), (6, 6));
    assert!(host.cpus.iter().all(|cpu| cpu.l3.is_none() && cpu.numa_node == 0));
    let capacities: Vec<_> = host.cpus.iter().map(|cpu| cpu.capacity).collect();
    assert_eq!(capacities, [446, 446, 446, 446, 1024, 1024].map(Some));
}

#[test]
fn unknown_package_and_core_ids_make_each_cpu_a_core() {
    let tree = Tree::new();
    tree.system("0-2", "", "", "0-2");
    for id in 0..3 {
        tree.cpu(id, -1, -1, None);
    }
    let host = tree.read().expect("readable");
    assert_eq!((host.cores(), host.packages()), (3, 1));
}

#[test]
fn cgroups_narrow_cpus_and_time() {
    let tree = two_sockets();
    tree.put("proc/self/cgroup", "0::/node.slice");
    tree.put("sys/fs/cgroup/node.slice/cpuset.cpus.effective", "0-1");
    tree.put("sys/fs/cgroup/node.slice/cpu.max", "150000 100000");
    let host = tree.read().expect("readable");
    assert_eq!((host.allowed.clone(), host.quota_milli), (set("0-1"), Some(1500)));
    assert_eq!(host.effective_cores(), 1, "one and a half CPUs keep one core busy");
    tree.put("sys/fs/cgroup/node.slice/cpu.max", "max 100000");
    assert_eq!(tree.read().expect("readable").quota_milli, None);
    tree.put("proc/self/cgroup", "0::/../outside");
    assert_eq!(tree.read().expect("readable").allowed, set("0-1,4-9,12-15"));
}

#[test]
fn an_offline_cpu_is_left_out() {
    let tree = small_vm();
    tree.put("sys/devices/system/cpu/online", "1");
    let host = tree.read().expect("readable");
    assert_eq!((host.online(), host.usable()), (set("1"), set("1")));
    assert!(host.cpu(0).is_none());
}

#[test]
fn damage_is_named_with_its_file() {
    let missing = CpuTopology::read(Path::new("/nonexistent")).expect_err("nothing is there");
    assert!(missing.to_string().contains("cpu/online"), "{missing}");
    let tree = small_vm();
    tree.put("sys/devices/system/cpu/cpu1/topology/core_id", "one");
    let number = tree.read().expect_err("not a number").to_string();
    assert!(number.contains("cpu1/topology/core_id") && number.contains("`one`"), "{number}");
    let tree = small_vm();
    tree.put("sys/devices/system/cpu/isolated", "3-1");
    let list = tree.read().expect_err("not a list").to_string();
    assert!(list.contains("cpu/isolated") && list.contains("3-1"), "{list}");
    let tree = small_vm();
    tree.put("sys/devices/system/cpu/online", "");
    assert!(matches!(tree.read(), Err(HostInfoError::NoCpu { .. })));
}

#[test]
fn this_machine_can_be_read() {
    let host = CpuTopology::read(Path::new("/")).expect("a Linux machine");
    assert!(!host.cpus.is_empty() && !host.usable().is_empty());
    assert!(host.usable().iter().all(|id| host.cpu(id).is_some()));
    let parallel = std::thread::available_parallelism().expect("countable").get();
    assert!(host.allowed.intersection(&host.online()).len() >= parallel);
}

#[test]
fn a_flat_machine_stands_in_where_nothing_can_be_read() {
    let host = CpuTopology::flat(3);
    assert_eq!((host.effective_cores(), host.usable()), (3, set("0-2")));
    assert_eq!(CpuTopology::flat(0).cpus.len(), 1);
}

//! What the machine is: CPUs, caches, NUMA nodes, memory.

//! `linux.resources` of config-linux.md, which is also the document that `update --resources` reads.
//!
//! Values follow version 1 of control groups, as the specification does; what they mean on version 2 is decided in
//! `cgroup`.

use std::collections::BTreeMap;

use super::objects::objects;

objects! {
    /// Limits of the cgroup (config-linux.md, "Control groups").
    Resources {
        option {
            /// Memory.
            "memory" memory: Memory,
            /// Processor time and placement.
            "cpu" cpu: Cpu,
            /// Number of processes.
            "pids" pids: Pids,
            /// Block devices.
            "blockIO" block_io: BlockIo,
            /// Network classes (version 1 only).
            "network" network: Network,
        }
        many {
            /// Device access rules, in order.
            "devices" devices: Vec<DeviceRule>,
            /// Huge pages, by page size.
            "hugepageLimits" hugepage_limits: Vec<HugepageLimit>,
            /// RDMA resources, by device.
            "rdma" rdma: BTreeMap<String, Rdma>,
            /// Files of control groups version 2, by name.
            "unified" unified: BTreeMap<String, String>,
        }
    }

    /// Memory, in bytes.
    Memory {
        option {
            /// Hard limit; -1 is none.
            "limit" limit: i64,
            /// Soft limit.
            "reservation" reservation: i64,
            /// Memory and swap together; -1 is none.
            "swap" swap: i64,
            /// Kernel memory; not recommended.
            "kernel" kernel: i64,
            /// Kernel memory for TCP buffers; not recommended.
            "kernelTCP" kernel_tcp: i64,
            /// 0 to 100.
            "swappiness" swappiness: u64,
            /// Whether the kernel waits where it would kill.
            "disableOOMKiller" disable_oom_killer: bool,
            /// Whether children count.
            "useHierarchy" use_hierarchy: bool,
            /// Whether a limit below what is in use is refused.
            "checkBeforeUpdate" check_before_update: bool,
        }
    }

    /// Processor time and placement; times in microseconds.
    Cpu {
        option {
            /// Relative weight, 2 to 262144.
            "shares" shares: u64,
            /// Time in each period; -1 is no limit.
            "quota" quota: i64,
            /// How much can be saved up.
            "burst" burst: u64,
            /// Length of a period.
            "period" period: u64,
            /// Realtime time in each period.
            "realtimeRuntime" realtime_runtime: i64,
            /// Length of a realtime period.
            "realtimePeriod" realtime_period: u64,
            /// List of CPUs like `0-3,7`.
            "cpus" cpus: String,
            /// List of memory nodes.
            "mems" mems: String,
            /// 1: runs only when nothing else wants to.
            "idle" idle: i64,
        }
    }

    /// Number of processes.
    Pids {
        option {
            /// -1 is no limit, 0 is a limit.
            "limit" limit: i64,
        }
    }

    /// Block devices.
    BlockIo {
        option {
            /// Relative weight, 10 to 1000.
            "weight" weight: u16,
            /// Weight against child groups (version 1 only).
            "leafWeight" leaf_weight: u16,
        }
        many {
            /// Weight for one device.
            "weightDevice" weight_device: Vec<WeightDevice>,
            /// Bytes read in a second.
            "throttleReadBpsDevice" throttle_read_bps_device: Vec<ThrottleDevice>,
            /// Bytes written in a second.
            "throttleWriteBpsDevice" throttle_write_bps_device: Vec<ThrottleDevice>,
            /// Reads in a second.
            "throttleReadIOPSDevice" throttle_read_iops_device: Vec<ThrottleDevice>,
            /// Writes in a second.
            "throttleWriteIOPSDevice" throttle_write_iops_device: Vec<ThrottleDevice>,
        }
    }

    /// Weight for one block device.
    WeightDevice {
        must {
            /// Major number.
            "major" major: i64,
            /// Minor number.
            "minor" minor: i64,
        }
        option {
            /// 10 to 1000.
            "weight" weight: u16,
            /// 10 to 1000 (version 1 only).
            "leafWeight" leaf_weight: u16,
        }
    }

    /// Rate for one block device.
    ThrottleDevice {
        must {
            /// Major number.
            "major" major: i64,
            /// Minor number.
            "minor" minor: i64,
            /// Bytes or operations in a second; 0 takes the limit away.
            "rate" rate: u64,
        }
    }

    /// Huge pages of one size.
    HugepageLimit {
        must {
            /// Like `2MB`.
            "pageSize" page_size: String,
            /// Bytes.
            "limit" limit: u64,
        }
    }

    /// Network classes (version 1 only).
    Network {
        option {
            /// Class of the packets.
            "classID" class_id: u32,
        }
        many {
            /// Priority by interface.
            "priorities" priorities: Vec<InterfacePriority>,
        }
    }

    /// Priority of packets on one interface.
    InterfacePriority {
        must {
            /// Interface, in the runtime's network namespace.
            "name" name: String,
            /// Priority.
            "priority" priority: u32,
        }
    }

    /// RDMA resources of one device.
    Rdma {
        option {
            /// Handles.
            "hcaHandles" hca_handles: u32,
            /// Objects.
            "hcaObjects" hca_objects: u32,
        }
    }

    /// Whether devices can be used.
    DeviceRule {
        must {
            /// Allowed or denied.
            "allow" allow: bool,
        }
        option {
            /// `a` (all, also when absent), `c` or `b`.
            "type" kind: String,
            /// Major number; absent or -1 is any.
            "major" major: i64,
            /// Minor number; absent or -1 is any.
            "minor" minor: i64,
            /// Out of `r`, `w`, `m`.
            "access" access: String,
        }
    }
}

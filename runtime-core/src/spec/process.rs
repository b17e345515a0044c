//! `process` of config.md, which is also the document that `exec --process` reads.

use super::Id;
use super::objects::objects;

objects! {
    /// The program to run (config.md, "Process").
    Process {
        must {
            /// Working directory, absolute.
            "cwd" cwd: String,
        }
        option {
            /// Whether it gets a terminal.
            "terminal" terminal: bool,
            /// Size of the terminal; nothing without one.
            "consoleSize" console_size: Box2D,
            /// Whom it runs as.
            "user" user: User,
            /// Capability sets.
            "capabilities" capabilities: Capabilities,
            /// prctl(2) PR_SET_NO_NEW_PRIVS.
            "noNewPrivileges" no_new_privileges: bool,
            /// Name of a loaded AppArmor profile.
            "apparmorProfile" apparmor_profile: String,
            /// Value for `/proc/PID/oom_score_adj`.
            "oomScoreAdj" oom_score_adj: i64,
            /// sched_setattr(2).
            "scheduler" scheduler: Scheduler,
            /// SELinux label of the process.
            "selinuxLabel" selinux_label: String,
            /// ioprio_set(2).
            "ioPriority" io_priority: IoPriority,
            /// CPUs of an exec'd process while and after it enters the cgroup.
            "execCPUAffinity" exec_cpu_affinity: ExecCpuAffinity,
        }
        many {
            /// The program and its arguments.
            "args" args: Vec<String>,
            /// Environment, `NAME=value`.
            "env" env: Vec<String>,
            /// Resource limits.
            "rlimits" rlimits: Vec<Rlimit>,
        }
    }

    /// Size of a terminal in characters.
    Box2D {
        must {
            /// Rows.
            "height" height: u32,
            /// Columns.
            "width" width: u32,
        }
    }

    /// Whom a process runs as (config.md, "POSIX-platform User"); ids are those inside the container.
    User {
        option {
            /// User id.
            "uid" uid: Id,
            /// Group id.
            "gid" gid: Id,
            /// File mode creation mask.
            "umask" umask: u32,
        }
        many {
            /// Supplementary groups.
            "additionalGids" additional_gids: Vec<Id>,
        }
    }

    /// The five capability sets, as names (capabilities(7)).
    Capabilities {
        many {
            /// What execve(2) can ever give.
            "bounding" bounding: Vec<String>,
            /// What counts at once.
            "effective" effective: Vec<String>,
            /// What files with inheritable bits can give.
            "inheritable" inheritable: Vec<String>,
            /// What can be made effective.
            "permitted" permitted: Vec<String>,
            /// What an unprivileged program keeps.
            "ambient" ambient: Vec<String>,
        }
    }

    /// One resource limit (setrlimit(2)).
    Rlimit {
        must {
            /// `RLIMIT_` name.
            "type" kind: String,
            /// Ceiling of the soft limit.
            "hard" hard: u64,
            /// What is enforced.
            "soft" soft: u64,
        }
    }

    /// sched_setattr(2).
    Scheduler {
        must {
            /// `SCHED_` name.
            "policy" policy: String,
        }
        option {
            /// -20 to 19, for SCHED_OTHER and SCHED_BATCH.
            "nice" nice: i32,
            /// Static priority, for SCHED_FIFO and SCHED_RR.
            "priority" priority: i32,
            /// Nanoseconds, for SCHED_DEADLINE.
            "runtime" runtime: u64,
            /// Nanoseconds, for SCHED_DEADLINE.
            "deadline" deadline: u64,
            /// Nanoseconds, for SCHED_DEADLINE.
            "period" period: u64,
        }
        many {
            /// `SCHED_FLAG_` names.
            "flags" flags: Vec<String>,
        }
    }

    /// ioprio_set(2).
    IoPriority {
        must {
            /// `IOPRIO_CLASS_` name.
            "class" class: String,
        }
        option {
            /// 0 (first) to 7 (last); 0 when it is left out, as for the idle class, which has none.
            "priority" priority: i64,
        }
    }

    /// CPUs of an exec'd process, as lists like `0-3,7`.
    ExecCpuAffinity {
        option {
            /// Before it enters the container's cgroup.
            "initial" initial: String,
            /// After that.
            "final" last: String,
        }
    }
}

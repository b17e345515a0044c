//! Every flag there is, once. `commands` says which command knows which.
//!
//! Must not: hold two flags of one meaning. Flags with the same name and another meaning are two statics.

use super::{Flag, Takes};

const fn flag(long: &'static str, short: char, takes: Takes, help: &'static str) -> Flag {
    Flag { long, short, takes, hidden: false, help }
}

const fn hidden(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, short: '\0', takes, hidden: true, help }
}

const NONE: char = '\0';

/// The flags before the command.
pub static GLOBAL: &[&Flag] = &[
    &DEBUG,
    &LOG,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &ROOT,
    &SYSTEMD_CGROUP,
    &ROOTLESS,
    &CGROUP_MANAGER,
    &CRIU,
    &VERSION,
];

pub static DEBUG: Flag = flag("debug", NONE, Takes::Switch, "log each step with the time it took");
pub static LOG: Flag =
    flag("log", NONE, Takes::Path("FILE"), "append errors to FILE (and still print them on stderr)");
pub static LOG_FORMAT: Flag =
    flag("log-format", NONE, Takes::Word(&["text", "json"]), "how log lines look (default: text)");
pub static LOG_LEVEL: Flag = hidden(
    "log-level",
    Takes::Word(&["debug", "info", "warning", "warn", "error"]),
    "debug is --debug; there is nothing between it and errors",
);
pub static ROOT: Flag = flag(
    "root",
    NONE,
    Takes::Path("DIR"),
    "where containers are recorded (default: /run/coracle, or $XDG_RUNTIME_DIR/coracle for ordinary users)",
);
pub static SYSTEMD_CGROUP: Flag =
    flag("systemd-cgroup", NONE, Takes::Switch, "have systemd make the control group");
pub static ROOTLESS: Flag = flag(
    "rootless",
    NONE,
    Takes::MaybeWord(&["true", "false", "auto"]),
    "accepted for compatibility: what this user may do decides",
);
pub static CGROUP_MANAGER: Flag = flag(
    "cgroup-manager",
    NONE,
    Takes::Word(&["cgroupfs", "systemd", "disabled"]),
    "who makes the control group (default: cgroupfs)",
);
pub static CRIU: Flag = hidden("criu", Takes::Path("FILE"), "ignored");
pub static VERSION: Flag = flag("version", 'v', Takes::Switch, "print the version");

pub static BUNDLE: Flag =
    flag("bundle", 'b', Takes::Path("DIR"), "directory of config.json and the root file system (default: .)");
pub static CONFIG: Flag =
    flag("config", 'f', Takes::Path("FILE"), "the configuration, from the bundle on (default: config.json)");
pub static CONSOLE_SOCKET: Flag = flag(
    "console-socket",
    NONE,
    Takes::Path("SOCKET"),
    "Unix socket that receives the terminal's master side",
);
pub static PIDFD_SOCKET: Flag = flag(
    "pidfd-socket",
    NONE,
    Takes::Path("SOCKET"),
    "Unix socket that receives a pidfd of the container's first process",
);
pub static PID_FILE: Flag = flag("pid-file", NONE, Takes::Path("FILE"), "write the process id to FILE");
pub static NO_PIVOT: Flag = flag(
    "no-pivot",
    NONE,
    Takes::Switch,
    "move the root mount instead of pivot_root (for a root on a ramdisk)",
);
pub static NO_NEW_KEYRING: Flag =
    flag("no-new-keyring", NONE, Takes::Switch, "keep the caller's session keyring");
pub static PRESERVE_FDS: Flag =
    flag("preserve-fds", NONE, Takes::Number("N"), "pass the file descriptors 3 to 3+N-1 on to the program");
pub static DETACH: Flag = flag("detach", 'd', Takes::Switch, "return as soon as the program runs");
pub static KEEP: Flag =
    flag("keep", NONE, Takes::Switch, "do not delete the container when its program has ended");
pub static NO_SUBREAPER: Flag =
    flag("no-subreaper", NONE, Takes::Switch, "do not adopt processes that the container leaves behind");
pub static DETACH_CREATE: Flag = hidden("detach", Takes::Switch, "ignored: create always returns");
pub static NO_SUBREAPER_EXEC: Flag =
    hidden("no-subreaper", Takes::Switch, "do not adopt processes left behind");

pub static CWD: Flag = flag("cwd", NONE, Takes::Text("DIR"), "working directory inside the container");
pub static ENV: Flag =
    flag("env", 'e', Takes::List("NAME=VALUE"), "set an environment variable (may repeat)");
pub static TTY: Flag = flag("tty", 't', Takes::Switch, "give the program a terminal");
pub static USER: Flag = flag("user", 'u', Takes::Text("UID[:GID]"), "numbers of the user and the group");
pub static ADDITIONAL_GIDS: Flag =
    flag("additional-gids", 'g', Takes::List("GID"), "a further group (may repeat)");
pub static PROCESS: Flag =
    flag("process", 'p', Takes::Path("FILE"), "process object in JSON; then no command is given");
pub static PROCESS_LABEL: Flag =
    flag("process-label", NONE, Takes::Text("LABEL"), "SELinux label of the program");
pub static APPARMOR: Flag = flag("apparmor", NONE, Takes::Text("PROFILE"), "AppArmor profile of the program");
pub static NO_NEW_PRIVS: Flag =
    flag("no-new-privs", NONE, Takes::Switch, "the program and its children never gain privileges");
pub static CAP: Flag = flag(
    "cap",
    'c',
    Takes::List("NAME"),
    "add a capability to the bounding, effective and permitted sets (may repeat)",
);
pub static CGROUP: Flag = flag(
    "cgroup",
    NONE,
    Takes::List("[CTRL,...:]PATH"),
    "run in PATH below the container's control group (may repeat, once a controller)",
);
pub static IGNORE_PAUSED: Flag = flag(
    "ignore-paused",
    NONE,
    Takes::Switch,
    "also in a paused container: the program waits until it is resumed",
);

pub static KILL_ALL: Flag =
    flag("all", 'a', Takes::Switch, "send it to all processes; a stopped container is no error");
pub static FORCE: Flag =
    flag("force", 'f', Takes::Switch, "kill it first when it runs; a missing container is no error");
pub static REGEX: Flag = flag(
    "regex",
    'r',
    Takes::Switch,
    "ID is a regular expression (POSIX extended) to find in the IDs of containers",
);
pub static LIST_FORMAT: Flag =
    flag("format", 'f', Takes::Word(&["table", "json"]), "table or json (default: table)");
pub static QUIET: Flag = flag("quiet", 'q', Takes::Switch, "identifiers only");
pub static PS_FORMAT: Flag = flag(
    "format",
    'f',
    Takes::Word(&["table", "json"]),
    "table, as ps(1) prints it, or json (default: table)",
);
pub static SPEC_BUNDLE: Flag = flag("bundle", 'b', Takes::Path("DIR"), "write DIR/config.json (default: .)");
pub static SPEC_FILE: Flag =
    flag("file", 'f', Takes::Path("FILE"), "write FILE, from the bundle on (default: config.json)");
pub static SPEC_ROOTLESS: Flag =
    flag("rootless", NONE, Takes::Switch, "for the calling user, without privileges");
pub static CHECK_FORMAT: Flag =
    flag("format", 'f', Takes::Word(&["text", "json"]), "text or json (default: text)");
pub static CHECK_DOCUMENT: Flag = flag(
    "document",
    NONE,
    Takes::Switch,
    "look at the document alone, not at what this machine and user can do",
);

pub static RESOURCES: Flag = flag(
    "resources",
    'r',
    Takes::Path("FILE"),
    "resources object in JSON, `-` for standard input; then no other limit is given",
);
pub static BLKIO_WEIGHT: Flag =
    flag("blkio-weight", NONE, Takes::Text("N"), "weight of block I/O, 10 to 1000");
pub static CPU_PERIOD: Flag =
    flag("cpu-period", NONE, Takes::Text("USEC"), "length of a period of CPU time, in microseconds");
pub static CPU_QUOTA: Flag =
    flag("cpu-quota", NONE, Takes::Text("USEC"), "CPU time in each period, in microseconds; -1: no limit");
pub static CPU_BURST: Flag =
    flag("cpu-burst", NONE, Takes::Text("USEC"), "CPU time that can be saved up, in microseconds");
pub static CPU_SHARE: Flag =
    flag("cpu-share", NONE, Takes::Text("N"), "weight of CPU time, 2 to 262144 (default: 1024)");
pub static CPU_RT_PERIOD: Flag =
    flag("cpu-rt-period", NONE, Takes::Text("USEC"), "length of a realtime period, in microseconds");
pub static CPU_RT_RUNTIME: Flag =
    flag("cpu-rt-runtime", NONE, Takes::Text("USEC"), "realtime in each period, in microseconds");
pub static CPUSET_CPUS: Flag = flag("cpuset-cpus", NONE, Takes::Text("LIST"), "CPUs to run on, as 0-3,7");
pub static CPUSET_MEMS: Flag = flag("cpuset-mems", NONE, Takes::Text("LIST"), "memory nodes to use, as 0,1");
pub static CPU_IDLE: Flag =
    flag("cpu-idle", NONE, Takes::Text("N"), "1: run only when nothing else wants to; 0: as usual");
pub static MEMORY: Flag = flag("memory", NONE, Takes::Text("SIZE"), "limit, as 512m; -1: none");
pub static MEMORY_RESERVATION: Flag =
    flag("memory-reservation", NONE, Takes::Text("SIZE"), "memory that is protected, as 64m");
pub static MEMORY_SWAP: Flag =
    flag("memory-swap", NONE, Takes::Text("SIZE"), "limit of memory and swap together; -1: none");
pub static PIDS_LIMIT: Flag =
    flag("pids-limit", NONE, Takes::Text("N"), "number of processes and threads; -1: no limit");
pub static KERNEL_MEMORY: Flag = hidden("kernel-memory", Takes::Text("SIZE"), "ignored, as runc does");
pub static KERNEL_MEMORY_TCP: Flag =
    hidden("kernel-memory-tcp", Takes::Text("SIZE"), "ignored, as runc does");
pub static L3_CACHE_SCHEMA: Flag =
    flag("l3-cache-schema", NONE, Takes::Text("SCHEMA"), "cache of the container's class (linux.intelRdt)");
pub static MEM_BW_SCHEMA: Flag = flag(
    "mem-bw-schema",
    NONE,
    Takes::Text("SCHEMA"),
    "memory bandwidth of the container's class (linux.intelRdt)",
);
pub static STATS: Flag = flag("stats", NONE, Takes::Switch, "print the statistics once");
pub static INTERVAL: Flag = flag(
    "interval",
    NONE,
    Takes::Text("TIME"),
    "how often statistics are printed, as 5s (the default) or 500ms",
);
pub static TOP_INTERVAL: Flag =
    flag("interval", NONE, Takes::Text("TIME"), "how often, as 1s (the default) or 500ms");
pub static COUNT: Flag = flag(
    "count",
    'n',
    Takes::Number("N"),
    "how many times (default: until interrupted on a terminal, else once)",
);

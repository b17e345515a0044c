//! Every command there is: its flags, its arguments, its words, and the function that does it.

use super::flags as f;
use super::{Flag, Given, Order, nearest, usage};
use crate::Globals;
use crate::cmd;
use coracle::Error;

/// One command of the table.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// The arguments, for the usage line.
    pub arguments: &'static str,
    /// How many arguments there may be.
    pub count: Count,
    pub flags: &'static [&'static Flag],
    pub order: Order,
    /// One line.
    pub about: &'static str,
    /// More lines for `help COMMAND`, or nothing.
    pub details: &'static str,
    /// Command lines with what they do.
    pub examples: &'static [(&'static str, &'static str)],
    /// Not shown.
    pub hidden: bool,
    /// The exit code of a failure that is not about the command line.
    pub failure: u8,
    /// Whether the message of a failure begins with the command and the container.
    pub prefix: bool,
    /// Does it; the result is the exit code.
    pub run: fn(&Globals, &Given<'_>) -> Result<u8, Error>,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

impl Command {
    /// Checks the number of arguments, with runc's words.
    ///
    /// # Errors
    /// Too few or too many.
    pub fn check_count(&self, count: usize) -> Result<(), Error> {
        let (name, what) = (self.name, self.count);
        let wrong = match what {
            Count::Exactly(n) if count != n => format!("coracle: {name:?} requires exactly {n} argument(s)"),
            Count::AtLeast(n) if count < n => {
                format!("coracle: {name:?} requires a minimum of {n} argument(s)")
            }
            Count::Between(n, _) if count < n => {
                format!("coracle: {name:?} requires a minimum of {n} argument(s)")
            }
            Count::Between(_, n) if count > n => {
                format!("coracle: {name:?} requires a maximum of {n} argument(s)")
            }
            _ => return Ok(()),
        };
        Err(usage(wrong).with_hint(format!("see: coracle help {name}")))
    }
}

/// Looks a command up.
///
/// # Errors
/// There is none of this name.
pub fn find(name: &str) -> Result<&'static Command, Error> {
    if let Some(command) = COMMANDS.iter().find(|command| command.name == name) {
        return Ok(command);
    }
    let error = usage(format!("unknown command {name:?}")).with_code("unknown-command");
    let visible = COMMANDS.iter().filter(|command| !command.hidden).map(|command| command.name);
    Err(match (name, nearest(name, visible)) {
        ("checkpoint" | "restore", _) => error.with_hint("this version does not do that yet"),
        ("logs" | "attach", _) => {
            error.with_hint("the program's output belongs to whoever called create or run; nothing keeps it")
        }
        (_, Some(near)) => error.with_hint(format!("did you mean {near}?")),
        (_, None) => error.with_hint("see: coracle help"),
    })
}

/// A command with one container and nothing unusual.
const fn plain(
    name: &'static str,
    about: &'static str,
    run: fn(&Globals, &Given<'_>) -> Result<u8, Error>,
) -> Command {
    Command {
        name,
        arguments: "ID",
        count: Count::Exactly(1),
        flags: &[],
        order: Order::Mixed,
        about,
        details: "",
        examples: &[],
        hidden: false,
        failure: 1,
        prefix: false,
        run,
    }
}

/// The table, in the order of the help.
pub static COMMANDS: &[Command] = &[
    Command {
        arguments: "",
        count: Count::Exactly(0),
        details: "Needs no image, no network and no configuration: the container's root holds nothing but this program.",
        examples: &[("coracle demo", "as root or as an ordinary user")],
        ..plain("demo", "run a container that shows what it sees", cmd::demo::run)
    },
    Command {
        arguments: "",
        count: Count::Exactly(0),
        flags: &[&f::SPEC_BUNDLE, &f::SPEC_FILE, &f::SPEC_ROOTLESS],
        details: "Never overwrites a file.",
        examples: &[
            ("coracle spec", "write ./config.json"),
            ("coracle spec --rootless --bundle web", "for an ordinary user, into web/"),
        ],
        ..plain("spec", "write a config.json to start from", cmd::spec::run)
    },
    Command {
        arguments: "BUNDLE",
        flags: &[&f::CHECK_FORMAT, &f::CHECK_DOCUMENT],
        details: "All problems are shown at once, each with its place, those of the document before those of this machine. Exit code 0: none, 1: there are some.",
        examples: &[("coracle check .", "the bundle in this directory")],
        ..plain("check", "find what is wrong with a bundle", cmd::check::run)
    },
    Command {
        arguments: "BUNDLE",
        details: "Nothing is executed.",
        examples: &[("coracle plan .", "what create would do with this bundle")],
        ..plain("plan", "show step by step what create would do", cmd::plan::run)
    },
    Command {
        flags: &[
            &f::BUNDLE,
            &f::CONFIG,
            &f::DETACH,
            &f::KEEP,
            &f::CONSOLE_SOCKET,
            &f::PIDFD_SOCKET,
            &f::PID_FILE,
            &f::NO_SUBREAPER,
            &f::NO_PIVOT,
            &f::NO_NEW_KEYRING,
            &f::PRESERVE_FDS,
        ],
        details: "Without --detach it stays in the foreground, passes signals on, ends with the exit code of the program\n\
                  (128+S after signal S) and deletes the container.",
        examples: &[
            ("coracle run --bundle web web1", "in the foreground"),
            ("coracle run --detach --pid-file web.pid web1", "in the background"),
        ],
        prefix: true,
        ..plain("run", "create and start a container", cmd::run::run)
    },
    Command {
        flags: &[
            &f::BUNDLE,
            &f::CONFIG,
            &f::CONSOLE_SOCKET,
            &f::PIDFD_SOCKET,
            &f::PID_FILE,
            &f::NO_PIVOT,
            &f::NO_NEW_KEYRING,
            &f::PRESERVE_FDS,
            &f::NO_SUBREAPER_EXEC,
            &f::DETACH_CREATE,
        ],
        details: "The program waits until `coracle start`. Standard input, output and error are those of this command.",
        examples: &[("coracle create --bundle web web1", "then: coracle start web1")],
        prefix: true,
        ..plain("create", "prepare a container up to the start of its program", cmd::create::run)
    },
    Command { prefix: true, ..plain("start", "start the program of a created container", cmd::start::run) },
    Command {
        arguments: "ID COMMAND [ARGUMENT...]",
        count: Count::AtLeast(1),
        flags: &[
            &f::DETACH,
            &f::TTY,
            &f::USER,
            &f::ADDITIONAL_GIDS,
            &f::ENV,
            &f::CWD,
            &f::CAP,
            &f::NO_NEW_PRIVS,
            &f::PROCESS,
            &f::CONSOLE_SOCKET,
            &f::PIDFD_SOCKET,
            &f::PID_FILE,
            &f::PRESERVE_FDS,
            &f::PROCESS_LABEL,
            &f::APPARMOR,
            &f::CGROUP,
            &f::IGNORE_PAUSED,
            &f::NO_SUBREAPER_EXEC,
        ],
        order: Order::FlagsFirst,
        details: "What is not said is taken from the container's own process. Flags come before the ID.\n\
                  Exit code: that of the program, 128+S after signal S, 255 when it could not be run.",
        examples: &[
            ("coracle exec -t web1 sh", "a shell on a terminal"),
            ("coracle exec --process p.json web1", "a process object as in config.json"),
        ],
        failure: 255,
        prefix: true,
        ..plain("exec", "run a further program in a container", cmd::exec::run)
    },
    plain("state", "print the state of a container as JSON", cmd::state::run),
    Command {
        arguments: "",
        count: Count::Exactly(0),
        flags: &[&f::LIST_FORMAT, &f::QUIET],
        ..plain("list", "list the containers below --root", cmd::list::run)
    },
    Command {
        arguments: "ID [PS-OPTION...]",
        count: Count::AtLeast(1),
        flags: &[&f::PS_FORMAT],
        order: Order::FlagsFirst,
        examples: &[("coracle ps web1 -o pid,rss,args", "with options of ps(1)")],
        ..plain("ps", "list the processes of a container", cmd::ps::run)
    },
    Command {
        arguments: "ID [SIGNAL]",
        count: Count::Between(1, 2),
        flags: &[&f::KILL_ALL, &f::REGEX],
        details: "SIGNAL is a number or a name, with or without SIG (default: TERM). With --regex, containers that do not run are left out.",
        examples: &[("coracle kill web1 KILL", "also: 9, SIGKILL, RTMIN+1")],
        ..plain("kill", "send a signal to the first process of a container", cmd::kill::run)
    },
    plain("pause", "freeze all processes of a container", cmd::pause::pause),
    plain("resume", "let a paused container go on", cmd::pause::resume),
    Command {
        arguments: "[ID...]",
        count: Count::AtLeast(0),
        flags: &[&f::TOP_INTERVAL, &f::COUNT],
        details: "The busiest first. CPU is a share of one processor. PRESSURE: how much of the last ten seconds something waited for\n\
                  processors, memory and disks, where the kernel tells.",
        examples: &[
            ("coracle top", "all containers, until ^C"),
            ("coracle top -n 1 web1 | cat", "one, once, as plain lines"),
        ],
        ..plain("top", "show what containers use", cmd::top::run)
    },
    Command {
        flags: &[&f::STATS, &f::INTERVAL],
        details: "One line of JSON for each event, until the container has stopped: `stats` at the interval, `oom` when the kernel killed\n\
                  a process for want of memory. Keys and units are runc's.",
        examples: &[
            ("coracle events --stats web1", "the statistics, once"),
            ("coracle events --interval 1s web1", "every second"),
        ],
        ..plain("events", "print what happens to a container and what it uses", cmd::events::run)
    },
    Command {
        flags: &[
            &f::RESOURCES,
            &f::MEMORY,
            &f::MEMORY_RESERVATION,
            &f::MEMORY_SWAP,
            &f::CPU_SHARE,
            &f::CPU_QUOTA,
            &f::CPU_PERIOD,
            &f::CPU_BURST,
            &f::CPU_IDLE,
            &f::CPU_RT_PERIOD,
            &f::CPU_RT_RUNTIME,
            &f::CPUSET_CPUS,
            &f::CPUSET_MEMS,
            &f::PIDS_LIMIT,
            &f::BLKIO_WEIGHT,
            &f::KERNEL_MEMORY,
            &f::KERNEL_MEMORY_TCP,
            &f::L3_CACHE_SCHEMA,
            &f::MEM_BW_SCHEMA,
        ],
        details: "All or nothing: when one limit cannot be had, the values before are written back. What is not named stays.",
        examples: &[
            ("coracle update --memory 512m --pids-limit 100 web1", "two limits"),
            ("coracle update --resources - web1", "a linux.resources object on standard input"),
        ],
        ..plain("update", "change the limits of a container", cmd::update::run)
    },
    Command {
        arguments: "add|remove ID FILE",
        count: Count::Exactly(3),
        details: "FILE is a JSON list as `mounts` in config.json; of what is to be removed only the destination counts.\n\
                  They are gone with the container. Links in the container are not followed.",
        examples: &[(
            "coracle mounts add web1 mounts.json",
            "[{\"destination\": \"/data\", \"source\": \"/srv/data\", \"options\": [\"rbind\", \"ro\"]}]",
        )],
        ..plain("mounts", "add mounts to a running container, or remove some", cmd::mounts::run)
    },
    Command {
        flags: &[&f::FORCE, &f::REGEX],
        examples: &[("coracle delete --force --regex '^web[0-9]+$'", "all of them")],
        ..plain("delete", "remove what is left of a stopped container", cmd::delete::run)
    },
    Command {
        arguments: "",
        count: Count::Exactly(0),
        ..plain("features", "print as JSON what this runtime knows", cmd::features::run)
    },
    Command {
        arguments: "[COMMAND]",
        count: Count::Between(0, 1),
        ..plain("help", "explain a command, with examples", cmd::help::run)
    },
    Command {
        arguments: "[NAMESPACE...]",
        count: Count::AtLeast(0),
        hidden: true,
        ..plain("__demo", "the program inside the demo", cmd::demo::inside)
    },
];

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
        flags: &[&f::SPEC_BUNDLE, &f::SPEC_ROOTLESS],
        details: "Never overwrites a file.",
        examples: &[
            ("coracle spec", "write ./config.json"),
            ("coracle spec --rootless --bundle web", "for an ordinary user, into web/"),
        ],
        ..plain("spec", "write a config.json to start from", cmd::spec::run)
    },
    Command {
        arguments: "BUNDLE",
        flags: &[&f::CHECK_FORMAT],
        details: "All problems are shown at once, each with its place. Exit code 0: none, 1: there are some.",
        examples: &[("coracle check .", "the bundle in this directory")],
        ..plain("check", "find what is wrong with a bundle", cmd::check::run)
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
];

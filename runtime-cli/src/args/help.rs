//! The help texts, made from the table.

use super::commands::{COMMANDS, Command};
use super::flags::GLOBAL;
use super::{Flag, Takes};
use std::fmt::Write;

/// Columns of the text.
const WIDTH: usize = 80;

/// `coracle --help`.
pub fn program() -> String {
    let mut out = format!("coracle {}: runs containers from OCI bundles\n\n", env!("CARGO_PKG_VERSION"));
    out.push_str("usage: coracle [FLAGS] COMMAND [FLAGS] [ARGUMENTS]\n\ncommands:\n");
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        entry(&mut out, command.name, command.about, 12);
    }
    flags(&mut out, GLOBAL, "flags");
    out.push_str("\nFirst steps: coracle demo. More about a command: coracle help COMMAND\n");
    out
}

/// `coracle COMMAND --help`.
pub fn short(command: &Command) -> String {
    let mut out = format!("coracle {}: {}\n\nusage: coracle {}", command.name, command.about, command.name);
    if !command.flags.is_empty() {
        out.push_str(" [FLAGS]");
    }
    if !command.arguments.is_empty() {
        let _ = write!(out, " {}", command.arguments);
    }
    out.push('\n');
    flags(&mut out, command.flags, "flags");
    out
}

/// `coracle help COMMAND`.
pub fn long(command: &Command) -> String {
    let mut out = short(command);
    if !command.details.is_empty() {
        out.push('\n');
        for paragraph in command.details.lines() {
            wrap(&mut out, paragraph, 0, 0);
        }
    }
    if !command.examples.is_empty() {
        out.push_str("\nexamples:\n");
        for (line, what) in command.examples {
            let _ = writeln!(out, "  {line}\n      {what}");
        }
    }
    out
}

fn flags(out: &mut String, flags: &[&Flag], title: &str) {
    let mut titled = false;
    for flag in flags.iter().filter(|flag| !flag.hidden) {
        if !titled {
            let _ = write!(out, "\n{title}:\n");
            titled = true;
        }
        entry(out, &head(flag), flag.help, 28);
    }
}

/// `-b, --bundle DIR`.
fn head(flag: &Flag) -> String {
    let mut out = match flag.short {
        '\0' => "    ".to_owned(),
        letter => format!("-{letter}, "),
    };
    let _ = write!(out, "--{}", flag.long);
    match flag.takes {
        Takes::Switch => {}
        Takes::Path(word) | Takes::Text(word) | Takes::List(word) | Takes::Number(word) => {
            let _ = write!(out, " {word}");
        }
        Takes::Word(choices) => {
            let _ = write!(out, " {}", choices.join("|"));
        }
        Takes::MaybeWord(choices) => {
            let _ = write!(out, "[={}]", choices.join("|"));
        }
    }
    out
}

/// Two columns; a head that is too long gets a line of its own.
fn entry(out: &mut String, head: &str, text: &str, column: usize) {
    let _ = write!(out, "  {head}");
    let used = head.len() + 2;
    if used + 2 > column {
        out.push('\n');
        wrap(out, text, column, 0);
    } else {
        wrap(out, text, column, used);
    }
}

/// Writes `text` from column `indent` on; `used` columns of the first line are taken.
fn wrap(out: &mut String, text: &str, indent: usize, used: usize) {
    let mut column = used;
    for word in text.split(' ') {
        if column > indent && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column < indent {
            let _ = write!(out, "{:1$}", "", indent - column);
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

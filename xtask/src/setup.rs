//! What a bare machine lacks: Rust targets and Debian packages. Everything that is installed is named first.

use crate::run::{self, Outcome, say};
use std::path::Path;

/// Makes sure that the compiler has the standard library for a target.
///
/// # Errors
/// It has not, and rustup cannot add it.
pub fn target(name: &str) -> Outcome {
    let dir = run::output(&mut run::program("rustc", ["--print", "target-libdir", "--target", name]))?;
    let full = std::fs::read_dir(dir.trim()).is_ok_and(|mut entries| entries.next().is_some());
    if full {
        return Ok(());
    }
    say(&format!("installing the Rust target {name}"));
    run::run(&mut run::program("rustup", ["target", "add", name])).map_err(|error| {
        format!(
            "{error}\nThe compiler has no standard library for {name}, and rustup did not add it. Either make \
             `rustup target add {name}` work (it needs the network once), or install the library from where this \
             compiler came from; it belongs in {}",
            dir.trim()
        )
    })
}

/// Makes sure that programs or files are there, by Debian's packages: pairs of a path or a program's name, and the
/// package that has it.
///
/// # Errors
/// Something is missing and cannot be installed: the message is the command that would.
pub fn packages(wanted: &[(&str, &str)]) -> Outcome {
    let there = |what: &str| if what.starts_with('/') { Path::new(what).exists() } else { run::has(what) };
    let mut missing: Vec<&str> =
        wanted.iter().filter(|(what, _)| !there(what)).map(|(_, package)| *package).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("install by hand: apt-get install {}", missing.join(" "));
    if !run::is_root() || !run::has("apt-get") {
        return Err(by_hand);
    }
    say(&format!("installing the Debian packages {}", missing.join(" ")));
    let apt = |words: &[&str]| {
        let mut command = run::program("apt-get", words);
        run::run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let install = ["install", "-qq", "-y", "--no-install-recommends"];
    let install: Vec<&str> = install.iter().chain(&missing).copied().collect();
    // The list of packages may be too old, or not there at all.
    apt(&install)
        .or_else(|_| apt(&["update", "-qq"]).and_then(|()| apt(&install)))
        .map_err(|error| format!("{error}\n{by_hand}"))
}

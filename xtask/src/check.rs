//! `check` and `deny`: what can be said of the code without running it.

use crate::run::{self, Outcome, cargo, say};
use crate::{setup, style};
use std::path::PathBuf;

/// The packages of their own, outside the workspace.
const OUTSIDE: [&str; 2] = ["runtime-init/link/Cargo.toml", "fuzz/Cargo.toml"];

/// Formatting, lints, documentation, style.
///
/// # Errors
/// The first of them that finds something.
pub fn check(_: &[String]) -> Outcome {
    style::check()?;
    run::run(&mut cargo(["fmt", "--all", "--check"]))?;
    for manifest in OUTSIDE.map(|path| run::root().join(path)).iter().filter(|path| path.exists()) {
        run::run(cargo(["fmt", "--check", "--manifest-path"]).arg(manifest))?;
    }
    let deny = ["--all-targets", "--", "-D", "warnings"];
    run::run(cargo(["clippy", "--quiet", "--workspace", "--exclude", "coracle-payload"]).args(deny))?;
    // Its types of system calls are those of the static target alone.
    setup::target(&run::musl())?;
    run::run(cargo(["clippy", "--quiet", "-p", "coracle-payload", "--target", &run::musl()]).args(deny))?;
    let mut doc = cargo(["doc", "--quiet", "--workspace", "--no-deps"]);
    run::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, sources, bans. Advisories are not looked at: their list is no package of a registry.
///
/// # Errors
/// cargo-deny cannot be had, or it finds something.
pub fn deny(_: &[String]) -> Outcome {
    let mut deny = tool("cargo-deny")?;
    deny.push("cargo-deny");
    run::run(&mut run::program(&deny, ["check", "bans", "licenses", "sources"]))
}

/// The directory where cargo installs programs; the program is installed if it is not there.
pub fn tool(name: &str) -> Result<PathBuf, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let bin = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("bin");
    if !bin.join(name).is_file() {
        say(&format!("installing {name} from its registry; this takes some minutes, once"));
        let words: &[&str] = match name {
            // Without the part that would clone a repository of advisories.
            "cargo-deny" => &["install", "--quiet", "--locked", "--no-default-features", "cargo-deny"],
            other => &["install", "--quiet", "--locked", other],
        };
        run::run(&mut cargo(words))?;
    }
    Ok(bin)
}

//! Checks that need only a link: the child half cannot panic, and everything links for aarch64.

use crate::run::{self, Outcome, cargo, say};
use crate::setup;
use std::path::Path;

/// Links the child half alone, with a panic handler that exists nowhere, in both profiles.
///
/// # Errors
/// A call can panic: the linker names the function that does.
pub fn no_panic(_: &[String]) -> Outcome {
    let manifest = run::root().join("runtime-init/link/Cargo.toml");
    same_profile(&manifest)?;
    let target = run::target_dir().join("no-panic");
    for profile in ["dev", "release"] {
        let words = ["build", "--quiet", "--locked", "--profile", profile, "--manifest-path"];
        run::run(cargo(words).arg(&manifest).arg("--target-dir").arg(&target))?;
        say(&format!("no-panic: nothing that the child half does can panic ({profile})"));
    }
    // As it is shipped, without the C library but for what the compiler itself calls, which has no variables.
    let script = run::root().join("runtime-init/link/no-data.ld");
    for arch in ["x86_64", "aarch64"] {
        let machine = format!("{arch}-unknown-linux-musl");
        setup::target(&machine)?;
        let words = ["rustc", "--quiet", "--locked", "--release", "--target", &machine, "--manifest-path"];
        let mut command = cargo(words);
        command.arg(&manifest).arg("--target-dir").arg(&target);
        command.args(["--", "-Clink-self-contained=no", "-Clink-arg=-emain"]);
        command.args(
            ["memcpy", "memmove", "memset", "memcmp", "bcmp"]
                .map(|name| format!("-Clink-arg=--defsym={name}=0")),
        );
        run::run(command.arg(format!("-Clink-arg={}", script.display())))?;
        say(&format!("no-panic: the child half has no variables and no relocated constants ({arch})"));
    }
    Ok(())
}

/// What is proved of one release profile says nothing of another.
fn same_profile(manifest: &Path) -> Outcome {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()));
    let (link, shipped) = (read(manifest)?, read(&run::root().join("Cargo.toml"))?);
    let differs = release(&link).into_iter().find(|line| !release(&shipped).contains(line));
    differs.map_or(Ok(()), |line| Err(format!("{}: not the workspace's profile: {line}", manifest.display())))
}

fn release(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[profile.release]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Compiles and links the shipped program, the payload and all tests of the crates for the other architecture.
///
/// # Errors
/// It does not compile or link.
pub fn aarch64(_: &[String]) -> Outcome {
    const TARGET: &str = "aarch64-unknown-linux-musl";
    setup::target(TARGET)?;
    // The linker is the compiler's own, see .cargo/config.toml.
    run::run(&mut cargo([
        "build",
        "--quiet",
        "--release",
        "--target",
        TARGET,
        "-p",
        "coracle-cli",
        "-p",
        "coracle-payload",
    ]))?;
    let crates = ["-p", "coracle", "-p", "coracle-init", "-p", "coracle-seccomp"];
    run::run(cargo(["check", "--quiet", "--tests", "--target", TARGET]).args(crates))?;
    let file = run::target_dir().join(TARGET).join("release/coracle");
    let head = std::fs::read(&file).map_err(|e| format!("read {}: {e}", file.display()))?;
    // ELF, 64 bits, little endian, machine 183.
    let right = head.starts_with(b"\x7fELF\x02\x01") && head.get(18..20) == Some(&[183, 0]);
    if !right {
        return Err(format!("{} is no program for aarch64", file.display()));
    }
    // The linker takes a pattern that matches nothing for right. Some 350 KiB, unless names are made in another way.
    match section(&head, b".text.usual") {
        Some(size) if size > 200 << 10 => Ok(()),
        size => Err(format!(
            "runtime-cli/order.ld names {} bytes of code: write it again with `cargo xtask order`",
            size.unwrap_or(0)
        )),
    }
}

/// The size of a section of a 64-bit program (elf(5)).
fn section(elf: &[u8], name: &[u8]) -> Option<u64> {
    let number = |at: u64, len: u64| {
        let range = usize::try_from(at).ok()?..usize::try_from(at + len).ok()?;
        Some(elf.get(range)?.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (table, count) = (number(0x28, 8)?, number(0x3c, 2)?);
    let names = number(table + 64 * number(0x3e, 2)? + 24, 8)?;
    let is = |header: &u64| {
        let from = number(*header, 4).and_then(|at| usize::try_from(names + at).ok());
        let rest = from.and_then(|from| elf.get(from..)).unwrap_or_default();
        rest.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
    };
    let header = (0..count).map(|n| table + 64 * n).find(is)?;
    number(header + 32, 8)
}

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
    if right { Ok(()) } else { Err(format!("{} is no program for aarch64", file.display())) }
}

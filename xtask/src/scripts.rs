//! Long jobs that are shell at heart: the scripts lie beside this program.

use crate::run::{self, Outcome, built, cargo, say};
use crate::{setup, suites};

/// `vm`: without arguments, the suites that need cgroup v2.
///
/// # Errors
/// The machine cannot be built or started, or what ran in it failed.
pub fn vm(args: &[String]) -> Outcome {
    let script = run::root().join("xtask/vm/run");
    if !script.exists() {
        return Err("there is no machine yet".to_owned());
    }
    run::run(&mut run::program(script, args))
}

/// `containerd`: a private containerd runs containers with this runtime.
///
/// # Errors
/// A package is missing, or something is not as it should be.
pub fn containerd(_: &[String]) -> Outcome {
    setup::packages(&[("containerd", "containerd"), ("busybox", "busybox-static")])?;
    suites::build()?;
    run::run(&mut run::program(run::root().join("xtask/containerd"), [built("coracle")]))
}

/// `bench`: criterion's benches.
///
/// # Errors
/// A bench fails.
pub fn bench(args: &[String]) -> Outcome {
    run::run(cargo(["bench", "-p", "coracle-benches"]).args(args))
}

/// `fuzz-smoke`: every target for some seconds.
///
/// # Errors
/// A target finds something.
pub fn fuzz_smoke(_: &[String]) -> Outcome {
    say("no fuzz targets yet");
    Ok(())
}

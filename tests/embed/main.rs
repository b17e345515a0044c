//! The library in a program that is nobody's command line: eight busy threads, a reaper of its own, SIGPIPE ignored, a signal mask of
//! its own. Each promise of the library is a case; after each one the process must be as it was, and nothing may be left.
//!
//! `cargo test -p coracle-tests --test embed [-- WORD...]`: the cases whose name contains a word. As root it enters a mount namespace
//! of its own first; `EMBED_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod fleet;
mod hooks;
mod host;
mod leaks;
mod promises;
mod roles;
mod world;

use coracle_tests::{dirs, harness};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use world::World;

/// A promise and what proves it.
pub type Case = (&'static str, fn(&World));

/// Set by a case that this machine or user cannot do.
pub static SKIP: AtomicBool = AtomicBool::new(false);
/// No case takes longer; one that does hangs.
const WATCHDOG: Duration = Duration::from_secs(900);

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if words.first().is_some_and(|word| word == roles::MARK) {
        coracle::reexec_sealed().expect("a place that cannot be written");
        return roles::play(&words[1..]);
    }
    if let Err(error) = harness::enter_private_mounts() {
        eprintln!("a mount namespace of our own: {error}");
        return ExitCode::FAILURE;
    }
    coracle::reexec_sealed().expect("a place that cannot be written");
    words.retain(|word| !word.is_empty());
    host::begin();
    let dir = dirs::CaseDir::new("embed");
    let world = World::new(dir.path());
    let failed = run_all(&[promises::CASES, fleet::CASES, hooks::CASES, leaks::CASES], &words, &world, false);
    drop(dir);
    remove_own_cgroup();
    dirs::remove_run_dir();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Removes the cgroup that this process's containers were below; each process of ours has one.
pub fn remove_own_cgroup() {
    if rustix::process::geteuid().is_root() {
        coracle_tests::cgroup::remove(&coracle_tests::cgroup::parent());
    }
}

/// Runs the cases one after the other: the number of those that failed. `inside` another case, in another process.
pub fn run_all(groups: &[&[Case]], words: &[String], world: &World, inside: bool) -> usize {
    let cases = groups.iter().copied().flatten();
    let cases =
        cases.filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word.as_str())));
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for (name, case) in cases {
        let begun = Instant::now();
        let good = run_one(name, *case, world);
        if SKIP.swap(false, Ordering::SeqCst) {
            skipped += 1;
            println!("skipped: {name}");
        } else if good {
            passed += 1;
            println!("ok: {name} ({:.2} s)", begun.elapsed().as_secs_f32());
        } else {
            failed.push(*name);
            println!("FAILED: {name}");
        }
    }
    failed.iter().for_each(|name| println!("failed: {name}"));
    // Those of another process are one case of ours.
    if inside {
        assert!(passed > 0 || !failed.is_empty(), "no case has this name");
    } else {
        println!("{passed} passed, {} failed, {skipped} skipped", failed.len());
    }
    failed.len()
}

fn run_one(name: &'static str, case: fn(&World), world: &World) -> bool {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst) + 1;
    let (picture, steady) = (host::Picture::take(), host::Steady::take());
    host::spawn("watchdog", move || {
        std::thread::sleep(WATCHDOG);
        if NUMBER.load(Ordering::SeqCst) == number {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let done = AtomicBool::new(false);
    let guarded = |run: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(run)).is_ok();
    let good = std::thread::scope(|scope| {
        scope.spawn(|| host::watch(&steady, &done));
        // In a thread of its own, so that the threads that live through it all are all strangers.
        let run = std::thread::Builder::new().name("case".into());
        let good = run.spawn_scoped(scope, || guarded(&mut || case(world))).expect("a thread").join();
        done.store(true, Ordering::SeqCst);
        good.unwrap_or(false)
    });
    let clean = guarded(&mut || {
        host::unchanged();
        world.nothing_left();
        picture.same_as_now();
    });
    if !(good && clean) {
        // The next case begins with nothing of this one.
        for (id, _) in world.runtime.list().unwrap_or_default() {
            let _ = world.runtime.purge(&id);
        }
    }
    good && clean
}

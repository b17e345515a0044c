//! A host lives for months: a thousand containers one after the other leave neither descriptors nor memory behind.

use crate::Case;
use crate::host::QUIET;
use crate::world::{World, expect_status};
use coracle::{Delete, ExitStatus, Stdio};
use std::fs;
use std::sync::atomic::Ordering;

/// The cases.
pub const CASES: &[Case] = &[("leaks::a_thousand_in_a_row", a_thousand_in_a_row)];

fn a_thousand_in_a_row(world: &World) {
    QUIET.store(true, Ordering::SeqCst);
    let mut first = (0, 0);
    for round in 0..1000 {
        let container = world.created("row", &["exit", "7"]);
        container.start().unwrap();
        expect_status(container.wait().unwrap(), ExitStatus::Exited(7));
        container.delete(Delete::Stopped).unwrap();
        if round % 10 == 0 {
            refused(world);
        }
        if round == 200 {
            first = (descriptors(), resident());
        }
    }
    let last = (descriptors(), resident());
    QUIET.store(false, Ordering::SeqCst);
    // Two descriptors belong to those who look. A record leaked by each container would be 1.6 MiB.
    assert!(last.0 <= first.0 + 2, "descriptors: {first:?} after 200, {last:?} after 1000");
    assert!(last.1 <= first.1 + 512, "KiB of memory: {first:?} after 200, {last:?} after 1000");
}

/// One that fails late: everything that was made for it has to be undone.
fn refused(world: &World) {
    let id = world.id("refused");
    let mut spec = world.spec(&id, &["exit", "0"]);
    spec["process"]["args"] = coracle_tests::json!(["/no/such/program"]);
    let plan = world.create(&id, &spec).stdio(Stdio::Pipes).plan().unwrap();
    plan.create().unwrap_err();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// KiB of this process that are no file's.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

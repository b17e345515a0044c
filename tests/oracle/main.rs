//! The same command lines given to this runtime and to runc and crun, as far as they are installed: exit codes,
//! outputs, state, and what the process sees must be equal. What differs by design is listed with its reason.
//!
//! `PEERS=/path/one:/path/two` names other peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod commands;
mod effects;

use coracle_tests::*;
use std::collections::BTreeMap;

/// What a scenario has found: names with values.
type Findings = BTreeMap<String, Value>;

/// A difference that is meant to be: which peer, the beginning of the names, why.
#[derive(Debug, Clone, Copy)]
struct Listed {
    peer: &'static str,
    name: &'static str,
    reason: &'static str,
}

/// The installed peers.
fn installed() -> Vec<Runtime> {
    let named = std::env::var("PEERS").ok();
    let paths: Vec<std::path::PathBuf> = match &named {
        Some(text) => text.split(':').map(Into::into).collect(),
        None => ["runc", "crun"].iter().filter_map(|name| need::program(name)).collect(),
    };
    paths.iter().map(|path| Runtime::at(path)).collect()
}

/// Those that are not the runtime under test; without any there is nothing to compare.
fn peers(t: &T) -> Vec<Runtime> {
    let peers = installed();
    if peers.is_empty() {
        t.skip("needs runc or crun");
    }
    peers.into_iter().filter(|peer| peer.path != t.runtime.path).collect()
}

fn listed(list: &[Listed], peer: &Runtime, name: &str) -> Option<&'static str> {
    let kind = match peer.kind {
        Kind::Runc => "runc",
        Kind::Crun => "crun",
        _ => "",
    };
    let fits = |entry: &&Listed| (entry.peer == kind || entry.peer == "*") && name.starts_with(entry.name);
    list.iter().find(fits).map(|entry| entry.reason)
}

/// Runs a scenario with all and compares.
fn compare(t: &T, list: &[Listed], scenario: impl Fn(&T) -> Findings) {
    let own = scenario(t);
    let mut complaints = Vec::new();
    for peer in peers(t) {
        let other = t.with(peer.clone());
        let theirs = scenario(&other);
        let names: std::collections::BTreeSet<&String> = own.keys().chain(theirs.keys()).collect();
        for name in names {
            let (ours, their) = (own.get(name), theirs.get(name));
            if ours != their && listed(list, &peer, name).is_none() {
                let show = |value: Option<&Value>| value.map_or("absent".to_owned(), Value::to_string);
                complaints.push(format!(
                    "{} {name}: {}, ours: {}",
                    peer.path.display(),
                    show(their),
                    show(ours)
                ));
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn main() -> std::process::ExitCode {
    harness::main_with(&[commands::CASES, effects::CASES], &installed())
}

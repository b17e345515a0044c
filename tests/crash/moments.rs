//! The runtime dies at random moments, which may lie between any two instructions, also of what it has started.

use crate::subject::{Subject, number, wait_for};
use coracle_tests::runtime::wait_until;
use coracle_tests::{T, bundle, cases_alone, need};
use std::time::{Duration, Instant};

cases_alone![anywhere, anywhere_as_a_user, while_a_hook_hangs];

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Starts a command and kills it after a time.
fn kill_after(subject: &Subject<'_>, words: &[&str], more: &[&str], time: Duration) {
    let mut child = bundle::spawn(&mut subject.command(&subject.line(words, more))).unwrap();
    let end = Instant::now() + time;
    // Sleeping is too coarse for the last part.
    if let Some(long) = time.checked_sub(Duration::from_micros(200)) {
        std::thread::sleep(long);
    }
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    wait_for(child);
}

/// How long a command takes when nobody kills it, in microseconds.
fn length(subject: &Subject<'_>, words: &[&str], more: &[&str]) -> u64 {
    let begun = Instant::now();
    subject.good(words, more);
    u64::try_from(begun.elapsed().as_micros()).unwrap()
}

fn rounds(t: &T, subjects: &[Subject<'_>], rounds: u64) {
    let seed = number("CRASH_SEED", u64::from(std::process::id()));
    println!("   {}: CRASH_SEED={seed}", t.name);
    let mut dice = Dice(seed);
    let commands: [(&[&str], &[&str], &[&str]); 5] = [
        (&[], &["create"], &[]),
        (&[], &["run", "--detach"], &[]),
        (&["create"], &["start"], &[]),
        (&["run", "--detach"], &["exec", "--detach"], &["/payload", "sleep"]),
        (&["create"], &["delete", "--force"], &[]),
    ];
    for subject in subjects {
        let mut lengths = Vec::new();
        for (before, words, more) in commands {
            if !before.is_empty() {
                subject.good(before, &[]);
            }
            lengths.push(length(subject, words, more));
            subject.removed("measured");
        }
        for round in 0..number("CRASH_ROUNDS", rounds) {
            let pick = usize::try_from(dice.next(5)).unwrap();
            let (before, words, more) = commands[pick];
            if !before.is_empty() {
                subject.good(before, &[]);
            }
            let time = Duration::from_nanos(dice.next(lengths[pick] * 1200));
            kill_after(subject, words, more, time);
            subject.removed(&format!("round {round}: {words:?} killed after {time:?}"));
        }
    }
}

/// Hooks on the host end with the runtime that waits for them, those inside with the container.
fn while_a_hook_hangs(t: &T) {
    t.needs(&[need::Need::Root]);
    for (kind, before, words) in [
        ("prestart", None, &["create"][..]),
        ("createRuntime", None, &["create"]),
        ("createContainer", None, &["create"]),
        ("startContainer", Some("create"), &["start"]),
        ("poststart", Some("create"), &["start"]),
        ("poststart", None, &["run", "--detach"]),
        ("poststop", Some("create"), &["delete", "--force"]),
    ] {
        let (subject, file) = Subject::that_hangs(t, kind);
        if let Some(before) = before {
            subject.good(&[before], &[]);
        }
        let mut child = bundle::spawn(&mut subject.command(&subject.line(words, &[]))).unwrap();
        wait_until(kind, || file.exists());
        child.kill().unwrap();
        wait_for(child);
        std::fs::remove_file(file).unwrap();
        // A poststop hook would hang again; after the first one the container is gone.
        subject.removed(kind);
    }
}

fn anywhere(t: &T) {
    t.needs(&[need::Need::Root]);
    rounds(t, &[Subject::new(t, false), Subject::new(t, true)], 120);
}

fn anywhere_as_a_user(t: &T) {
    t.needs(&[need::Need::Root, need::Need::UserNamespaces]);
    rounds(t, &[Subject::of_a_user(t)], 60);
}

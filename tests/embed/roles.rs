//! Other processes that the cases need: this program, started again with the word [`MARK`] and a role.

use crate::host::REAPING;
use crate::world::World;
use coracle::{Delete, ErrorKind, Stdio};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::Ordering;

/// The first argument of a role.
pub const MARK: &str = "role";

/// Whether this process plays one.
pub fn playing() -> bool {
    std::env::args().nth(1).is_some_and(|word| word == MARK)
}

/// Starts this program in a role. While it is waited for the host's reaper has to rest.
pub fn command(role: &str, world: &World, words: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(MARK).arg(role).arg(&world.dir).args(words);
    command
}

/// While one lives the host does not reap, so that a role's end can be waited for.
pub struct Rest;

impl Rest {
    /// Begins.
    pub fn new() -> Self {
        REAPING.store(false, Ordering::SeqCst);
        // It may be about to look once more.
        std::thread::sleep(std::time::Duration::from_millis(20));
        Self
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        REAPING.store(true, Ordering::SeqCst);
    }
}

/// Waits for a role.
pub fn wait(child: &mut Child) -> ExitStatus {
    child.wait().expect("the reaper rests")
}

/// Plays a role.
pub fn play(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // Removes a container by force.
        ["delete", dir, id] => {
            let world = World::at(Path::new(dir));
            let container = world.runtime.open(&id.parse().expect("a name")).expect("a container");
            match container.delete(Delete::Force) {
                Ok(_) => ExitCode::SUCCESS,
                // Its creator undid everything when its init was killed.
                Err(error) if error.kind() == ErrorKind::NotFound => ExitCode::SUCCESS,
                Err(error) => panic!("{}", error.report()),
            }
        }
        // Creates a container, says so, and stays.
        ["create", dir, id, rest @ ..] => {
            let world = World::at(Path::new(dir));
            let id = id.parse().expect("a name");
            let spec = world.spec(&id, rest);
            let created = world
                .create(&id, &spec)
                .stdio(Stdio::Null)
                .plan()
                .expect("a plan")
                .create()
                .expect("a container");
            say("created");
            created.container.start().expect("it starts");
            say("started");
            std::thread::sleep(std::time::Duration::from_secs(600));
            ExitCode::FAILURE
        }
        // Runs cases as somebody else than the one who began: without a reaper, another user, ignored signals.
        ["cases", dir, cases @ ..] => {
            crate::host::begin();
            let world = World::at(Path::new(dir));
            let words: Vec<String> = cases.iter().map(|word| (*word).to_owned()).collect();
            let failed = crate::run_all(
                &[crate::fleet::CASES, crate::promises::CASES, crate::promises::INSIDE],
                &words,
                &world,
                true,
            );
            crate::remove_own_cgroup();
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        other => panic!("no role {other:?}"),
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).expect("somebody reads");
}

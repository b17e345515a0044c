//! Many containers at once, each a few steps of life chosen by a number; and many threads that want the same container.

use crate::Case;
use crate::world::{World, all_of, expect_status, process, remove, until_ready};
use coracle::{Container, Delete, Error, ErrorKind, ExitStatus, Scope, Status, Stdio};
use coracle_tests::json;
use std::fs::File;
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The cases.
pub const CASES: &[Case] = &[
    ("fleet::hundreds_of_containers_from_eight_threads", hundreds_of_containers_from_eight_threads),
    ("fleet::sixty_four_at_once", sixty_four_at_once),
    ("fleet::one_of_many_creators_wins", one_of_many_creators_wins),
    ("fleet::one_of_many_deleters_wins", one_of_many_deleters_wins),
    ("fleet::one_of_many_starters_wins", one_of_many_starters_wins),
];

/// A generator whose numbers can be had again: splitmix64.
pub struct Dice(u64);

impl Dice {
    /// From `EMBED_SEED`, else from the clock; said so that a run can be repeated.
    pub fn new(what: &str) -> Self {
        let given = std::env::var("EMBED_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
        });
        println!("{what}: EMBED_SEED={seed}");
        Self(seed)
    }

    /// Another one, for another thread.
    pub fn split(&mut self) -> Self {
        Self(self.next(u64::MAX))
    }

    /// The next number below `end`.
    pub fn next(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn hundreds_of_containers_from_eight_threads(world: &World) {
    // The count is bounded, not the time: a slow machine takes longer and finds the same.
    // Another process that does the same in other circumstances makes fewer.
    let left = AtomicUsize::new(if crate::roles::playing() { 120 } else { 320 });
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
    let mut dice = Dice::new("fleet");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let mut dice = dice.split();
            let take = &take;
            scope.spawn(move || {
                while take() {
                    live(world, &mut dice);
                }
            });
        }
    });
}

/// One life.
pub fn live(world: &World, dice: &mut Dice) {
    let lives: [fn(&World, &mut Dice); 11] =
        [exit_code, pipes, input, files, terminal, killed, terminated, forced, execs, dropped, at_once];
    let pick = usize::try_from(dice.next(11)).unwrap();
    lives[pick](world, dice);
}

fn status(container: &Container) -> Status {
    container.status().unwrap_or_else(|error| panic!("{}", error.report()))
}

fn stopped(container: Container, wanted: ExitStatus) {
    let found = container.wait().unwrap();
    expect_status(found, wanted);
    assert_eq!(status(&container), Status::Stopped);
    container.delete(Delete::Stopped).unwrap_or_else(|error| panic!("{}", error.report()));
}

fn exit_code(world: &World, dice: &mut Dice) {
    let code = i32::try_from(dice.next(256)).unwrap();
    let container = world.created("exit", &["exit", &code.to_string()]);
    assert_eq!(status(&container), Status::Created);
    assert_eq!(container.try_wait().unwrap(), None);
    container.start().unwrap_or_else(|error| panic!("{}", error.report()));
    stopped(container, ExitStatus::Exited(code));
}

fn pipes(world: &World, _: &mut Dice) {
    let id = world.id("pipes");
    let spec = world.spec(&id, &["print-both", "to the output", "to the errors"]);
    let mut created = world.create(&id, &spec).stdio(Stdio::Pipes).plan().unwrap().create().unwrap();
    created.container.start().unwrap();
    assert_eq!(all_of(created.io.stdout.take()), "to the output\n");
    assert_eq!(all_of(created.io.stderr.take()), "to the errors\n");
    stopped(created.container, ExitStatus::Exited(0));
}

fn input(world: &World, dice: &mut Dice) {
    let id = world.id("input");
    let spec = world.spec(&id, &["count"]);
    let mut created = world.create(&id, &spec).stdio(Stdio::Pipes).plan().unwrap().create().unwrap();
    created.container.start().unwrap();
    // More than a pipe holds.
    let length = 100_000 + usize::try_from(dice.next(100_000)).unwrap();
    let mut feed = File::from(created.io.stdin.take().unwrap());
    feed.write_all(&vec![b'x'; length]).unwrap();
    drop(feed);
    let said = all_of(created.io.stdout.take());
    assert!(said.starts_with(&format!("{length} ")), "{said}");
    stopped(created.container, ExitStatus::Exited(0));
}

fn files(world: &World, _: &mut Dice) {
    let id = world.id("files");
    let spec = world.spec(&id, &["print-both", "one", "two"]);
    let path = |name: &str| world.dir.join(format!("{id}.{name}"));
    let file = |name: &str| File::create(path(name)).unwrap().into();
    let stdio = Stdio::Fds(File::open("/dev/null").unwrap().into(), file("out"), file("err"));
    let created = world.create(&id, &spec).stdio(stdio).plan().unwrap().create().unwrap();
    created.container.start().unwrap();
    stopped(created.container, ExitStatus::Exited(0));
    for (name, text) in [("out", "one\n"), ("err", "two\n")] {
        assert_eq!(std::fs::read_to_string(path(name)).unwrap(), text);
        std::fs::remove_file(path(name)).unwrap();
    }
}

fn terminal(world: &World, _: &mut Dice) {
    let id = world.id("terminal");
    let mut spec = world.spec(&id, &["print", "on a terminal"]);
    spec["process"]["terminal"] = json!(true);
    let mut created = world.create(&id, &spec).stdio(Stdio::Pty).plan().unwrap().create().unwrap();
    assert!(created.io.stdout.is_none());
    created.container.start().unwrap();
    assert_eq!(all_of(created.io.pty.take()), "on a terminal\r\n");
    stopped(created.container, ExitStatus::Exited(0));
}

fn killed(world: &World, _: &mut Dice) {
    let (container, _out) = world.running("killed", &["ready"]);
    assert_eq!(status(&container), Status::Running);
    container.signal(9, Scope::Init).unwrap();
    stopped(container, ExitStatus::Signaled(9));
}

fn terminated(world: &World, _: &mut Dice) {
    let (container, _out) = world.running("terminated", &["wait-term"]);
    container.signal(15, Scope::All).unwrap();
    stopped(container, ExitStatus::Exited(0));
}

/// Never started, and removed through another handle.
fn forced(world: &World, _: &mut Dice) {
    let first = world.created("forced", &["exit", "0"]);
    let second = world.runtime.open(first.id()).unwrap();
    assert_eq!(first.pid().unwrap(), second.pid().unwrap());
    remove(second);
    assert_eq!(first.start().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.runtime.open(first.id()).unwrap_err().kind(), ErrorKind::NotFound);
}

fn execs(world: &World, dice: &mut Dice) {
    let (container, _out) = world.running("execs", &["ready"]);
    for _ in 0..=dice.next(3) {
        let code = i32::try_from(dice.next(256)).unwrap();
        let document = process(world, &["exit", &code.to_string()]);
        let child = container
            .exec(document)
            .stdio(Stdio::Null)
            .spawn()
            .unwrap_or_else(|error| panic!("{}", error.report()));
        expect_status(child.wait().unwrap(), ExitStatus::Exited(code));
    }
    let mut child = container.exec(process(world, &["print", "inside"])).stdio(Stdio::Pipes).spawn().unwrap();
    assert_eq!(all_of(child.io().stdout.take()), "inside\n");
    expect_status(child.wait().unwrap(), ExitStatus::Exited(0));
    let mut long = container.exec(process(world, &["ready"])).stdio(Stdio::Pipes).spawn().unwrap();
    until_ready(&mut File::from(long.io().stdout.take().unwrap()));
    assert!(container.processes().unwrap().contains(&long.pid()) || !rustix::process::geteuid().is_root());
    assert!(long.signal(9).unwrap());
    expect_status(long.wait().unwrap(), ExitStatus::Signaled(9));
    remove(container);
}

/// A dropped handle neither kills nor reaps.
fn dropped(world: &World, _: &mut Dice) {
    let (container, _out) = world.running("dropped", &["ready"]);
    let (id, pid) = (container.id().clone(), container.pid().unwrap());
    drop(container);
    let again = world.runtime.open(&id).unwrap();
    assert_eq!((status(&again), again.pid().unwrap()), (Status::Running, pid));
    remove(again);
}

fn at_once(world: &World, dice: &mut Dice) {
    let id = world.id("at-once");
    let code = i32::try_from(dice.next(256)).unwrap();
    let spec = world.spec(&id, &["exit", &code.to_string()]);
    let plan = world.create(&id, &spec).stdio(Stdio::Null).at_once(true).plan().unwrap();
    stopped(plan.create().unwrap().container, ExitStatus::Exited(code));
}

fn sixty_four_at_once(world: &World) {
    let together = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let containers: Vec<_> = (0..8).map(|_| world.created("many", &["ready"])).collect();
                together.wait();
                let mine = |id: &&coracle::ContainerId| containers.iter().any(|c| c.id() == *id);
                let listed = world.runtime.list().unwrap();
                assert_eq!(listed.len(), 64);
                assert_eq!(listed.iter().map(|(id, _)| id).filter(mine).count(), 8);
                for (_, found) in listed {
                    assert!(matches!(status(&found.unwrap()), Status::Created | Status::Running));
                }
                containers.iter().for_each(|container| container.start().unwrap());
                together.wait();
                containers.into_iter().for_each(remove);
            });
        }
    });
}

/// Eight threads do the same at the same time; what each of them got.
fn eight<T: Send>(act: impl Fn() -> Result<T, Error> + Sync) -> (Vec<T>, Vec<ErrorKind>) {
    let together = Barrier::new(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let race = || {
            together.wait();
            act()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => won.push(value),
            Err(error) => lost.push(error.kind()),
        }
    }
    (won, lost)
}

fn one_of_many_creators_wins(world: &World) {
    for _ in 0..20 {
        let id = world.id("contested");
        let spec = world.spec(&id, &["exit", "0"]);
        let create = || world.create(&id, &spec).stdio(Stdio::Null).plan()?.create();
        let (won, lost) = eight(create);
        assert_eq!((won.len(), lost), (1, vec![ErrorKind::AlreadyExists; 7]));
        for created in won {
            assert_eq!(status(&created.container), Status::Created);
            remove(created.container);
        }
    }
}

fn one_of_many_deleters_wins(world: &World) {
    for _ in 0..20 {
        let (container, _out) = world.running("unwanted", &["ready"]);
        let delete = || world.runtime.open(container.id())?.delete(Delete::Force);
        let (won, lost) = eight(delete);
        assert_eq!((won.len(), lost), (1, vec![ErrorKind::NotFound; 7]));
    }
}

fn one_of_many_starters_wins(world: &World) {
    for _ in 0..20 {
        let container = world.created("started", &["sleep"]);
        let (won, lost) = eight(|| container.start());
        assert_eq!((won.len(), lost), (1, vec![ErrorKind::WrongState; 7]));
        remove(container);
    }
}

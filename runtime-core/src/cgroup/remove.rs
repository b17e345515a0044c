//! Removing directories of cgroups: whole trees, and busy ones.
//!
//! Must not: decide whose a directory is. Tests: `cgroup/tests.rs`.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::{Made, gone_is};

/// How long a directory may stay busy after its processes have gone.
const BUSY: Duration = Duration::from_secs(2);
/// How long the first look again waits; the next ones twice as long each, up to 20 milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// Until when a removal that begins now waits for processes that are just ending.
pub(super) fn deadline() -> Instant {
    Instant::now() + BUSY
}

/// Removes `name` in `above` and everything in it; waits a while for what is busy.
pub(super) fn remove_tree(above: &Dir, name: &str, dir: &Dir) -> Result<()> {
    let deadline = deadline();
    match above.remove(name) {
        Err(error) if is_busy(&error) => {}
        result => return gone_is((), result),
    }
    // The container may have made any number of directories at any depth: two of them are open at a time, and the way
    // down to a leaf is walked again for each.
    while let Some(first) = gone_is(Vec::new(), dir.children())?.pop() {
        let mut parent = dir.sub(".")?;
        let mut leaf = first;
        loop {
            let child = match parent.sub(&leaf) {
                Err(error) if error.is_gone() => break,
                result => result?,
            };
            let Some(next) = gone_is(Vec::new(), child.children())?.pop() else { break };
            parent = child;
            leaf = next;
        }
        remove_leaf(&parent, &leaf, deadline)?;
    }
    remove_leaf(above, name, deadline)
}

fn remove_leaf(above: &Dir, name: &str, deadline: Instant) -> Result<()> {
    until_idle(deadline, || above.remove(name))
}

/// Repeats a removal while it meets processes, until the deadline.
pub(super) fn until_idle(deadline: Instant, remove: impl Fn() -> Result<()>) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match remove() {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {}
            result => return gone_is((), result),
        }
        pause_for(&mut pause);
    }
}

/// Waits for processes that are just ending, as long as a removal does; somebody may be left then.
pub(super) fn wait_until_idle(mut is_populated: impl FnMut() -> Result<bool>) -> Result<()> {
    let (deadline, mut pause) = (deadline(), FIRST_PAUSE);
    while gone_is(false, is_populated())? && Instant::now() < deadline {
        pause_for(&mut pause);
    }
    Ok(())
}

fn pause_for(pause: &mut Duration) {
    std::thread::sleep(*pause);
    *pause = (*pause * 2).min(Duration::from_millis(20));
}

/// It has children, or processes that may be just ending.
pub(super) fn is_busy(error: &CgroupError) -> bool {
    error.is(Errno::BUSY) || error.is(Errno::NOTEMPTY)
}

/// Removes, from the bottom, directories that were made above a container's, as long as they are ours and empty.
pub(super) fn remove_made(mount: &Dir, made: &[Made]) {
    for one in made.iter().rev() {
        let above = one.path.parent().unwrap_or_default();
        let Ok(above) = mount.below(&above) else { return };
        let is_ours = above.identity_of(one.path.name());
        let is = |inode: u64| one.inode.is_none_or(|made| made == inode);
        if !is_ours.is_ok_and(|found| found.is_some_and(|found| is(found.inode))) {
            return;
        }
        // Another container may live in it by now; then it stays.
        if above.remove(one.path.name()).is_err() {
            return;
        }
    }
}

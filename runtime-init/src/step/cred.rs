//! Credentials and capabilities, each read back and compared with what was asked for, but for capabilities that were dropped one by one.
//!
//! All calls are the kernel's own, for this thread: libc's would signal threads that were not cloned. Must not: derive one set
//! from another, or go on with more than was asked for. Tests: `tests/creds.rs`.

use rustix::io::Errno;

use crate::program::{Bytes, read_u32};
use crate::report::{At, Fail, Say};
use crate::step::ns;
use crate::sys::{self, CapSets, Prctl};
use crate::walk::Walk;
use crate::wire::Call;

const CAP_SETPCAP: u32 = 8;
const CAP_SYS_ADMIN: u32 = 21;

const AMBIENT_IS_SET: u32 = 1;
const AMBIENT_RAISE: u32 = 2;
const AMBIENT_CLEAR_ALL: u32 = 4;

fn bit(cap: u32) -> u64 {
    1_u64.checked_shl(cap).unwrap_or(0)
}

/// Part 0 keeps capabilities over a change of ids, part 2 drops. One call for each capability, for a security module may
/// look at every one: what was dropped need not be read, and nothing brings it back (capabilities(7)).
pub(crate) fn bounding(w: &mut Walk<'_>, wanted: u64) -> Result<(), Fail> {
    sys::prctl(Prctl::KeepCaps, 1, 0).at(0, Call::Prctl)?;
    let (mut known, mut set) = (0, 0);
    for cap in 0..64 {
        let wanted = wanted & bit(cap) != 0;
        match sys::prctl(if wanted { Prctl::BoundingRead } else { Prctl::BoundingDrop }, cap, 0) {
            Ok(is_set) if wanted && is_set != 0 => set |= bit(cap),
            Ok(_) => {}
            // The first one that does not exist.
            Err(Errno::INVAL) => break,
            // Without CAP_SETPCAP: a failure only for what is in the set.
            Err(errno) => match sys::prctl(Prctl::BoundingRead, cap, 0) {
                Ok(0) => {}
                Err(Errno::INVAL) => break,
                _ => return Err(Fail::new(2, Call::Prctl, errno)),
            },
        }
        known |= bit(cap);
    }
    w.bounding = Some((known, set));
    Ok(())
}

pub(crate) fn no_new_privs() -> Result<(), Fail> {
    sys::prctl(Prctl::NoNewPrivs, 1, 0).at(0, Call::Prctl).map(drop)
}

/// Part 0 `setgroups`, 1 `setresgid`, 2 `setresuid`, 3 what reads back, 4 non-dumpable again, 5 `capset` (`keep_admin`).
pub(crate) fn credentials(
    w: &Walk<'_>,
    uid: u32,
    gid: u32,
    groups: Bytes,
    skip_groups: bool,
    keep_admin: bool,
) -> Result<(), Fail> {
    // setresuid(-1) succeeds and changes nothing.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Fail::new(2, Call::Setresuid, Errno::INVAL));
    }
    let groups = w.program.raw(groups)?;
    if !skip_groups {
        sys::setgroups(groups).at(0, Call::Setgroups)?;
    }
    sys::setresgid(gid).at(1, Call::Setresgid)?;
    sys::setresuid(uid).at(2, Call::Setresuid)?;
    let same = sys::getresuid().at(3, Call::Compare)? == [uid; 3]
        && sys::getresgid().at(3, Call::Compare)? == [gid; 3];
    if !same {
        return Err(Fail::new(3, Call::Compare, Errno::PERM).say(b"ids"));
    }
    if !skip_groups && !same_groups(groups)? {
        return Err(Fail::new(3, Call::Compare, Errno::PERM).say(b"groups"));
    }
    ns::non_dumpable(4)?;
    if keep_admin && uid != 0 {
        // Leaving uid 0 emptied the effective set. The filter needs CAP_SYS_ADMIN when no_new_privs is not set, the final capset may
        // need CAP_SETPCAP.
        let now = sys::capget().at(5, Call::Capset)?;
        let effective = now.permitted & (bit(CAP_SYS_ADMIN) | bit(CAP_SETPCAP));
        sys::capset(CapSets { effective, ..now }).at(5, Call::Capset)?;
    }
    Ok(())
}

/// Whether the kernel has exactly these groups (it keeps them sorted).
fn same_groups(groups: &[u8]) -> Result<bool, Fail> {
    if groups.len() <= 4 * 64 { compare_groups::<64>(groups) } else { compare_groups::<65536>(groups) }
}

/// Apart, so that the large frame is only there when there are that many groups.
#[inline(never)]
fn compare_groups<const ROOM: usize>(groups: &[u8]) -> Result<bool, Fail> {
    let mut have = [0_u32; ROOM];
    let count = sys::getgroups(&mut have).at(3, Call::Compare)?;
    let have = have.get(..count).unwrap_or(&[]);
    if count != groups.len().wrapping_shr(2) {
        return Ok(false);
    }
    let mut at = 0_usize;
    while at < groups.len() {
        if have.binary_search(&read_u32(groups, at)?).is_err() {
            return Ok(false);
        }
        at = at.wrapping_add(4);
    }
    Ok(true)
}

/// Part 0 is what `BoundingSet` left, 1 `capset`, 2 clears and raises ambient ones, 3 keepcaps off, 4 compares.
pub(crate) fn capabilities(w: &Walk<'_>, wanted: CapSets, ambient: u64, bounding: u64) -> Result<(), Fail> {
    // Dropped by an earlier step; nothing here changes it.
    let (known, set) = w.bounding.ok_or(Fail::new(0, Call::Walk, Errno::INVAL))?;
    let wanted = CapSets {
        effective: wanted.effective & known,
        permitted: wanted.permitted & known,
        inheritable: wanted.inheritable & known,
    };
    sys::capset(wanted).at(1, Call::Capset)?;
    sys::prctl(Prctl::Ambient, AMBIENT_CLEAR_ALL, 0).at(2, Call::Prctl)?;
    for cap in 0..64 {
        if ambient & known & bit(cap) != 0 {
            sys::prctl(Prctl::Ambient, AMBIENT_RAISE, cap).at(2, Call::Prctl).say(b"ambient")?;
        }
    }
    sys::prctl(Prctl::KeepCaps, 0, 0).at(3, Call::Prctl)?;
    let unequal = |name: &[u8]| Err(Fail::new(4, Call::Compare, Errno::PERM).say(name));
    if sys::capget().at(4, Call::Compare)? != wanted {
        return unequal(b"capget");
    }
    if set != bounding & known {
        return unequal(b"bounding");
    }
    for cap in 0..64 {
        // The kernel keeps the ambient set within these two (capabilities(7)), which were just compared.
        if wanted.permitted & wanted.inheritable & bit(cap) != 0 {
            let is_set = sys::prctl(Prctl::Ambient, AMBIENT_IS_SET, cap).at(4, Call::Compare)? != 0;
            if is_set != (ambient & bit(cap) != 0) {
                return unequal(b"ambient");
            }
        }
    }
    Ok(())
}

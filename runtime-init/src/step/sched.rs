//! How the kernel treats the process among others.
//!
//! Must not: be done before hooks are, which would inherit it. Tests: `tests` package, process and exec.

use rustix::io::Errno;

use crate::program::Bytes;
use crate::report::{At, Fail};
use crate::sys::{self, SchedAttr};
use crate::walk::Walk;
use crate::wire::Call;

/// Bytes of an encoded [`SchedAttr`].
pub const SCHED_ATTR_LEN: usize = 56;

/// The attributes as [`crate::program::Step::Scheduler`] holds them: the kernel's struct.
#[must_use]
pub fn encode(attr: &SchedAttr) -> [u8; SCHED_ATTR_LEN] {
    let mut out = [0_u8; SCHED_ATTR_LEN];
    let [p0, p1, p2, p3] = attr.policy.to_ne_bytes();
    let [n0, n1, n2, n3] = attr.nice.to_ne_bytes();
    let [r0, r1, r2, r3] = attr.priority.to_ne_bytes();
    let [u0, u1, u2, u3] = attr.util_min.to_ne_bytes();
    let [m0, m1, m2, m3] = attr.util_max.to_ne_bytes();
    let words = [
        [0, 0, 0, 0, p0, p1, p2, p3],
        attr.flags.to_ne_bytes(),
        [n0, n1, n2, n3, r0, r1, r2, r3],
        attr.runtime.to_ne_bytes(),
        attr.deadline.to_ne_bytes(),
        attr.period.to_ne_bytes(),
        [u0, u1, u2, u3, m0, m1, m2, m3],
    ];
    for (place, byte) in out.iter_mut().zip(words.iter().flatten()) {
        *place = *byte;
    }
    out
}

/// What [`encode`] wrote.
///
/// # Errors
/// EINVAL for another length.
pub fn decode(bytes: &[u8]) -> Result<SchedAttr, Errno> {
    let mut words = bytes.chunks_exact(8).map(|word| word.try_into().unwrap_or([0_u8; 8]));
    let mut next = || words.next().ok_or(Errno::INVAL);
    let ([.., p0, p1, p2, p3], flags) = (next()?, next()?);
    let [n0, n1, n2, n3, r0, r1, r2, r3] = next()?;
    let (runtime, deadline, period) = (next()?, next()?, next()?);
    let [u0, u1, u2, u3, m0, m1, m2, m3] = next()?;
    Ok(SchedAttr {
        size: 0,
        policy: u32::from_ne_bytes([p0, p1, p2, p3]),
        flags: u64::from_ne_bytes(flags),
        nice: i32::from_ne_bytes([n0, n1, n2, n3]),
        priority: u32::from_ne_bytes([r0, r1, r2, r3]),
        runtime: u64::from_ne_bytes(runtime),
        deadline: u64::from_ne_bytes(deadline),
        period: u64::from_ne_bytes(period),
        util_min: u32::from_ne_bytes([u0, u1, u2, u3]),
        util_max: u32::from_ne_bytes([m0, m1, m2, m3]),
    })
}

pub(crate) fn scheduler(w: &Walk<'_>, attr: Bytes) -> Result<(), Fail> {
    let attr = decode(w.program.raw(attr)?).at(0, Call::Walk)?;
    sys::set_scheduler(0, &attr).at(0, Call::SchedSetattr)
}

pub(crate) fn io_priority(value: u32) -> Result<(), Fail> {
    sys::set_io_priority(0, value).at(0, Call::IoprioSet)
}

/// Part 0 sets, part 1 reads back: the kernel takes any number, and a filter around us may answer for it.
pub(crate) fn personality(domain: u32) -> Result<(), Fail> {
    const ASK: u32 = 0xffff_ffff;
    sys::personality(domain).at(0, Call::Personality)?;
    match u32::try_from(sys::personality(ASK).at(1, Call::Personality)?) {
        Ok(now) if now == domain => Ok(()),
        _ => Err(Fail::new(1, Call::Compare, Errno::PERM).say(b"personality")),
    }
}

pub(crate) fn memory_policy(w: &Walk<'_>, policy: u32, nodes: Bytes) -> Result<(), Fail> {
    sys::set_memory_policy(policy, w.program.raw(nodes)?).at(0, Call::SetMempolicy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_keep_every_field() {
        let attr = SchedAttr {
            size: 0,
            policy: 6,
            flags: 0x1_0000_0001,
            nice: -20,
            priority: 99,
            runtime: 1,
            deadline: 2,
            period: u64::MAX,
            util_min: 3,
            util_max: 1024,
        };
        assert_eq!(decode(&encode(&attr)), Ok(attr));
        assert_eq!(decode(&encode(&attr)[..48]), Err(Errno::INVAL));
    }
}

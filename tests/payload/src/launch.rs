//! `launch`: changes what a process inherits and then becomes another program. It runs on the host, in front of the
//! runtime, and plays the caller with bad habits: ignored signals, leaked descriptors, odd limits.
//!
//! `launch [--ignore N] [--block N] [--leak PATH]... [--fd N=PATH]... [--umask OCTAL] [--limit N=SOFT:HARD]
//! [--session] [--control] [--unshare FLAGS] [--user UID:GID[,GROUP]...] [--keyring NAME] [--key NAME=TEXT] [--cpu N]
//! [--oom N] [--close FD] [--env-pid NAME] [--private] [--chdir PATH] -- PROGRAM [ARG]...`

use crate::{sys, wrong};

/// Applies the options in their order, then executes the program.
pub fn run(words: &[&str]) -> u8 {
    let mut rest = words;
    loop {
        match rest {
            ["--", program @ ..] => return wrong(&format!("exec: errno {}", sys::exec_search(program))),
            ["--session", more @ ..] => {
                let _ = sys::set_session();
                rest = more;
            }
            // Makes standard input the controlling terminal (TIOCSCTTY); after --session.
            ["--control", more @ ..] => {
                if let Err(errno) = sys::ioctl(0, libc::TIOCSCTTY as u64, 0) {
                    return wrong(&format!("controlling terminal: errno {errno}"));
                }
                rest = more;
            }
            ["--private", more @ ..] => {
                if let Err(errno) = private_mounts() {
                    return wrong(&format!("private mounts: errno {errno}"));
                }
                rest = more;
            }
            [option, value, more @ ..] => {
                if let Err(errno) = apply(option, value) {
                    return wrong(&format!("launch {option} {value}: errno {errno}"));
                }
                rest = more;
            }
            _ => return wrong("launch: `--` and a program are missing"),
        }
    }
}

/// A mount namespace of our own from which nothing reaches the machine's.
fn private_mounts() -> sys::Answer<()> {
    sys::unshare(libc::CLONE_NEWNS)?;
    sys::mount("none", "/", "none", libc::MS_REC | libc::MS_PRIVATE)
}

fn number<T: std::str::FromStr>(text: &str) -> sys::Answer<T> {
    text.parse().map_err(|_| libc::EINVAL)
}

fn apply(option: &str, value: &str) -> sys::Answer<()> {
    let pair = |sign: char| value.split_once(sign).ok_or(libc::EINVAL);
    match option {
        "--ignore" => sys::set_ignored(number(value)?, true),
        "--block" => sys::block(&[number(value)?]),
        "--leak" => {
            let fd = sys::open(value, libc::O_RDONLY, true)?;
            std::mem::forget(fd);
            Ok(())
        }
        "--fd" => {
            let (wanted, path) = pair('=')?;
            place(number(wanted)?, path)
        }
        "--close" => sys::raw(libc::SYS_close, [number(value)?, 0, 0, 0, 0, 0]).map(|_| ()),
        "--umask" => {
            sys::set_umask(u32::from_str_radix(value, 8).map_err(|_| libc::EINVAL)?);
            Ok(())
        }
        "--limit" => {
            let (resource, limits) = pair('=')?;
            let (soft, hard) = limits.split_once(':').ok_or(libc::EINVAL)?;
            sys::set_rlimit(number(resource)?, number(soft)?, number(hard)?)
        }
        "--unshare" => sys::unshare(number(value)?),
        "--user" => {
            let (uid, groups) = pair(':')?;
            let groups = groups.split(',').map(number).collect::<sys::Answer<Vec<u32>>>()?;
            let (gid, more) = groups.split_first().ok_or(libc::EINVAL)?;
            sys::become_user(number(uid)?, *gid, more)
        }
        // The variable gets the pid of the program to come, as a service manager sets LISTEN_PID.
        "--env-pid" => sys::set_environment(value, &std::process::id().to_string()),
        "--keyring" => sys::new_keyring(value).map(|_| ()),
        "--key" => {
            let (name, text) = pair('=')?;
            sys::add_key(name, text).map(|_| ())
        }
        "--cpu" => sys::set_affinity(number(value)?),
        "--oom" => std::fs::write("/proc/self/oom_score_adj", value)
            .map_err(|error| error.raw_os_error().unwrap_or(0)),
        "--chdir" => {
            let path = sys::c_text(value)?;
            sys::raw(libc::SYS_chdir, [path.as_ptr() as i64, 0, 0, 0, 0, 0]).map(|_| ())
        }
        "--nice" => sys::raw(libc::SYS_setpriority, [0, 0, number(value)?, 0, 0, 0]).map(|_| ()),
        _ => Err(libc::EINVAL),
    }
}

/// Opens a path at exactly this number, open across exec.
fn place(wanted: i32, path: &str) -> sys::Answer<()> {
    let flags = if std::path::Path::new(path).is_dir() { libc::O_RDONLY } else { libc::O_RDWR };
    let fd = sys::open(path, flags, true)?;
    let placed = if fd.raw() == wanted { fd } else { sys::duplicate(fd.raw(), wanted)? };
    let right = placed.raw() == wanted;
    std::mem::forget(placed);
    if right { Ok(()) } else { Err(libc::EBUSY) }
}

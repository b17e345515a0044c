//! `do ACTION...`: tries actions one after the other and prints what the kernel said to each, as one JSON list.
//!
//! An action is a JSON list of its name and its arguments: `["open", "/dev/null", "rw"]`. The answer is an object
//! with `ok` (a value) or `errno` (a number). The first argument may be a file: `@/path` holds the list of actions.

use crate::{say, sys, wrong};
use serde_json::{Value, json};

/// Tries all; the exit code says only whether the actions could be read.
pub fn all(words: &[&str]) -> u8 {
    let mut answers = Vec::new();
    for word in words {
        let Ok(Value::Array(action)) = serde_json::from_str(word) else {
            return wrong(&format!("`{word}` is no action"));
        };
        match try_one(&action) {
            Some(Ok(value)) => answers.push(json!({ "ok": value })),
            Some(Err(errno)) => answers.push(json!({ "errno": errno, "error": error_name(errno) })),
            None => return wrong(&format!("no action {word}")),
        }
    }
    say(&Value::Array(answers).to_string());
    0
}

fn error_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EACCES => "EACCES",
        libc::EROFS => "EROFS",
        libc::ENOSYS => "ENOSYS",
        libc::EEXIST => "EEXIST",
        libc::EBUSY => "EBUSY",
        libc::EINVAL => "EINVAL",
        libc::ENXIO => "ENXIO",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::ELOOP => "ELOOP",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EDQUOT => "EDQUOT",
        libc::ENOSPC => "ENOSPC",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        _ => return errno.to_string(),
    };
    name.to_owned()
}

fn io<T>(result: std::io::Result<T>) -> sys::Answer<T> {
    result.map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// `None` when there is no such action, or with wrong arguments.
fn try_one(action: &[Value]) -> Option<sys::Answer<Value>> {
    let name = action.first()?.as_str()?;
    let text = |index: usize| action.get(index).and_then(Value::as_str);
    let number = |index: usize| action.get(index).and_then(Value::as_i64);
    files(name, &text, &number).or_else(|| kernel(name, &text, &number, action))
}

type Text<'a> = dyn Fn(usize) -> Option<&'a str> + 'a;
type Number<'a> = dyn Fn(usize) -> Option<i64> + 'a;

fn files(name: &str, text: &Text<'_>, number: &Number<'_>) -> Option<sys::Answer<Value>> {
    let done = |answer: sys::Answer<()>| Some(answer.map(|()| Value::Null));
    let path = text(1);
    match name {
        "open" => {
            let flags = match text(2)? {
                "r" => libc::O_RDONLY,
                "w" => libc::O_WRONLY,
                "rw" => libc::O_RDWR,
                "path" => libc::O_PATH,
                "create" => libc::O_RDWR | libc::O_CREAT,
                _ => return None,
            };
            done(sys::open(path?, flags | libc::O_NONBLOCK | libc::O_NOCTTY, false).map(|_| ()))
        }
        "read" => Some(io(std::fs::read(path?)).map(|bytes| {
            let shown = bytes.get(..4096).unwrap_or(&bytes);
            json!({"text": String::from_utf8_lossy(shown), "length": bytes.len()})
        })),
        "read-some" => Some(read_some(path?)),
        "read-bytes" => Some(read_bytes(path?, u64::try_from(number(2)?).ok()?)),
        "write" => done(write(path?, text(2)?)),
        "list" => Some(io(std::fs::read_dir(path?)).map(|entries| {
            let mut names: Vec<String> = entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect();
            names.sort();
            json!(names)
        })),
        "stat" => {
            let seen = crate::report::stat(path?);
            let errno = seen.get("errno").and_then(Value::as_i64).and_then(|errno| i32::try_from(errno).ok());
            Some(errno.map_or(Ok(seen), Err))
        }
        "readlink" => Some(io(std::fs::read_link(path?)).map(|link| json!(link.to_string_lossy()))),
        "mkdir" => done(io(std::fs::create_dir(path?))),
        "rmdir" => done(io(std::fs::remove_dir(path?))),
        "unlink" => done(io(std::fs::remove_file(path?))),
        "symlink" => done(io(std::os::unix::fs::symlink(path?, text(2)?))),
        "rename" => done(io(std::fs::rename(path?, text(2)?))),
        "chmod" => {
            use std::os::unix::fs::PermissionsExt;
            let mode = u32::try_from(number(2)?).ok()?;
            done(io(std::fs::set_permissions(path?, std::fs::Permissions::from_mode(mode))))
        }
        "chown" => {
            let (uid, gid) = (u32::try_from(number(2)?).ok()?, u32::try_from(number(3)?).ok()?);
            done(io(std::os::unix::fs::chown(path?, Some(uid), Some(gid))))
        }
        "mknod" => {
            let kind = match text(2)? {
                "c" => libc::S_IFCHR,
                "b" => libc::S_IFBLK,
                "p" => libc::S_IFIFO,
                _ => return None,
            };
            let (major, minor) = (u32::try_from(number(3)?).ok()?, u32::try_from(number(4)?).ok()?);
            done(sys::mknod(path?, kind | 0o666, major, minor))
        }
        "statfs" => Some(sys::statfs(path?).map(|(kind, flags)| json!({"type": kind, "flags": flags}))),
        _ => None,
    }
}

/// One read of at most 64 bytes: for devices without an end.
fn read_some(path: &str) -> sys::Answer<Value> {
    let fd = sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK, false)?;
    let mut buffer = [0u8; 64];
    let length = sys::raw(libc::SYS_read, [fd.raw().into(), buffer.as_mut_ptr() as i64, 64, 0, 0, 0])?;
    Ok(json!(length))
}

/// Reads so many bytes from the beginning: how many there were, and how long it took, in milliseconds.
fn read_bytes(path: &str, count: u64) -> sys::Answer<Value> {
    use std::io::Read;
    let fd = sys::open(path, libc::O_RDONLY, false)?;
    let begun = std::time::Instant::now();
    let mut source = std::fs::File::from(fd.owned()).take(count);
    let length = io(std::io::copy(&mut source, &mut std::io::sink()))?;
    Ok(json!({"length": length, "milliseconds": begun.elapsed().as_millis().to_string()}))
}

/// Writes without creating.
fn write(path: &str, content: &str) -> sys::Answer<()> {
    use std::io::Write;
    let fd = sys::open(path, libc::O_WRONLY, false)?;
    io(std::fs::File::from(fd.owned()).write_all(content.as_bytes()))
}

fn kernel(name: &str, text: &Text<'_>, number: &Number<'_>, action: &[Value]) -> Option<sys::Answer<Value>> {
    let done = |answer: sys::Answer<()>| Some(answer.map(|()| Value::Null));
    let small = |index: usize| number(index).and_then(|value| i32::try_from(value).ok());
    match name {
        "syscall" => {
            let mut args = [0i64; 6];
            for (slot, value) in args.iter_mut().zip(action.iter().skip(2)) {
                // Above the signed range: the bits matter, not the sign.
                *slot = value.as_i64().or_else(|| value.as_u64().map(|bits| bits as i64))?;
            }
            Some(sys::raw(number(1)?, args).map(|value| json!(value)))
        }
        "mount" => {
            let flags = u64::try_from(number(4)?).ok()?;
            done(sys::mount(text(1)?, text(2)?, text(3)?, flags))
        }
        "umount" => done(sys::unmount(text(1)?, small(2)?)),
        "chroot" => done(sys::chroot(text(1)?)),
        "unshare" => done(sys::unshare(small(1)?)),
        "kill" => done(sys::kill(small(1)?, small(2)?)),
        "socket" => Some(sys::open_socket(small(1)?, small(2)?, small(3)?).map(|_| Value::Null)),
        "join" => {
            done(sys::open(text(1)?, libc::O_RDONLY, false).and_then(|fd| sys::set_namespace(fd.raw())))
        }
        "push-input" => done(sys::push_input(0, b'x').map(|_| ())),
        "ioctl" => done(sys::ioctl(small(1)?, u64::try_from(number(2)?).ok()?, 0).map(|_| ())),
        "find-key" => Some(sys::find_key(text(1)?).map(|key| json!(key))),
        "exec-works" => Some(exec_works(text(1)?)),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(u64::try_from(number(1)?).ok()?));
            Some(Ok(Value::Null))
        }
        // To the socket of sd_notify(3) that the environment names.
        "notify" => Some(notify(text(1)?).map(|()| Value::Null)),
        "mounts" => Some(Ok(crate::report::mounts())),
        _ => None,
    }
}

fn notify(message: &str) -> sys::Answer<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(libc::ENOENT)?;
    let socket = io(std::os::unix::net::UnixDatagram::unbound())?;
    io(socket.send_to(message.as_bytes(), path)).map(|_| ())
}

/// Runs a program in a child: its exit code, or the errno of the exec.
fn exec_works(path: &str) -> sys::Answer<Value> {
    match sys::fork()? {
        0 => sys::end(128 + (sys::exec(path, &[path, "exit", "0"]) & 0x7f)),
        pid => {
            let (_, status) = sys::wait_for(pid, 0)?;
            let code = (status >> 8) & 0xff;
            if code >= 128 { Err(code - 128) } else { Ok(json!(code)) }
        }
    }
}

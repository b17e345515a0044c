//! The conversation with a manager that behaves in a certain way: one of our own, on a socket of our own.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bus::Bus;
use super::wire::{Call, FIRST, Incoming, decode, total_length};
use super::{Argument, UnitRecord};

/// How the manager answers a call: an error's name, or texts; and whether a job is over then.
type Reply = fn(call: usize, member: &str) -> Result<Vec<&'static str>, &'static str>;

/// A socket that goes away with the value.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn socket(name: &str) -> (Socket, UnixListener) {
    let path = std::env::temp_dir().join(format!("coracle-bus-{name}-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    (Socket(path), listener)
}

fn unit(socket: &Socket) -> UnitRecord {
    UnitRecord { name: "coracle-x.scope".into(), bus: socket.0.clone() }
}

/// An answer: a message like a call, with other fields. It is patched out of one: kind 2 (reply), 3 (error) or 4 (signal), and the field
/// of the interface becomes that of the serial or of the error.
fn message(kind: u8, member: &str, error: &str, to: u32, texts: &[&str]) -> Vec<u8> {
    let arguments: Vec<Argument<'_>> = texts.iter().map(|text| Argument::Text(text)).collect();
    let call = Call { destination: "d", path: "/p", interface: "i", member, arguments: &arguments };
    let plain = call.encode(9);
    // The body of the call, behind a head of our own.
    let body_length = u32::from_le_bytes(plain[4..8].try_into().unwrap());
    let body = plain[plain.len() - usize::try_from(body_length).unwrap()..].to_vec();
    let mut fields: Vec<u8> = Vec::new();
    let mut field = |code: u8, kind: u8, value: &[u8]| {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        fields.extend(value);
    };
    let text = |text: &str| {
        let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.push(0);
        bytes
    };
    field(5, b'u', &to.to_le_bytes());
    field(3, b's', &text(member));
    field(4, b's', &text(error));
    let mut signature = vec![u8::try_from(texts.len()).unwrap()];
    signature.extend(std::iter::repeat_n(b's', texts.len()));
    signature.push(0);
    field(8, b'g', &signature);
    let mut out = vec![b'l', kind, 0, 1];
    out.extend(body_length.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    out.extend(fields);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(body);
    out
}

fn authenticate(stream: &UnixStream) {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("\0AUTH EXTERNAL "), "{line:?}");
    (&*stream).write_all(b"OK 0123456789abcdef\r\n").unwrap();
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "BEGIN\r\n");
}

fn next(mut stream: &UnixStream) -> Option<(u32, Incoming)> {
    let mut bytes = vec![0; FIRST];
    stream.read_exact(&mut bytes).ok()?;
    let total = total_length(&bytes).unwrap();
    bytes.resize(total, 0);
    stream.read_exact(&mut bytes[FIRST..]).unwrap();
    let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    Some((serial, decode(&bytes).unwrap()))
}

/// Serves one connection; gives the members that were called. Each job that is begun ends with `result` before its call is answered.
fn manager(listener: UnixListener, result: &'static str, reply: Reply) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        authenticate(&stream);
        let mut calls = Vec::new();
        while let Some((serial, call)) = next(&stream) {
            let number = calls.iter().filter(|member| **member == call.member).count();
            let answer = reply(number, &call.member);
            if answer.is_ok() && matches!(call.member.as_str(), "StartTransientUnit" | "StopUnit") {
                let other = message(4, "JobRemoved", "", 0, &["1", "/job/other", "u", "failed"]);
                let ours = message(4, "JobRemoved", "", 0, &["2", "/job/ours", "u", result]);
                (&stream).write_all(&[other, ours].concat()).unwrap();
            }
            let bytes = match answer {
                Ok(texts) => message(2, "", "", serial, &texts),
                Err(name) => message(3, "", name, serial, &["words about it"]),
            };
            (&stream).write_all(&bytes).unwrap();
            calls.push(call.member);
        }
        calls
    })
}

fn willing(_: usize, member: &str) -> Result<Vec<&'static str>, &'static str> {
    Ok(if matches!(member, "StartTransientUnit" | "StopUnit") { vec!["/job/ours"] } else { vec![] })
}

#[test]
fn a_unit_is_started_when_its_job_is_done() {
    let (socket, listener) = socket("start");
    let served = manager(listener, "done", willing);
    unit(&socket).start("system.slice", "text", 1, &[], &[]).unwrap();
    assert_eq!(served.join().unwrap(), ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
}

#[test]
fn a_job_that_fails_is_an_error() {
    let (socket, listener) = socket("fails");
    let served = manager(listener, "failed", willing);
    let error = unit(&socket).start("system.slice", "text", 1, &[], &[]).unwrap_err();
    assert!(error.to_string().contains("the job ended as \"failed\""), "{error}");
    assert_eq!(served.join().unwrap().last().unwrap(), "ResetFailedUnit");
}

#[test]
fn what_a_failed_unit_left_is_reset_and_a_living_one_stays() {
    let (socket_once, listener) = socket("exists-once");
    let served = manager(listener, "done", |number, member| match (member, number) {
        ("StartTransientUnit", 0) => Err("org.freedesktop.systemd1.UnitExists"),
        _ => willing(number, member),
    });
    unit(&socket_once).start("system.slice", "text", 1, &[], &[]).unwrap();
    let calls = served.join().unwrap();
    assert_eq!(calls[3..], ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);

    let (socket_always, listener) = socket("exists");
    let served = manager(listener, "done", |number, member| match member {
        "StartTransientUnit" => Err("org.freedesktop.systemd1.UnitExists"),
        _ => willing(number, member),
    });
    let error = unit(&socket_always).start("system.slice", "text", 1, &[], &[]).unwrap_err();
    assert!(error.to_string().contains("does not start coracle-x.scope: words about it"), "{error}");
    assert!(!served.join().unwrap().contains(&"StopUnit".to_owned()));
}

#[test]
fn a_unit_that_is_gone_is_stopped() {
    let (socket, listener) = socket("gone");
    let served = manager(listener, "done", |number, member| match member {
        "KillUnit" | "StopUnit" => Err("org.freedesktop.systemd1.NoSuchUnit"),
        _ => willing(number, member),
    });
    unit(&socket).stop().unwrap();
    assert_eq!(served.join().unwrap()[3..], ["KillUnit", "StopUnit"]);
}

#[test]
fn a_manager_that_does_not_answer_has_a_deadline() {
    // It listens, and never takes the connection.
    let (socket, _listener) = socket("silent");
    let begun = Instant::now();
    let error = Bus::connect(&socket.0, begun + Duration::from_millis(150)).unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It goes away in the middle.
    let (gone, listener) = self::socket("closes");
    let served = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let error = Bus::connect(&gone.0, begun + Duration::from_secs(5)).unwrap_err();
    served.join().unwrap();
    assert!(error.to_string().contains("clos") || error.errno.is_some(), "{error}");
}

#[test]
fn what_is_no_bus_is_told_apart() {
    let (socket, listener) = socket("other");
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        stream
    });
    let error = Bus::connect(&socket.0, Instant::now() + Duration::from_secs(5)).unwrap_err();
    assert!(error.to_string().contains("REJECTED"), "{error}");
    drop(served.join().unwrap());
    assert!(
        Bus::connect(&PathBuf::from("/nonexistent/bus"), Instant::now() + Duration::from_secs(1)).is_err()
    );
}

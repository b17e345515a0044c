//! Terminals and streams: the console socket, the foreground, sizes, modes, and that no byte is lost.
use coracle_tests::terminal::{ConsoleSocket, Pty, Reader, resize};
use coracle_tests::*;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{LocalModes, OutputModes, tcgetattr, tcgetwinsize};
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

cases![
    console_socket,
    waits_with_nothing_else_open,
    console_size,
    console_for_exec,
    console_socket_is_needed,
    console_socket_is_not_wanted,
    console_socket_is_wrong,
    foreground,
    foreground_exit_codes,
    foreground_size_changes,
    foreground_modes_are_restored,
    foreground_modes_after_a_signal,
    foreground_input,
    foreground_exec,
    terminal_of_another_user,
    stream_through_a_pipe,
    stream_into_a_pipe,
    stream_through_a_terminal,
    output_is_closed,
];

/// How much the streams carry, in bytes: `STREAM_MIB`, 64 MiB by default.
fn stream_size() -> u64 {
    let mebibytes = std::env::var("STREAM_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(64u64);
    mebibytes << 20
}

fn with_terminal(t: &T, words: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(t, words);
    bundle.set("/process/terminal", json!(true));
    bundle
}

/// What waits for `start` has its terminal, the sockets that it is told by, and the root it stands in.
fn waits_with_nothing_else_open(t: &T) {
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = with_terminal(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
    let open = std::fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap();
    for entry in open.map(|entry| entry.unwrap().path()) {
        let target = std::fs::read_link(&entry).unwrap().display().to_string();
        let number: u32 = entry.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let expected = match number {
            0..=2 => target.contains("/pts/"),
            _ => target == "/" || target.starts_with("socket:") || target.starts_with("pipe:"),
        };
        assert!(expected, "{number} is {target}");
    }
    container.start();
    assert_eq!(container.wait(), 0);
    container.delete();
}

fn console_socket(t: &T) {
    t.differs("crun", "no name comes with the descriptor");
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = with_terminal(t, &["report", "--path", "/dev/console"]);
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
    let (master, name) = socket.master();
    assert!(name.contains("ptmx") || name.contains("/dev/"), "a name comes with it: {name}");
    assert!(tcgetwinsize(&master).is_ok(), "it is a terminal");
    let link =
        std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&master))).unwrap();
    assert!(link.display().to_string().contains("ptmx"), "the master side: {}", link.display());
    let reader = Reader::new(&master);
    container.start();
    assert_eq!(container.wait(), 0);
    drop(master);
    let text = String::from_utf8(reader.end()).unwrap();
    let seen: Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(seen["tty"]["isatty"], json!([true, true, true]));
    assert_eq!(seen["tty"]["controlling"], true);
    assert_eq!(seen["tty"]["name"], "/dev/pts/0");
    assert_eq!(seen["tty"]["foreground"], 1, "its own process group");
    assert_eq!(seen["paths"]["/dev/console"]["type"], "char");
    assert_eq!(seen["paths"]["/dev/console"]["major"], 136);
    assert_eq!(mount_at(&seen["mounts"], "/dev/console")["type"], "devpts");
    container.delete().gone();
}

fn console_size(t: &T) {
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = with_terminal(t, &["tty", "sizes", "1"]);
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 111}));
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
    let (master, _) = socket.master();
    let reader = Reader::new(&master);
    container.start();
    reader.until("size 33 111");
    resize(&master, 44, 122);
    reader.until("size 44 122");
    assert_eq!(container.wait(), 0);
    container.delete();
}

fn console_for_exec(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let pid_file = t.dir().join("pid");
    let call = container.call("exec").arg("--tty").arg("--detach").arg("--console-socket").arg(&socket.path);
    let call = call.arg("--pid-file").arg(&pid_file);
    call.then(["/payload", "report"]).done().expect(0);
    let (master, _) = socket.master();
    container.adopt(std::fs::read_to_string(&pid_file).unwrap().parse().unwrap());
    let text = Reader::new(&master);
    text.until("\"uidMap\"");
    let seen: Value = serde_json::from_str(text.seen().trim()).unwrap();
    assert_eq!(seen["tty"]["isatty"], json!([true, true, true]));
    assert_eq!(seen["tty"]["controlling"], true);
    assert_eq!(seen["tty"]["foreground"], seen["pgrp"]);
    container.end();
}

fn console_socket_is_needed(t: &T) {
    let mut bundle = with_terminal(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let done = container.create_call().done().expect(1);
    assert!(done.message().contains("console"), "{done}");
    container.gone();
    let done = container.run_call().arg("--detach").done().expect(1);
    assert!(done.message().contains("console"), "{done}");
    container.gone();
}

fn console_socket_is_not_wanted(t: &T) {
    t.differs("crun", "it is ignored");
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let done = container.create_call().arg("--console-socket").arg(&socket.path).done().expect(1);
    assert!(done.message().contains("console"), "{done}");
    container.gone();
}

fn console_socket_is_wrong(t: &T) {
    let plain = t.dir().join("plain");
    std::fs::write(&plain, "").unwrap();
    let mut bundle = with_terminal(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    for path in [plain, t.dir().join("missing")] {
        container.create_call().arg("--console-socket").arg(&path).done().expect(1).error();
        container.gone();
    }
}

/// Starts `run` with all three descriptors on a terminal of the case, which is its controlling terminal.
fn on_terminal(container: &Container<'_>, pty: &Pty) -> runtime::Running {
    foreground_call(container.run_call(), pty).start()
}

fn foreground_call(call: Call, pty: &Pty) -> Call {
    call.input(pty.user()).output(pty.user()).errors(pty.user()).launched(["--session", "--control"])
}

fn foreground(t: &T) {
    t.differs("runc", "the size is set after the start");
    t.differs("crun", "no size at the start");
    let pty = Pty::new(30, 100);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    on_terminal(&container, &pty).done().expect(0);
    reader.until("\"uidMap\"");
    let seen: Value = serde_json::from_str(reader.seen().trim()).unwrap();
    assert_eq!(seen["tty"]["isatty"], json!([true, true, true]));
    assert_eq!(seen["tty"]["name"], "/dev/pts/0", "one of the container's own");
    assert_eq!(seen["tty"]["size"], json!({"rows": 30, "columns": 100}), "the size of the outer one");
    container.gone();
}

fn foreground_exit_codes(t: &T) {
    for (words, code) in [(["exit", "0"], 0), (["exit", "42"], 42)] {
        let pty = Pty::new(24, 80);
        let _reader = Reader::new(&pty.master);
        let mut bundle = with_terminal(t, &words);
        on_terminal(&Container::new(t, &mut bundle), &pty).done().expect(code);
    }
    let pty = Pty::new(24, 80);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let running = on_terminal(&container, &pty);
    reader.until("ready");
    container.kill("KILL");
    running.done().expect(137);
}

fn foreground_size_changes(t: &T) {
    t.differs("crun", "no size at the start");
    let pty = Pty::new(20, 60);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["tty", "sizes", "2"]);
    let container = Container::new(t, &mut bundle);
    let running = on_terminal(&container, &pty);
    reader.until("size 20 60");
    resize(&pty.master, 25, 70);
    reader.until("size 25 70");
    resize(&pty.master, 51, 203);
    reader.until("size 51 203");
    running.done().expect(0);
}

fn is_cooked(pty: &Pty) -> bool {
    let modes = tcgetattr(&pty.user).unwrap();
    modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
        && modes.output_modes.contains(OutputModes::OPOST)
}

fn foreground_modes_are_restored(t: &T) {
    for (words, code) in [(&["exit", "0"][..], 0), (&["exit", "9"][..], 9), (&["crash"][..], 139)] {
        let pty = Pty::new(24, 80);
        let _reader = Reader::new(&pty.master);
        assert!(is_cooked(&pty));
        let mut bundle = with_terminal(t, words);
        on_terminal(&Container::new(t, &mut bundle), &pty).done().expect(code);
        assert!(is_cooked(&pty), "after {words:?}");
    }
    // While it runs the outer terminal is raw: the inner one does the work.
    let pty = Pty::new(24, 80);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let running = on_terminal(&container, &pty);
    reader.until("ready");
    assert!(!is_cooked(&pty));
    container.kill("KILL");
    running.done().expect(137);
    assert!(is_cooked(&pty));
    // An error before anything runs.
    let pty = Pty::new(24, 80);
    let _reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &[]);
    bundle.set("/process/args", json!(["/no/such/program"]));
    on_terminal(&Container::new(t, &mut bundle), &pty).done().expect(1);
    assert!(is_cooked(&pty));
}

fn foreground_modes_after_a_signal(t: &T) {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP, rustix::process::Signal::INT]
    {
        let pty = Pty::new(24, 80);
        let reader = Reader::new(&pty.master);
        let mut bundle = with_terminal(t, &["wait-term"]);
        let container = Container::new(t, &mut bundle);
        let running = on_terminal(&container, &pty);
        reader.until("ready");
        running.signal(signal);
        if signal != rustix::process::Signal::TERM {
            // Forwarded; the process does not care, so it is ended in another way.
            std::thread::sleep(Duration::from_millis(100));
            container.kill("TERM");
        }
        running.done().expect(0);
        assert!(is_cooked(&pty), "after {signal:?}");
    }
}

fn foreground_input(t: &T) {
    let pty = Pty::new(24, 80);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["tty", "echo"]);
    let container = Container::new(t, &mut bundle);
    let running = on_terminal(&container, &pty);
    reader.until("ready");
    let mut keys = File::from(pty.master.try_clone().unwrap());
    keys.write_all(b"first\r").unwrap();
    reader.until("[first]");
    // The line discipline inside edits: a letter, erase, another one.
    keys.write_all(b"x\x7fsecond\r").unwrap();
    reader.until("[second]");
    keys.write_all(b"\x04").unwrap();
    reader.until("end of input");
    running.done().expect(0);
    // A key that is a signal reaches the inside, not the runtime.
    let pty = Pty::new(24, 80);
    let reader = Reader::new(&pty.master);
    let mut bundle = with_terminal(t, &["wait-signals", "2", "15"]);
    let container = Container::new(t, &mut bundle);
    let running = on_terminal(&container, &pty);
    reader.until("ready");
    let mut keys = File::from(pty.master.try_clone().unwrap());
    keys.write_all(b"\x03").unwrap();
    reader.until("signal 2");
    keys.write_all(b"\x03").unwrap();
    container.kill("TERM");
    running.done().expect(0);
}

fn foreground_exec(t: &T) {
    t.differs("crun", "no size at the start");
    t.differs("runc", "the size is set after the start");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let pty = Pty::new(31, 97);
    let reader = Reader::new(&pty.master);
    let call = container.call("exec").arg("--tty").then(["/payload", "report"]);
    foreground_call(call, &pty).done().expect(0);
    reader.until("\"uidMap\"");
    let seen: Value = serde_json::from_str(reader.seen().trim()).unwrap();
    assert_eq!(seen["tty"]["isatty"], json!([true, true, true]));
    assert_eq!(seen["tty"]["size"], json!({"rows": 31, "columns": 97}));
    assert!(is_cooked(&pty));
    foreground_call(container.call("exec").arg("-t").then(["/payload", "exit", "12"]), &pty)
        .done()
        .expect(12);
    assert!(is_cooked(&pty));
    container.end();
}

fn terminal_of_another_user(t: &T) {
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = with_terminal(
        t,
        &[
            "do",
            r#"["open", "/dev/console", "rw"]"#,
            r#"["open", "/dev/pts/0", "rw"]"#,
            r#"["open", "/dev/tty", "rw"]"#,
        ],
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
    let (master, _) = socket.master();
    let reader = Reader::new(&master);
    container.start();
    assert_eq!(container.wait(), 0);
    drop(master);
    let text = String::from_utf8(reader.end()).unwrap();
    let got: Value = serde_json::from_str(text.trim()).unwrap();
    assert!(got.as_array().unwrap().iter().all(|answer| answer.get("ok").is_some()), "{got}");
    container.delete();
}

/// A pipe: the end to read from, the end to write to.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (File::from(reader), writer)
}

/// Checks the stream that `tty pour` makes, as it comes. A terminal may put a return before each newline.
fn check_stream(from: impl Read, bytes: u64) {
    let mut from = std::io::BufReader::with_capacity(1 << 16, from);
    let mut line = Vec::new();
    for number in 0..bytes / 64 {
        line.clear();
        from.read_until(b'\n', &mut line).unwrap_or_else(|error| panic!("line {number}: {error}"));
        let text = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n")).unwrap_or(&line);
        let right = text == format!("{number:.<63}").as_bytes();
        assert!(right, "line {number} is {:?}", String::from_utf8_lossy(&line));
    }
}

fn stream_through_a_pipe(t: &T) {
    let bytes = stream_size();
    let mut bundle = Bundle::new(t, &["tty", "pour", &bytes.to_string()]);
    let container = Container::new(t, &mut bundle);
    let (reader, writer) = pipe();
    let running = container.run_call().output(writer).within(Duration::from_secs(300)).start();
    check_stream(reader, bytes);
    running.done().expect(0);
}

fn stream_into_a_pipe(t: &T) {
    let bytes = stream_size();
    let mut bundle = Bundle::new(t, &["tty", "drain", &bytes.to_string()]);
    let container = Container::new(t, &mut bundle);
    let (reader, writer) = pipe();
    let running = container.run_call().input(reader).within(Duration::from_secs(300)).start();
    pour(writer, bytes);
    let done = running.done().expect(0);
    assert!(done.out.contains(&format!("drained {bytes}")), "{done}");
}

fn pour(to: OwnedFd, bytes: u64) {
    let mut to = std::io::BufWriter::with_capacity(1 << 16, File::from(to));
    for number in 0..bytes / 64 {
        writeln!(to, "{number:.<63}").unwrap();
    }
    to.flush().unwrap();
}

fn stream_through_a_terminal(t: &T) {
    let bytes = stream_size();
    let pty = Pty::new(24, 80);
    let mut bundle = with_terminal(t, &["tty", "pour", &bytes.to_string(), "raw"]);
    let container = Container::new(t, &mut bundle);
    let call = foreground_call(container.run_call(), &pty).within(Duration::from_secs(390));
    let running = call.start();
    let master = pty.master.try_clone().unwrap();
    check_stream(File::from(master), bytes);
    running.done().expect(0);
}

fn output_is_closed(t: &T) {
    // The reader of the output goes away: the container gets SIGPIPE or EPIPE, and run ends with its code.
    let mut bundle = Bundle::new(t, &["tty", "pour", "100000000"]);
    let container = Container::new(t, &mut bundle);
    let (reader, writer) = pipe();
    let running = container.run_call().output(writer).start();
    drop(reader);
    let done = running.done();
    // As the first process of its namespace it is not killed by the signal from inside: the write fails with EPIPE.
    assert!([3, 141].contains(&done.code()), "{done}");
    container.gone();
}

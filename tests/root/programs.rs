//! Programs that cannot be executed: the message that engines know, and a hint that tells why.
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

cases![not_there, without_what_loads_it, for_nothing_that_is_known, not_permitted, by_an_added_process,];

fn others(t: &T) {
    t.differs("runc", "no hints");
    t.differs("crun", "no hints");
}

fn put(bundle: &Bundle, path: &str, mode: u32, content: &[u8]) {
    let file = bundle.inside(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

/// A file that a kernel takes for a program of this machine, with this loader.
fn program(machine: u16, loader: &str) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, number: &[u8]| bytes[at..at + number.len()].copy_from_slice(number);
    put(16, &2u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0]);
    put(64, &3u32.to_le_bytes());
    put(72, &400u64.to_le_bytes());
    let length = u64::try_from(loader.len() + 1).unwrap();
    put(96, &length.to_le_bytes());
    put(104, &length.to_le_bytes());
    put(400, loader.as_bytes());
    bytes
}

const OWN: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
const OTHER: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };

/// Both ways to begin it fail with the text that engines look for, and with the hint.
fn fails(t: &T, bundle: &mut Bundle, args: &[&str], text: &str, says: &str) {
    bundle.set("/process/args", json!(args));
    let container = Container::new(t, bundle);
    let mut calls = vec![container.run_call()];
    // What only execve finds is found by `start`.
    let created = container.create_call().done();
    if created.status.success() {
        calls.push(container.call("start"));
    } else {
        calls.push(container.create_call());
    }
    if created.status.success() {
        let error = calls.pop().unwrap().done().expect(1).error();
        check(&error, text, says);
        container.call("delete").arg("--force").ok();
    }
    for call in calls {
        check(&call.done().expect(1).error(), text, says);
        container.gone();
    }
}

fn check(error: &Value, text: &str, says: &str) {
    let message = error["msg"].as_str().unwrap();
    assert!(message.to_lowercase().contains(text), "{text}: {error}");
    let hint = error["hint"].as_str().unwrap_or("");
    assert!(hint.contains(says), "{says}: {error}");
    // The hint has none of the words by which engines tell failures apart.
    for word in ["no such file", "permission denied", "not found", "not permitted"] {
        assert!(!hint.to_lowercase().contains(word), "{error}");
    }
}

fn not_there(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &[]);
    put(&bundle, "/usr/bin/python3", 0o755, b"#!/bin/sh\n");
    put(&bundle, "/opt/tool", 0o755, b"#!/bin/sh\n");
    symlink("/nowhere", bundle.inside("/opt/dangling")).unwrap();
    bundle.set("/process/env", json!(["PATH=/usr/bin:/opt"]));
    let bare = "executable file not found in $path";
    let named = "no such file or directory";
    fails(t, &mut bundle, &["pyhton3"], bare, "did you mean python3?");
    fails(t, &mut bundle, &["quite-another-thing"], bare, "");
    fails(t, &mut bundle, &["python3 -m http.server"], bare, "each argument is an entry of its own");
    fails(t, &mut bundle, &["/usr/bin/pyton3"], named, "did you mean /usr/bin/python3?");
    fails(t, &mut bundle, &["/srv/app/run"], named, "there is no /srv/app");
    fails(t, &mut bundle, &["/opt/dangling"], named, "it is a link to what does not exist");
    bundle.set("/process/env", json!(["PATH=/opt"]));
    fails(t, &mut bundle, &["python3"], bare, "it is /usr/bin/python3, and PATH is /opt");
}

fn without_what_loads_it(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &[]);
    put(&bundle, "/script", 0o755, b"#!/bin/bash\necho\n");
    put(&bundle, "/dos", 0o755, b"#!/payload\r\necho\r\n");
    put(&bundle, "/program", 0o755, &program(OWN, "/lib/ld-of-another-image"));
    put(&bundle, "/second", 0o755, b"#! /program\n");
    let text = "no such file or directory";
    fails(t, &mut bundle, &["/script"], text, "its first line names /bin/bash, which does not exist");
    fails(t, &mut bundle, &["/dos"], text, "its first line ends with a carriage return");
    fails(t, &mut bundle, &["/program"], text, "its loader /lib/ld-of-another-image does not exist");
    fails(t, &mut bundle, &["/second"], text, "its interpreter is /program, and its loader /lib/ld-of");
}

fn for_nothing_that_is_known(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &[]);
    put(&bundle, "/other", 0o755, &program(OTHER, "/lib/ld"));
    put(&bundle, "/text", 0o755, b"echo hello\n");
    put(&bundle, "/empty", 0o755, b"");
    put(&bundle, "/marked", 0o755, b"\xef\xbb\xbf#!/payload\n");
    let text = "exec format error";
    fails(t, &mut bundle, &["/other"], text, "it is a program for");
    fails(t, &mut bundle, &["/text"], text, "it is a text without a #! line");
    fails(t, &mut bundle, &["/empty"], text, "it is empty");
    fails(t, &mut bundle, &["/marked"], text, "a byte order mark stands before");
}

fn not_permitted(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &[]);
    put(&bundle, "/plain", 0o644, b"#!/payload\n");
    put(&bundle, "/mine", 0o750, b"#!/payload\n");
    put(&bundle, "/closed/tool", 0o755, b"#!/payload\n");
    fs::set_permissions(bundle.inside("/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    put(&bundle, "/by", 0o755, b"#!/plain\n");
    let text = "permission denied";
    fails(t, &mut bundle, &["/plain"], text, "/plain has no execute bit (mode 0644)");
    fails(t, &mut bundle, &["/by"], text, "its interpreter /plain has no execute bit");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    fails(
        t,
        &mut bundle,
        &["/mine"],
        text,
        "/mine is not for everybody (mode 0750), and the process is user 1000",
    );
    fails(t, &mut bundle, &["/closed/tool"], text, "/closed is not open to everybody (mode 0700)");
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    bundle::copy_program(&bundle.inside("/payload"), &source.join("tool"));
    bundle.bind(&source, "/data", &["noexec"]);
    fails(t, &mut bundle, &["/data/tool"], text, "mounted with noexec");
}

fn by_an_added_process(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    bundle::write_program(&source.join("script"), "#!/bin/zsh\n");
    bundle.bind(&source, "/data", &[]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    // What is mounted is seen, too; and the image cannot lead the look out of the container.
    symlink("/etc/hostname", source.join("zsh")).unwrap();
    for (words, says) in [
        (&["/data/script"][..], "its first line names /bin/zsh, which does not exist"),
        (&["/data/scrpt"], "did you mean /data/script?"),
        (&["paylod"], ""),
        (&["/data/zsh"], "it is a link to what does not exist in the container"),
    ] {
        let done = container.exec(words).expect(255);
        let hint = done.error()["hint"].as_str().unwrap_or("").to_owned();
        assert!(hint.contains(says), "{says}: {done}");
    }
    container.end();
}

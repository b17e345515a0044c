//! A4: descriptors of the host that reach into the container.
use coracle_tests::*;
use std::fs;

cases![
    working_directory,
    working_directory_of_exec,
    arguments,
    arguments_of_exec,
    interpreters,
    directories_of_exec_on_its_way,
];

/// A caller that leaks the host's root at many numbers.
const LEAKS: [&str; 12] =
    ["--leak", "/", "--leak", "/", "--leak", "/", "--leak", "/", "--leak", "/", "--fd", "40=/"];

/// Files by which a breach is seen: a mark outside, and the actions that would read it from a directory of the host.
fn mark(t: &T) -> (String, Vec<String>) {
    let mark = t.dir().join("mark");
    fs::write(&mark, "of the host").unwrap();
    let text = mark.display().to_string();
    let relative = text.trim_start_matches('/').to_owned();
    let up = format!("../../../../../../../../../..{text}");
    let reads = [relative, up].iter().map(|path| json!(["read", path]).to_string()).collect();
    (text, reads)
}

fn harmless(done: &Done) {
    assert!(!done.out.contains("of the host"), "{done}");
    if done.code() != 0 {
        assert!(!done.err.is_empty(), "{done}");
    }
}

fn working_directory(t: &T) {
    t.differs("runc", "CVE-2024-21626");
    t.differs("crun", "a directory of the host can be the working directory");
    let (_, reads) = mark(t);
    for number in 3..64 {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/self/fd/{number}/../..")] {
            let mut bundle = Bundle::new(t, &["do", &reads[0], &reads[1]]);
            bundle.set("/process/cwd", json!(cwd));
            let container = Container::new(t, &mut bundle);
            let done = container.run_call().launched(LEAKS).done();
            harmless(&done);
            assert_ne!(done.code(), 0, "{cwd}: {done}");
        }
    }
}

fn working_directory_of_exec(t: &T) {
    t.differs("runc", "CVE-2024-21626");
    t.differs("crun", "a directory of the host can be the working directory");
    let (_, reads) = mark(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for number in 3..64 {
        let cwd = format!("/proc/self/fd/{number}");
        let call = container.call("exec").arg("--cwd").arg(&cwd).launched(LEAKS);
        let done = call.then(["/payload", "do", &reads[0], &reads[1]]).done();
        harmless(&done);
        assert_ne!(done.code(), 0, "{cwd}: {done}");
    }
    container.end();
}

/// The host's payload below a leaked descriptor: it would end with 77, as nothing else does.
fn outside(number: u32) -> String {
    format!("/proc/self/fd/{number}{}", harness::payload().canonical())
}

trait Canonical {
    fn canonical(&self) -> String;
}

impl Canonical for std::path::Path {
    /// The path without links and dots, as a descriptor of the root needs it.
    fn canonical(&self) -> String {
        let fd = fs::File::open(self).unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        link.display().to_string()
    }
}

fn arguments(t: &T) {
    t.differs("crun", "a leaked descriptor can be executed through");
    for number in 3..64 {
        let mut bundle = Bundle::new(t, &[]);
        bundle.set("/process/args", json!([outside(number), "exit", "77"]));
        let container = Container::new(t, &mut bundle);
        let done = container.run_call().launched(LEAKS).done();
        assert_eq!(done.code(), 1, "{number}: {done}");
    }
}

fn arguments_of_exec(t: &T) {
    t.differs("crun", "a leaked descriptor can be executed through");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for number in 3..64 {
        let done = container.call("exec").launched(LEAKS).then([&outside(number), "exit", "77"]).done();
        assert!([1, 255].contains(&done.code()), "{number}: {done}");
    }
    container.end();
}

fn interpreters(t: &T) {
    t.differs("crun", "a leaked descriptor can be executed through");
    // The path is walked before close-on-exec closes anything: only a real close helps.
    for number in 3..64 {
        let mut bundle = Bundle::new(t, &[]);
        bundle::write_program(&bundle.inside("/script"), format!("#!{} kill-self\n", outside(number)));
        bundle.set("/process/args", json!(["/script"]));
        let container = Container::new(t, &mut bundle);
        let done = container.run_call().launched(LEAKS).done();
        // The host's payload would complain about its words and end with 99.
        assert_eq!(done.code(), 1, "{number}: {done}");
        assert!(!done.err.contains("payload:"), "{done}");
    }
}

fn directories_of_exec_on_its_way(t: &T) {
    let mut bundle = Bundle::new(t, &["attack", "climb", "6"]);
    let all = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    let container = Container::new(t, &mut bundle);
    container.up().until("ready");
    let mut count = 0;
    while container.status() == "running" && count < crate::rounds(300) {
        // The container may end while a process is on its way into it.
        container.exec(&["/payload", "exit", "0"]);
        count += 1;
    }
    container.wait();
    let printed = container.printed();
    let seen: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert!(seen["seen"].as_u64().unwrap() > 5, "not exercised: {count} execs, {seen}");
    assert_eq!(seen["got"], json!([]), "directories of the host: {seen}");
    container.delete();
}

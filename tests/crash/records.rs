//! State that somebody broke, and names in the state directory that are not ours.

use coracle_tests::{Bundle, Container, Need, T, Value, cases, cgroup, json};
use std::fs;
use std::os::unix::fs::symlink;

cases![broken_records, broken_in_the_middle_of_a_life, foreign_entries, another_boot];

/// What a record can look like after an accident.
fn broken(record: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        [0, 1, record.len() / 2, record.len() - 1].map(|end| record[..end].to_vec()).to_vec();
    all.push(vec![0; 4096]);
    all.push(b"{}".to_vec());
    all.push(b"[]".to_vec());
    all.push([record, record].concat());
    let text = String::from_utf8(record.to_vec()).unwrap();
    all.push(text.replace("\"version\":1", "\"version\":99").into_bytes());
    all.push(text.replace("\"id\":\"ct", "\"id\":\"xx").into_bytes());
    all
}

fn broken_records(t: &T) {
    t.differs("crun", "another kind of state");
    t.differs("runc", "another kind of state");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    let file = container.root.join(&container.id).join("record");
    let good = fs::read(&file).unwrap();
    for bad in broken(&good) {
        fs::write(&file, &bad).unwrap();
        for command in ["state", "start", "kill", "delete", "pause", "ps"] {
            let done = container.call(command).done().expect(1);
            assert!(!done.message().is_empty(), "{done}");
        }
        let list = container.bare("list").done();
        assert_eq!(list.code(), 0, "one broken container does not hide the others: {list}");
    }
    // Nothing was done to it.
    fs::write(&file, &good).unwrap();
    container.start().wait();
    container.delete().gone();
}

/// A record that cannot be read says nothing of processes: the directory goes, and what runs is its engine's.
fn broken_in_the_middle_of_a_life(t: &T) {
    t.differs("crun", "another kind of state");
    t.differs("runc", "another kind of state");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let directory = container.root.join(&container.id);
    fs::write(directory.join("record"), "{").unwrap();
    container.call("delete").done().expect(1);
    container.call("delete").arg("--force").ok();
    assert!(!directory.exists());
    cgroup::remove(&container.cgroup);
}

fn foreign_entries(t: &T) {
    t.differs("crun", "another kind of state");
    t.differs("runc", "another kind of state");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let elsewhere = t.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "text").unwrap();
    let at = |name: &str| container.root.join(name);
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full").join("stranger"), "text").unwrap();
    fs::create_dir(at("full").join("record")).unwrap();
    fs::write(at("file"), "text").unwrap();
    symlink(&elsewhere, at("link")).unwrap();
    symlink("/etc/passwd", container.root.join(&container.id).join("link")).unwrap();

    let listed = container.bare("list").arg("--quiet").done().expect(0);
    assert!(listed.out.lines().any(|line| line == container.id), "{listed}");
    for name in ["empty", "full", "file", "link"] {
        let done = container.bare("state").id(name).done().expect(1);
        assert!(!done.message().is_empty(), "{done}");
    }
    container.bare("delete").arg("--force").id("empty").ok();
    assert!(!at("empty").exists());
    for name in ["full", "file", "link"] {
        container.bare("delete").arg("--force").id(name).done().expect(1);
    }
    assert_eq!(fs::read_to_string(at("full").join("stranger")).unwrap(), "text");
    assert_eq!(fs::read_to_string(elsewhere.join("precious")).unwrap(), "text");
    assert!(at("link").is_symlink() && at("file").is_file());

    // What lies in a container's own directory stays too, and is named.
    container.kill("KILL").wait();
    let message = container.call("delete").done().expect(1).message();
    assert!(message.contains("link"), "{message}");
    assert!(fs::read("/etc/passwd").is_ok());
    fs::remove_file(container.root.join(&container.id).join("link")).unwrap();
    container.call("delete").arg("--force").ok();
    assert!(!container.root.join(&container.id).exists());
    for name in ["full/record", "full"] {
        let _ = fs::remove_file(at("full/stranger"));
        fs::remove_dir(at(name)).unwrap();
    }
}

/// The machine was booted since: the numbers of the record belong to others, and nothing is done to them.
fn another_boot(t: &T) {
    t.needs(&[Need::Root]);
    t.differs("crun", "another kind of state");
    t.differs("runc", "another kind of state");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let pid = container.pid();
    let file = container.root.join(&container.id).join("record");
    let mut record: Value = fs::read_to_string(&file).unwrap().parse().unwrap();
    record["boot"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&file, record.to_string()).unwrap();

    let state = container.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    container.call("kill").then(["KILL"]).done().expect(1);
    container.call("start").done().expect(1);
    container.delete();
    assert!(coracle_tests::host::alive(pid), "somebody else's process");
    cgroup::remove(&container.cgroup);
}

//! B5: terminals in a root file system or a volume that pretends to have some.
use super::{Swapper, rounds};
use coracle_tests::terminal::{ConsoleSocket, Reader};
use coracle_tests::*;
use rustix::pty::ptsname;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

cases![fake_devices, fake_pts_volume, swapped_console, master_is_of_the_container];

/// Creates with a console socket; `None` when the runtime refuses.
fn created(container: &Container<'_>, name: &str) -> Option<OwnedFd> {
    let socket = ConsoleSocket::new(container.bundle.dir.join(name));
    let call = container.create_call().arg("--console-socket").arg(&socket.path);
    let done = call.within(std::time::Duration::from_secs(20)).done();
    if done.code() != 0 {
        done.error();
        return None;
    }
    container.pid();
    Some(socket.master().0)
}

/// DEVPTS_SUPER_MAGIC.
const DEVPTS: i64 = 0x1cd1;

/// The master belongs to an instance of devpts that the container sees, and what is inside is its other side.
fn is_right(container: &Container<'_>, master: &OwnedFd) {
    assert!(rustix::termios::tcgetwinsize(master).is_ok(), "a terminal");
    let name = ptsname(master, Vec::new()).unwrap().into_string().unwrap();
    assert!(name.starts_with("/dev/pts/"), "{name}");
    let pid = container.pid();
    let inside = rustix::fs::statfs(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(inside.f_type, DEVPTS, "what is inside lies on a devpts");
}

fn without_dev(bundle: &mut Bundle) {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
}

fn fake_devices(t: &T) {
    t.differs("runc", "CVE-2025-52565");
    t.differs("crun", "CVE-2026-47766");
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join("file"), "contents").unwrap();
    let before = dirs::tree(&marker);
    for (place, what) in [
        ("dev/console", "link"),
        ("dev/console", "file"),
        ("dev/console", "absent"),
        ("dev/ptmx", "link"),
        ("dev/ptmx", "file"),
        ("dev/pts", "link"),
        ("dev/tty", "link"),
    ] {
        let mut bundle = Bundle::new(t, &["ready"]);
        without_dev(&mut bundle);
        bundle.set("/process/terminal", json!(true));
        let path = bundle.rootfs().join(place);
        match what {
            "link" => symlink(marker.join("file"), &path).unwrap(),
            "absent" => symlink(marker.join("absent"), &path).unwrap(),
            _ => fs::write(&path, "fake").unwrap(),
        }
        let container = Container::new(t, &mut bundle);
        if let Some(master) = created(&container, "s") {
            is_right(&container, &master);
        }
        let _ = container.call("delete").arg("--force").done();
        assert_eq!(dirs::tree(&marker), before, "{place} {what}");
    }
}

fn fake_pts_volume(t: &T) {
    t.differs("runc", "a volume at /dev/pts is taken for devpts");
    t.differs("crun", "a volume at /dev/pts is taken for devpts");
    let volume = t.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    for name in ["0", "ptmx"] {
        fs::write(volume.join(name), "fake").unwrap();
    }
    let before = dirs::tree(&volume);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/pts");
    bundle.bind(&volume, "/dev/pts", &["rw"]).set("/process/terminal", json!(true));
    let container = Container::new(t, &mut bundle);
    assert!(created(&container, "s").is_none(), "there is no devpts to make a terminal of");
    assert_eq!(dirs::tree(&volume), before);
}

fn swapped_console(t: &T) {
    t.differs("runc", "CVE-2025-52565");
    t.differs("crun", "CVE-2026-47766");
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join("file"), "contents").unwrap();
    let before = dirs::tree(&marker);
    let mut bundle = Bundle::new(t, &["ready"]);
    without_dev(&mut bundle);
    bundle.set("/process/terminal", json!(true));
    let (console, evil) = (bundle.inside("/dev/console"), bundle.inside("/dev/evil"));
    fs::write(&console, "").unwrap();
    symlink(marker.join("file"), &evil).unwrap();
    let swapper = Swapper::start(&console, &evil);
    for round in 0..rounds(40) {
        let container = Container::new(t, &mut bundle);
        if let Some(master) = created(&container, &format!("s{round}")) {
            is_right(&container, &master);
        }
        let _ = container.call("delete").arg("--force").done();
    }
    drop(swapper);
    assert_eq!(dirs::tree(&marker), before);
}

fn master_is_of_the_container(t: &T) {
    let mut bundle = Bundle::new(t, &["tty", "echo"]);
    bundle.set("/process/terminal", json!(true));
    let container = Container::new(t, &mut bundle);
    let master = created(&container, "s").unwrap();
    is_right(&container, &master);
    let reader = Reader::new(&master);
    container.start();
    reader.until("ready");
    let mut keys = fs::File::from(master.try_clone().unwrap());
    std::io::Write::write_all(&mut keys, b"through the right one\r").unwrap();
    reader.until("[through the right one]");
    container.end();
}

//! B4: masked paths when the root file system's own `/dev/null` lies.
use super::{Swapper, rounds};
use coracle_tests::*;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::os::unix::fs::symlink;

cases![lying_null, swapped_null, masks_under_a_link, masked_directory_is_not_shared];

fn without_dev(bundle: &mut Bundle) {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
}

const SECRET: &str = "the secret";

/// A bundle with a secret that is masked, and the actions that try to get at it.
fn masked(t: &T) -> Bundle {
    // `read-some`: a mask that is another device may have no end.
    let actions = [
        r#"["read-some", "/etc/secret"]"#,
        r#"["write", "/etc/secret", "x"]"#,
        r#"["read-some", "/proc/keys"]"#,
        r#"["read-some", "/proc/kcore"]"#,
    ];
    let mut bundle = Bundle::new(t, &["do", actions[0], actions[1], actions[2], actions[3]]);
    without_dev(&mut bundle);
    fs::write(bundle.inside("/etc/secret"), SECRET).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/secret", "/proc/keys", "/proc/kcore"]));
    bundle
}

/// An error, or masks that hold.
fn held(container: &Container<'_>, what: &str) {
    let done = container.run_call().within(std::time::Duration::from_secs(20)).done();
    if done.code() == 0 {
        let got = done.json();
        for index in [0, 2, 3] {
            let read = &got[index];
            let empty = read["ok"] == 0 || read.get("errno").is_some();
            assert!(empty, "{what}: {got}");
        }
    } else {
        done.error();
    }
    assert!(!done.out.contains(SECRET), "{what}: {done}");
    assert_eq!(fs::read_to_string(container.bundle.inside("/etc/secret")).unwrap(), SECRET, "{what}");
}

fn lying_null(t: &T) {
    t.differs("runc", "CVE-2025-31133");
    t.differs("crun", "CVE-2025-31133 in another shape");
    for what in ["sysctl", "fifo", "file", "full", "zero", "missing", "directory", "loop"] {
        let mut bundle = masked(t);
        let null = bundle.inside("/dev/null");
        match what {
            // A file that is the container's own: a runtime that falls for it must not harm the machine.
            "sysctl" => symlink("/proc/sys/kernel/hostname", &null).unwrap(),
            "fifo" => mknodat(CWD, &null, FileType::Fifo, Mode::from(0o666), 0).unwrap(),
            "file" => fs::write(&null, "published").unwrap(),
            "full" => {
                mknodat(CWD, &null, FileType::CharacterDevice, Mode::from(0o666), makedev(1, 7)).unwrap()
            }
            "zero" => {
                mknodat(CWD, &null, FileType::CharacterDevice, Mode::from(0o666), makedev(1, 5)).unwrap()
            }
            "directory" => fs::create_dir(&null).unwrap(),
            "loop" => symlink("null", &null).unwrap(),
            _ => {}
        }
        let container = Container::new(t, &mut bundle);
        held(&container, what);
    }
}

fn swapped_null(t: &T) {
    t.differs("runc", "CVE-2025-31133");
    t.differs("crun", "CVE-2025-31133 in another shape");
    let mut bundle = masked(t);
    let (null, evil) = (bundle.inside("/dev/null"), bundle.inside("/dev/evil"));
    mknodat(CWD, &null, FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3)).unwrap();
    fs::write(&evil, "published").unwrap();
    let container = Container::new(t, &mut bundle);
    let swapper = Swapper::start(&null, &evil);
    for _ in 0..rounds(60) {
        held(&container, "swapped");
    }
    drop(swapper);
}

fn masks_under_a_link(t: &T) {
    // The link leads outside: what is masked there is a file of the root, or nothing.
    let outside = t.dir().join("outside");
    fs::write(&outside, "of the host").unwrap();
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    symlink(&outside, bundle.inside("/etc/link")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/etc/link"])).set("/linux/readonlyPaths", json!(["/etc/link"]));
    let container = Container::new(t, &mut bundle);
    let done = container.run();
    if done.code() != 0 {
        done.error();
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
}

fn masked_directory_is_not_shared(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir_all(bundle.inside("/one")).unwrap();
    fs::create_dir_all(bundle.inside("/two")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/one", "/two"]));
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["mkdir", "/one/x"]),
            json!(["open", "/two/y", "create"]),
            json!(["mount", "none", "/one", "none", 0x1020]),
            json!(["list", "/two"]),
        ],
    );
    assert!(
        is_error(&got[0], "EROFS") && is_error(&got[1], "EROFS") && is_error(&got[2], "EPERM"),
        "{got:?}"
    );
    assert_eq!(got[3]["ok"], json!([]));
}

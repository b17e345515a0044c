//! Every mount option of the specification, one case each, read back from what the process inside sees of its mounts.
use crate::mounts::Nested;
use crate::rule::*;
use coracle_tests::*;
use rustix::mount::{MountPropagationFlags, mount_change};

/// A tmpfs with these options shows some words and does not show others.
macro_rules! new {
    ($name:ident, $keyword:literal, $words:expr, $with:expr, $without:expr) => {
        sees(
            stringify!($name),
            "config.md#linux-mount-options",
            concat!($keyword, " know the option `", stringify!($name), "`"),
            &["/mounts/*/options/*"],
            |bundle| bundle.mount("tmpfs", "tmpfs", "/data", &$words),
            |seen| shows(&seen["mounts"], "/data", &$with, &$without),
        )
    };
}

/// Bound with these options, a mount of the host and the one below it show a word, or not.
macro_rules! bound {
    ($name:ident, $keyword:literal, $words:expr, $word:literal, $top:literal, $below:literal) => {
        holds(
            concat!("bind_", stringify!($name)),
            "config.md#linux-mount-options",
            concat!(
                $keyword,
                " know the option `",
                stringify!($name),
                "` for what is mounted below a bind mount"
            ),
            &["/mounts/*/options/*"],
            |t| {
                let nested = Nested::new(t, "nested");
                let mut bundle = fresh(t, &["report"]);
                bundle.mount("bind", nested.0.to_str().unwrap(), "/data", &$words);
                let seen = report(t, &mut bundle);
                for (target, there) in [("/data", $top), ("/data/sub", $below)] {
                    let (with, without): (&[&str], &[&str]) =
                        if there { (&[$word], &[]) } else { (&[], &[$word]) };
                    shows(&seen["mounts"], target, with, without);
                }
            },
        )
    };
}

/// Bound with these options, a mount that the host shares gets what is mounted outside, or not; and so does the one below it.
macro_rules! propagated {
    ($name:ident, $words:expr, $gets:literal) => {
        holds(
            concat!("bind_", stringify!($name)),
            "config.md#linux-mount-options",
            concat!("MUST know the option `", stringify!($name), "` for a bind mount"),
            &["/mounts/*/options/*"],
            |t| {
                let nested = Nested::new(t, "nested");
                mount_change(&nested.0, MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
                let mut bundle = fresh(t, &["report"]);
                bundle.mount("bind", nested.0.to_str().unwrap(), "/data", &$words);
                let seen = report(t, &mut bundle);
                let (with, without): (&[&str], &[&str]) =
                    if $gets { (&["master"], &["shared"]) } else { (&[], &["master", "shared"]) };
                for target in ["/data", "/data/sub"].iter().take(if $words[0] == "rbind" { 2 } else { 1 }) {
                    shows(&seen["mounts"], target, with, without);
                }
            },
        )
    };
}

pub const RULES: &[Rule] = &[
    new!(defaults, "MUST", ["defaults"], ["rw"], ["nosuid", "nodev", "noexec"]),
    new!(ro, "MUST", ["ro"], ["ro"], []),
    new!(rw, "MUST", ["ro", "rw"], ["rw"], ["ro"]),
    new!(nosuid, "MUST", ["nosuid"], ["nosuid"], ["nodev"]),
    new!(suid, "MUST", ["nosuid", "suid"], [], ["nosuid"]),
    new!(nodev, "MUST", ["nodev"], ["nodev"], ["nosuid"]),
    new!(dev, "MUST", ["nodev", "dev"], [], ["nodev"]),
    new!(noexec, "MUST", ["noexec"], ["noexec"], ["nodev"]),
    new!(exec, "MUST", ["noexec", "exec"], [], ["noexec"]),
    new!(sync, "MUST", ["sync"], ["sync"], ["dirsync"]),
    new!(async, "MUST", ["sync", "async"], [], ["sync"]),
    new!(dirsync, "MUST", ["dirsync"], ["dirsync"], ["sync"]),
    new!(noatime, "MUST", ["noatime"], ["noatime"], ["relatime"]),
    new!(atime, "MUST", ["noatime", "atime"], [], ["noatime"]),
    new!(nodiratime, "MUST", ["nodiratime"], ["nodiratime"], []),
    new!(diratime, "MUST", ["nodiratime", "diratime"], [], ["nodiratime"]),
    new!(relatime, "MUST", ["relatime"], ["relatime"], ["noatime"]),
    new!(norelatime, "MUST", ["relatime", "norelatime"], ["rw"], ["noatime"]),
    new!(strictatime, "MUST", ["strictatime"], [], ["relatime", "noatime"]),
    new!(nostrictatime, "MUST", ["strictatime", "nostrictatime"], ["relatime"], []),
    new!(lazytime, "MUST", ["lazytime"], ["lazytime"], []),
    new!(nolazytime, "MUST", ["lazytime", "nolazytime"], [], ["lazytime"]),
    new!(iversion, "MUST", ["iversion"], ["rw"], []),
    new!(noiversion, "MUST", ["noiversion"], ["rw"], []),
    new!(silent, "MUST", ["silent"], ["rw"], []),
    new!(loud, "MUST", ["loud"], ["rw"], []),
    new!(private, "MUST", ["private"], [], ["shared", "master", "unbindable"]),
    new!(rprivate, "MUST", ["rprivate"], [], ["shared", "master", "unbindable"]),
    new!(shared, "MUST", ["shared"], ["shared"], ["master"]),
    new!(rshared, "MUST", ["rshared"], ["shared"], ["master"]),
    new!(slave, "MUST", ["slave"], [], ["shared"]),
    new!(rslave, "MUST", ["rslave"], [], ["shared"]),
    new!(unbindable, "MUST", ["unbindable"], ["unbindable"], []),
    new!(runbindable, "MUST", ["runbindable"], ["unbindable"], []),
    new!(nosymfollow, "SHOULD", ["nosymfollow"], ["nosymfollow"], []).needs(&[Need::Kernel(5, 14)]),
    new!(symfollow, "SHOULD", ["nosymfollow", "symfollow"], [], ["nosymfollow"])
        .needs(&[Need::Kernel(5, 14)]),
    holds(
        "tmpcopyup",
        "config.md#linux-mount-options",
        "a runtime MAY know `tmpcopyup`: if so, the contents below appear in the new tmpfs",
        &["/mounts/*/options/*"],
        |t| {
            let mut bundle = fresh(t, &[]);
            std::fs::create_dir(bundle.inside("/data")).unwrap();
            std::fs::write(bundle.inside("/data/file"), "text").unwrap();
            bundle.mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"]);
            let actions = [json!(["read", "/data/file"]), json!(["unlink", "/data/file"])];
            bundle.command(&["do", &actions[0].to_string(), &actions[1].to_string()]);
            let done = Container::new(t, &mut bundle).run();
            if done.code() == 0 {
                assert_eq!(done.json()[0]["ok"]["text"], "text");
                assert!(bundle.inside("/data/file").exists(), "the image is not touched");
            }
        },
    ),
    holds(
        "remount",
        "config.md#linux-mount-options",
        "MUST know the option `remount`",
        &["/mounts/*/options/*"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            bundle.mount("tmpfs", "tmpfs", "/data", &["size=1m"]);
            bundle.mount("tmpfs", "tmpfs", "/data", &["remount", "size=2m", "noexec"]);
            let seen = report(t, &mut bundle);
            shows(&seen["mounts"], "/data", &["size=2048k", "noexec"], &["size=1024k"]);
            let all = seen["mounts"].as_array().unwrap();
            assert_eq!(all.iter().filter(|one| one["target"] == "/data").count(), 1);
        },
    ),
    bound!(bind, "MUST", ["rbind", "ro"], "ro", true, false),
    bound!(nosuid, "MUST", ["rbind", "nosuid"], "nosuid", true, false),
    bound!(nodev, "MUST", ["rbind", "nodev"], "nodev", true, false),
    bound!(noexec, "MUST", ["rbind", "noexec"], "noexec", true, false),
    bound!(noatime, "MUST", ["rbind", "noatime"], "noatime", true, false),
    bound!(shared, "MUST", ["rbind", "shared"], "shared", true, false),
    bound!(rshared, "MUST", ["rbind", "rshared"], "shared", true, true),
    bound!(unbindable, "MUST", ["rbind", "unbindable"], "unbindable", true, false),
    bound!(runbindable, "MUST", ["rbind", "runbindable"], "unbindable", true, true),
    propagated!(private, ["bind", "private"], false),
    propagated!(rprivate, ["rbind", "rprivate"], false),
    propagated!(slave, ["bind", "slave"], true),
    propagated!(rslave, ["rbind", "rslave"], true),
    bound!(rro, "SHOULD", ["rbind", "rro"], "ro", true, true).needs(NEW),
    bound!(rrw, "SHOULD", ["rbind", "rro", "rrw"], "ro", false, false).needs(NEW),
    bound!(rnosuid, "SHOULD", ["rbind", "rnosuid"], "nosuid", true, true).needs(NEW),
    bound!(rsuid, "SHOULD", ["rbind", "rnosuid", "rsuid"], "nosuid", false, false).needs(NEW),
    bound!(rnodev, "SHOULD", ["rbind", "rnodev"], "nodev", true, true).needs(NEW),
    bound!(rdev, "SHOULD", ["rbind", "rnodev", "rdev"], "nodev", false, false).needs(NEW),
    bound!(rnoexec, "SHOULD", ["rbind", "rnoexec"], "noexec", true, true).needs(NEW),
    bound!(rexec, "SHOULD", ["rbind", "rnoexec", "rexec"], "noexec", false, false).needs(NEW),
    bound!(rnoatime, "SHOULD", ["rbind", "rnoatime"], "noatime", true, true).needs(NEW),
    bound!(ratime, "SHOULD", ["rbind", "rnoatime", "ratime"], "noatime", false, false).needs(NEW),
    bound!(rnodiratime, "SHOULD", ["rbind", "rnodiratime"], "nodiratime", true, true).needs(NEW),
    bound!(rdiratime, "SHOULD", ["rbind", "rnodiratime", "rdiratime"], "nodiratime", false, false).needs(NEW),
    bound!(rrelatime, "SHOULD", ["rbind", "rrelatime"], "relatime", true, true).needs(NEW),
    bound!(rnorelatime, "SHOULD", ["rbind", "rnorelatime"], "noatime", false, false).needs(NEW),
    bound!(rstrictatime, "SHOULD", ["rbind", "rstrictatime"], "relatime", false, false).needs(NEW),
    bound!(rnostrictatime, "SHOULD", ["rbind", "rstrictatime", "rnostrictatime"], "relatime", true, true)
        .needs(NEW),
    bound!(rnosymfollow, "SHOULD", ["rbind", "rnosymfollow"], "nosymfollow", true, true).needs(NEW),
    bound!(rsymfollow, "SHOULD", ["rbind", "rnosymfollow", "rsymfollow"], "nosymfollow", false, false)
        .needs(NEW),
];

/// mount_setattr(2) of a tree, and of what follows symlinks.
const NEW: &[Need] = &[Need::Kernel(5, 14)];

fn shows(mounts: &Value, target: &str, with: &[&str], without: &[&str]) {
    let mount = mount_at(mounts, target);
    let all: Vec<&str> = ["options", "superOptions", "optional"]
        .iter()
        .flat_map(|key| mount[key].as_array().unwrap())
        .map(|value| value.as_str().unwrap())
        .map(|word| if word.starts_with("size=") { word } else { word.split(':').next().unwrap() })
        .collect();
    for word in with {
        assert!(all.contains(word), "{word} is missing: {mount}");
    }
    for word in without {
        assert!(!all.contains(word), "{word} is there: {mount}");
    }
}

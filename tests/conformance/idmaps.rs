//! Mounts that show other owners than their files have.
use crate::mounts::Nested;
use crate::rule::*;
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

const AT: &str = "config.md#posix-platform-mounts";
const OPTION: &str = "config.md#linux-mount-options";
const NEEDS: &[Need] = &[Need::Kernel(5, 12), Need::UserNamespaces];
const FIELDS: &[&str] = &[
    "/mounts/*/uidMappings/*/containerID",
    "/mounts/*/uidMappings/*/hostID",
    "/mounts/*/uidMappings/*/size",
    "/mounts/*/gidMappings/*/containerID",
    "/mounts/*/gidMappings/*/hostID",
    "/mounts/*/gidMappings/*/size",
];

/// Puts a file of this owner into a directory.
fn own(dir: PathBuf, id: u32) -> PathBuf {
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    chown(dir.join("file"), Some(id), Some(id)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// A bind mount at `/data` whose ids from 5000 on are shown from `uid` and `gid` on.
fn mapped(source: &Path, options: &[&str], shown: Option<(u32, u32)>) -> Value {
    let mut mount = json!({"destination": "/data", "type": "bind", "source": source, "options": options});
    if let Some((uid, gid)) = shown {
        mount["uidMappings"] = json!([{"containerID": 5000, "hostID": uid, "size": 10}]);
        mount["gidMappings"] = json!([{"containerID": 5000, "hostID": gid, "size": 10}]);
    }
    mount
}

fn owner(seen: &Value, path: &str) -> (i64, i64) {
    let found = &seen["paths"][path];
    (found["uid"].as_i64().unwrap(), found["gid"].as_i64().unwrap())
}

fn without_one(t: &T, missing: &str) {
    let mut bundle = fresh(t, &[]);
    let mut mount = mapped(&own(outside(t, "source"), 5000), &["bind", "idmap"], Some((100, 100)));
    mount.as_object_mut().unwrap().remove(missing);
    bundle.add("/mounts", mount);
    is_refused(t, &mut bundle);
}

pub const RULES: &[Rule] = &[
    holds("own_mappings", OPTION, "with mappings of its own a mount MUST have them", FIELDS, |t| {
        let source = own(outside(t, "source"), 5003);
        let mut bundle = fresh(t, &[]);
        bundle.add("/mounts", mapped(&source, &["bind", "idmap"], Some((100, 200))));
        assert_eq!(owner(&report_on(t, &mut bundle, &["/data/file"]), "/data/file"), (103, 203));
    })
    .needs(NEEDS),
    holds(
        "mappings_without_the_option",
        AT,
        "mappings of a mount MUST be applied: the option only SHOULD be there",
        FIELDS,
        |t| {
            let source = own(outside(t, "source"), 5003);
            let mut bundle = fresh(t, &[]);
            bundle.add("/mounts", mapped(&source, &["bind"], Some((100, 200))));
            assert_eq!(owner(&report_on(t, &mut bundle, &["/data/file"]), "/data/file"), (103, 203));
        },
    )
    .needs(NEEDS),
    holds(
        "by_the_user_namespace",
        OPTION,
        "without mappings of its own a mount MAY have those of the container; else it MUST be an error",
        &["/mounts/*/options/*", "/linux/uidMappings"],
        |t| {
            let source = own(outside(t, "source"), 7);
            let mut bundle = fresh(t, &[]);
            look_at(&mut bundle, &["/data/file"]);
            bundle.user_namespace(100_000).add("/mounts", mapped(&source, &["bind", "idmap"], None));
            let done = Container::new(t, &mut bundle).run();
            if done.code() == 0 {
                assert_eq!(owner(&done.json(), "/data/file"), (7, 7));
            }
        },
    )
    .needs(NEEDS),
    holds(
        "own_mappings_below_a_user_namespace",
        OPTION,
        "with mappings of its own a mount MUST have them, also below a user namespace",
        FIELDS,
        |t| {
            let source = own(outside(t, "source"), 5003);
            let mut bundle = fresh(t, &[]);
            bundle
                .user_namespace(100_000)
                .add("/mounts", mapped(&source, &["bind", "idmap"], Some((100_100, 100_200))));
            assert_eq!(owner(&report_on(t, &mut bundle, &["/data/file"]), "/data/file"), (103, 203));
        },
    )
    .needs(NEEDS),
    holds(
        "with_the_mounts_below",
        OPTION,
        "`ridmap` MUST map what is mounted below, too; `idmap` one mount",
        FIELDS,
        |t| {
            for (option, below) in [("idmap", 5003), ("ridmap", 103)] {
                let nested = Nested::new(t, option);
                own(nested.0.clone(), 5003);
                own(nested.0.join("sub"), 5003);
                let mut bundle = fresh(t, &[]);
                bundle.add("/mounts", mapped(&nested.0, &["rbind", option], Some((100, 100))));
                let seen = report_on(t, &mut bundle, &["/data/file", "/data/sub/file"]);
                assert_eq!(owner(&seen, "/data/file"), (103, 103), "{option}");
                assert_eq!(owner(&seen, "/data/sub/file"), (below, below), "{option}");
            }
        },
    )
    .needs(NEEDS),
    holds(
        "option_without_any_mapping",
        OPTION,
        "the option without mappings and without a user namespace MUST be an error",
        &["/mounts/*/options/*"],
        |t| {
            for option in ["idmap", "ridmap"] {
                let mut bundle = fresh(t, &[]);
                bundle.add("/mounts", mapped(&own(outside(t, option), 5000), &["rbind", option], None));
                is_refused(t, &mut bundle);
            }
        },
    )
    .needs(NEEDS),
    holds(
        "users_without_groups",
        AT,
        "uidMappings MUST come with gidMappings",
        &["/mounts/*/uidMappings"],
        |t| without_one(t, "gidMappings"),
    )
    .needs(NEEDS),
    holds(
        "groups_without_users",
        AT,
        "gidMappings MUST come with uidMappings",
        &["/mounts/*/gidMappings"],
        |t| without_one(t, "uidMappings"),
    )
    .needs(NEEDS),
    holds(
        "what_cannot_be_mapped",
        "runtime.md#create",
        "a mapping that cannot be applied MUST be an error",
        FIELDS,
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.add("/mounts", mapped(Path::new("/proc/sys"), &["bind", "idmap"], Some((100, 100))));
            is_refused(t, &mut bundle);
        },
    )
    .needs(NEEDS),
];

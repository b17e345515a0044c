//! Device nodes, links in `/dev`, which devices can be used.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

const DEFAULT: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Checks a node of the report.
fn is_node(seen: &Value, path: &str, kind: &str, major: i64, minor: i64) {
    let node = &seen["paths"][path];
    assert_eq!(node["type"], kind, "{path}: {node}");
    assert_eq!(
        (node["major"].as_i64(), node["minor"].as_i64()),
        (Some(major), Some(minor)),
        "{path}: {node}"
    );
}

fn one(device: Value) -> impl Fn(&mut Bundle) {
    move |bundle| {
        bundle.set("/linux/devices", json!([device]));
    }
}

/// A device of a single entry is refused.
macro_rules! wrong {
    ($name:literal, $at:literal, $says:literal, $fields:expr, $device:tt) => {
        refused($name, $at, $says, $fields, |bundle| {
            one(json!($device))(bundle);
            bundle
        })
    };
}

fn rules(bundle: &mut Bundle, rules: Value) -> &mut Bundle {
    bundle.set("/linux/resources/devices", rules)
}

/// Whether a new node of a device can be opened: anything but the refusal of the rules counts, there may be no such device.
fn allows(t: &T, bundle: &mut Bundle, kind: &str, major: u32, minor: u32, how: &str) -> bool {
    let got = answers(
        t,
        bundle,
        &[json!(["mknod", "/tmp/node", kind, major, minor]), json!(["open", "/tmp/node", how])],
    );
    let answer = !is_error(&got[1], "EPERM") && !is_error(&got[0], "EPERM");
    fs::remove_file(bundle.inside("/tmp/node")).ok();
    answer
}

const DEVICES: &str = "config-linux.md#devices";
const RULE: &str = "config-linux.md#allowed-device-list";
const CONTROLLER: &[Need] = &[Need::Controller("devices")];

pub const RULES: &[Rule] = &[
    holds(
        "default_nodes",
        "config-linux.md#default-devices",
        "null, zero, full, random, urandom and tty MUST be there",
        &[],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            let seen = report_on(t, &mut bundle, &DEFAULT.map(|(path, ..)| path));
            for (path, major, minor) in DEFAULT {
                is_node(&seen, path, "char", major, minor);
            }
        },
    ),
    holds(
        "default_nodes_can_be_used",
        "config-linux.md#default-devices",
        "null, zero, full, random, urandom and tty MUST be there",
        &["/linux/resources/devices/*/allow"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            let got = answers(
                t,
                &mut bundle,
                &[
                    json!(["write", "/dev/null", "x"]),
                    json!(["read-some", "/dev/zero"]),
                    json!(["read-some", "/dev/urandom"]),
                    json!(["write", "/dev/full", "x"]),
                ],
            );
            assert!(got[..3].iter().all(works), "{got:?}");
            assert!(is_error(&got[3], "ENOSPC"), "{}", got[3]);
        },
    ),
    holds(
        "default_nodes_below_a_user_namespace",
        "config-linux.md#default-devices",
        "null, zero, full, random, urandom and tty MUST be there",
        &["/linux/uidMappings"],
        |t| {
            t.needs(&[Need::UserNamespaces]);
            let mut bundle = fresh(t, &["report"]);
            bundle.user_namespace(100_000);
            let seen = report_on(t, &mut bundle, &DEFAULT.map(|(path, ..)| path));
            for (path, major, minor) in DEFAULT {
                is_node(&seen, path, "char", major, minor);
            }
        },
    ),
    holds(
        "terminal_maker",
        "config-linux.md#default-devices",
        "/dev/ptmx MUST be a link to or a mount of the container's own",
        &["/mounts/*/type"],
        |t| {
            let mut bundle = fresh(t, &[]);
            let got = answers(t, &mut bundle, &[json!(["list", "/dev/pts"]), json!(["open", "/dev/ptmx", "rw"])]);
            assert_eq!(got[0]["ok"], json!(["ptmx"]));
            assert!(works(&got[1]), "{}", got[1]);
        },
    ),
    holds(
        "console",
        "config-linux.md#default-devices",
        "with a terminal /dev/console MUST be the terminal, bound there",
        &["/process/terminal"],
        |t| {
            let socket = terminal::ConsoleSocket::new(t.dir().join("console"));
            let mut bundle = fresh(t, &[]);
            look_at(&mut bundle, &["/dev/console"]);
            bundle.set("/process/terminal", json!(true));
            let container = Container::new(t, &mut bundle);
            container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
            let (master, _) = socket.master();
            let reader = terminal::Reader::new(&master);
            container.start().wait();
            let seen: Value = serde_json::from_slice(&reader.end()).unwrap();
            assert_eq!(seen["paths"]["/dev/console"]["major"], 136, "{}", seen["paths"]);
            assert_eq!(mount_at(&seen["mounts"], "/dev/console")["type"], "devpts");
        },
    ),
    holds(
        "links",
        "runtime-linux.md#dev-symbolic-links",
        "fd, stdin, stdout and stderr in /dev MUST be links to what /proc has of the process",
        &["/mounts/*/destination"],
        |t| {
            let links = [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "/proc/self/fd/0"),
                         ("/dev/stdout", "/proc/self/fd/1"), ("/dev/stderr", "/proc/self/fd/2")];
            let mut bundle = fresh(t, &[]);
            let got = answers(t, &mut bundle, &links.map(|(path, _)| json!(["readlink", path])));
            for ((path, target), answer) in links.iter().zip(&got) {
                assert_eq!(answer["ok"], json!(target), "{path}");
            }
        },
    ),
    holds(
        "nodes",
        DEVICES,
        "the listed devices MUST be there, with type, numbers, mode and owners, anywhere in the file system",
        &[
            "/linux/devices/*/path", "/linux/devices/*/type", "/linux/devices/*/major", "/linux/devices/*/minor",
            "/linux/devices/*/fileMode", "/linux/devices/*/uid", "/linux/devices/*/gid",
        ],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            bundle.set(
                "/linux/devices",
                json!([
                    {"path": "/dev/test-char", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 5, "gid": 6},
                    {"path": "/dev/sub/test-block", "type": "b", "major": 7, "minor": 77, "fileMode": 0o600},
                    {"path": "/dev/test-pipe", "type": "p", "fileMode": 0o622, "uid": 1},
                    {"path": "/srv/deep/unbuffered", "type": "u", "major": 10, "minor": 229, "fileMode": 0o666},
                ]),
            );
            let seen = report_on(t, &mut bundle, &["/dev/test-char", "/dev/sub/test-block", "/dev/test-pipe", "/srv/deep/unbuffered"]);
            is_node(&seen, "/dev/test-char", "char", 1, 11);
            is_node(&seen, "/dev/sub/test-block", "block", 7, 77);
            is_node(&seen, "/srv/deep/unbuffered", "char", 10, 229);
            let at = |path: &str, key: &str| seen["paths"][path][key].as_i64();
            assert_eq!(seen["paths"]["/dev/test-pipe"]["type"], "fifo");
            assert_eq!((at("/dev/test-char", "mode"), at("/dev/test-char", "uid"), at("/dev/test-char", "gid")), (Some(0o640), Some(5), Some(6)));
            assert_eq!((at("/dev/sub/test-block", "mode"), at("/dev/sub/test-block", "uid")), (Some(0o600), Some(0)));
            assert_eq!((at("/dev/test-pipe", "mode"), at("/dev/test-pipe", "uid")), (Some(0o622), Some(1)));
        },
    ),
    holds(
        "node_that_is_right_already",
        DEVICES,
        "only a file that does not match the device MUST be an error",
        &["/linux/devices/*/path"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let number = rustix::fs::makedev(10, 237);
            rustix::fs::mknodat(rustix::fs::CWD, bundle.inside("/etc/node"), rustix::fs::FileType::CharacterDevice, mode, number).unwrap();
            bundle.set("/linux/devices", json!([{"path": "/etc/node", "type": "c", "major": 10, "minor": 237}]));
            is_node(&report_on(t, &mut bundle, &["/etc/node"]), "/etc/node", "char", 10, 237);
        },
    ),
    refused(
        "file_in_the_way",
        DEVICES,
        "a file at the path that does not match the device MUST be an error",
        &["/linux/devices/*/path"],
        |bundle| {
            fs::write(bundle.inside("/etc/node"), "").unwrap();
            bundle.set("/linux/devices", json!([{"path": "/etc/node", "type": "c", "major": 1, "minor": 3}]))
        },
    ),
    holds(
        "node_of_another_number",
        DEVICES,
        "a file at the path that does not match the device MUST be an error",
        &["/linux/devices/*/minor"],
        |t| {
            let mut bundle = fresh(t, &[]);
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            let null = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(rustix::fs::CWD, bundle.inside("/etc/node"), rustix::fs::FileType::CharacterDevice, mode, null).unwrap();
            bundle.set("/linux/devices", json!([{"path": "/etc/node", "type": "c", "major": 1, "minor": 5}]));
            is_refused(t, &mut bundle);
        },
    ),
    wrong!("unknown_type", "config.md#valid-values", "an invalid value MUST be an error", &["/linux/devices/*/type"],
           {"path": "/dev/x", "type": "z", "major": 1, "minor": 3}),
    wrong!("no_type", "config-linux.md#devices", "the type is REQUIRED", &["/linux/devices/*/path"],
           {"path": "/dev/x", "major": 1, "minor": 3}),
    wrong!("no_path", "config-linux.md#devices", "the path is REQUIRED", &["/linux/devices/*/type"],
           {"type": "c", "major": 1, "minor": 3}),
    wrong!("no_numbers", "config-linux.md#devices", "the numbers are REQUIRED unless it is a pipe", &["/linux/devices/*/type"],
           {"path": "/dev/x", "type": "c"}),
    holds(
        "nothing_but_the_listed",
        "config-linux.md#devices",
        "a container MAY NOT use a device that is neither listed nor a default one",
        &["/linux/resources/devices/*/access"],
        |t| assert!(!allows(t, &mut fresh(t, &[]), "c", 10, 237, "r")),
    )
    .needs(CONTROLLER),
    holds(
        "allowed",
        RULE,
        "an entry allows what it names (MUST be applied)",
        &[
            "/linux/resources/devices/*/allow", "/linux/resources/devices/*/type", "/linux/resources/devices/*/major",
            "/linux/resources/devices/*/minor", "/linux/resources/devices/*/access",
        ],
        |t| {
            let mut bundle = fresh(t, &[]);
            let deny = json!({"allow": false, "access": "rwm"});
            rules(&mut bundle, json!([deny, {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rm"}]));
            assert!(allows(t, &mut bundle, "c", 10, 237, "r"));
            assert!(!allows(t, &mut bundle, "c", 10, 237, "w"), "reading was allowed");
            assert!(!allows(t, &mut bundle, "c", 10, 229, "r"), "another number");
            let mut bundle = fresh(t, &[]);
            rules(&mut bundle, json!([deny, {"allow": true, "type": "b", "major": 7, "access": "rwm"}]));
            assert!(allows(t, &mut bundle, "b", 7, 77, "r"), "every minor number");
            assert!(!allows(t, &mut bundle, "c", 7, 77, "r"), "another type");
            let mut bundle = fresh(t, &[]);
            rules(&mut bundle, json!([deny, {"allow": true, "type": "a", "access": "rwm"}]));
            assert!(allows(t, &mut bundle, "c", 10, 237, "r"), "all");
        },
    )
    .needs(CONTROLLER),
    holds(
        "in_the_listed_order",
        RULE,
        "the entries MUST be applied in the listed order",
        &["/linux/resources/devices/*/allow"],
        |t| {
            let mut bundle = fresh(t, &[]);
            let one = |allow: bool| json!({"allow": allow, "type": "c", "major": 10, "minor": 237, "access": "rwm"});
            let deny = json!({"allow": false, "access": "rwm"});
            rules(&mut bundle, json!([deny, one(true), one(false)]));
            assert!(!allows(t, &mut bundle, "c", 10, 237, "r"), "allowed and then denied");
            rules(&mut bundle, json!([one(true), deny]));
            assert!(!allows(t, &mut bundle, "c", 10, 237, "r"), "all denied at the end");
            rules(&mut bundle, json!([deny, one(false), one(true)]));
            assert!(allows(t, &mut bundle, "c", 10, 237, "r"), "denied and then allowed");
        },
    )
    .needs(CONTROLLER),
    refused(
        "rule_without_a_verdict",
        RULE,
        "allow is REQUIRED",
        &["/linux/resources/devices/*/access"],
        |bundle| rules(bundle, json!([{"access": "rwm"}])),
    ),
    refused(
        "rule_of_an_unknown_type",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/resources/devices/*/type"],
        |bundle| rules(bundle, json!([{"allow": true, "type": "z", "access": "rwm"}])),
    ),
    refused(
        "rule_of_an_unknown_access",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/resources/devices/*/access"],
        |bundle| rules(bundle, json!([{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwxyz"}])),
    ),
];

//! What is hidden and what is read-only, kernel parameters, propagation of the root, labels.
use crate::mounts::Nested;
use crate::rule::*;
use coracle_tests::*;
use rustix::mount::{MountPropagationFlags, mount_change};
use std::fs;

/// Kernel parameters that the process must see.
macro_rules! parameter {
    ($name:literal, $key:literal, $value:literal) => {
        holds(
            $name,
            "config-linux.md#sysctl",
            concat!("the kernel parameter ", $key, " MUST be set"),
            &["/linux/sysctl/*"],
            |t| {
                let mut bundle = fresh(t, &["report", "--sysctl", $key]);
                bundle.set("/linux/sysctl", json!({$key: $value}));
                assert_eq!(report(t, &mut bundle)["sysctls"][$key], $value);
            },
        )
    };
}

const MASKED: &str = "config-linux.md#masked-paths";
const READ_ONLY: &str = "config-linux.md#readonly-paths";
const PROPAGATION: &str = "config-linux.md#rootfs-mount-propagation";

pub const RULES: &[Rule] = &[
    holds(
        "masked_file",
        MASKED,
        "a masked file cannot be read (MUST be applied)",
        &["/linux/maskedPaths/*"],
        |t| {
            let mut bundle = fresh(t, &[]);
            fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
            bundle.set("/linux/maskedPaths", json!(["/etc/secret", "/proc/uptime"]));
            for answer in
                answers(t, &mut bundle, &[json!(["read", "/etc/secret"]), json!(["read", "/proc/uptime"])])
            {
                assert!(!works(&answer) || answer["ok"]["length"] == 0, "{answer}");
            }
            assert_eq!(
                fs::read_to_string(bundle.inside("/etc/secret")).unwrap(),
                "secret",
                "outside it stays"
            );
        },
    ),
    holds(
        "masked_directory",
        MASKED,
        "a masked directory cannot be read (MUST be applied)",
        &["/linux/maskedPaths/*"],
        |t| {
            let mut bundle = fresh(t, &[]);
            fs::create_dir_all(bundle.inside("/srv/secret/deep")).unwrap();
            bundle.set("/linux/maskedPaths", json!(["/srv/secret", "/proc/bus"]));
            let got = answers(
                t,
                &mut bundle,
                &[
                    json!(["list", "/srv/secret"]),
                    json!(["list", "/proc/bus"]),
                    json!(["open", "/srv/secret/new", "create"]),
                ],
            );
            for answer in &got[..2] {
                assert!(!works(answer) || answer["ok"] == json!([]), "{answer}");
            }
            assert!(!works(&got[2]), "{}", got[2]);
        },
    ),
    sees(
        "masked_nothing",
        MASKED,
        "what is not there needs no mask: masked paths are OPTIONAL",
        &["/linux/maskedPaths/*"],
        |bundle| bundle.set("/linux/maskedPaths", json!(["/no/such/path"])),
        |seen| assert_eq!(seen["pid"], 1),
    ),
    refused(
        "masked_relative_path",
        MASKED,
        "the paths MUST be absolute",
        &["/linux/maskedPaths/*"],
        |bundle| bundle.set("/linux/maskedPaths", json!(["proc/kcore"])),
    ),
    holds(
        "read_only_path",
        READ_ONLY,
        "a read-only path cannot be written to (MUST be applied)",
        &["/linux/readonlyPaths/*"],
        |t| {
            let mut bundle = fresh(t, &[]);
            fs::create_dir_all(bundle.inside("/srv/fixed/deep")).unwrap();
            fs::write(bundle.inside("/srv/file"), "text").unwrap();
            bundle.set("/linux/readonlyPaths", json!(["/srv/fixed", "/srv/file", "/proc/sys"]));
            let tries = [
                json!(["open", "/srv/fixed/deep/new", "create"]),
                json!(["write", "/srv/file", "x"]),
                json!(["write", "/proc/sys/kernel/domainname", "x"]),
                json!(["read", "/srv/file"]),
                json!(["open", "/srv/new", "create"]),
            ];
            let got = answers(t, &mut bundle, &tries);
            for answer in &got[..3] {
                assert!(is_error(answer, "EROFS"), "{answer}");
            }
            assert_eq!(got[3]["ok"]["text"], "text");
            assert!(works(&got[4]), "beside it: {}", got[4]);
        },
    ),
    sees(
        "read_only_nothing",
        READ_ONLY,
        "what is not there cannot be made read-only: read-only paths are OPTIONAL",
        &["/linux/readonlyPaths/*"],
        |bundle| bundle.set("/linux/readonlyPaths", json!(["/no/such/path"])),
        |seen| assert_eq!(seen["pid"], 1),
    ),
    refused(
        "read_only_relative_path",
        READ_ONLY,
        "the paths MUST be absolute",
        &["/linux/readonlyPaths/*"],
        |bundle| bundle.set("/linux/readonlyPaths", json!(["proc/sys"])),
    ),
    parameter!("parameter_of_the_network", "net.ipv4.ip_forward", "1"),
    parameter!("parameter_of_queues", "fs.mqueue.msg_max", "77"),
    parameter!("parameter_of_messages", "kernel.msgmax", "65535"),
    parameter!("parameter_of_shared_memory", "kernel.shmmni", "4000"),
    holds(
        "parameter_with_slashes",
        "config-linux.md#sysctl",
        "names have the form of sysctl(8) (MUST be applied)",
        &["/linux/sysctl/*"],
        |t| {
            let mut bundle = fresh(t, &["report", "--sysctl", "net.ipv4.ip_forward"]);
            bundle.set("/linux/sysctl", json!({"net/ipv4/ip_forward": "1"}));
            assert_eq!(report(t, &mut bundle)["sysctls"]["net.ipv4.ip_forward"], "1");
        },
    ),
    refused(
        "unknown_parameter",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/linux/sysctl/*"],
        |bundle| bundle.set("/linux/sysctl", json!({"net.ipv4.frobnicate": "1"})),
    ),
    refused(
        "parameter_with_a_wrong_value",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/linux/sysctl/*"],
        |bundle| bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "frobnicate"})),
    ),
    refused(
        "parameter_of_the_whole_machine",
        "config-linux.md#sysctl",
        "parameters are for the container: what would change the host MUST be an error",
        &["/linux/sysctl/*"],
        |bundle| bundle.set("/linux/sysctl", json!({"vm.swappiness": "61"})),
    ),
    sees(
        "shared_root",
        PROPAGATION,
        "with `shared` the root belongs to a new peer group (MUST be applied)",
        &["/linux/rootfsPropagation"],
        |bundle| bundle.set("/linux/rootfsPropagation", json!("shared")),
        |seen| assert!(optional(seen).contains("shared:"), "{}", optional(seen)),
    ),
    sees(
        "private_root",
        PROPAGATION,
        "with `private` the root gets nothing from the host (MUST be applied)",
        &["/linux/rootfsPropagation"],
        |bundle| bundle.set("/linux/rootfsPropagation", json!("private")),
        |seen| {
            assert!(
                !optional(seen).contains("shared:") && !optional(seen).contains("master:"),
                "{}",
                optional(seen)
            )
        },
    ),
    sees(
        "unbindable_root",
        PROPAGATION,
        "with `unbindable` the root cannot be bound (MUST be applied)",
        &["/linux/rootfsPropagation"],
        |bundle| bundle.set("/linux/rootfsPropagation", json!("unbindable")),
        |seen| assert!(optional(seen).contains("unbindable"), "{}", optional(seen)),
    ),
    holds(
        "slave_root",
        PROPAGATION,
        "with `slave` what is mounted on the host appears, and not the other way around (MUST be applied)",
        &["/linux/rootfsPropagation"],
        |t| {
            // The root file system lies on a mount that the host shares.
            let nested = Nested::new(t, "shared");
            mount_change(&nested.0, MountPropagationFlags::SHARED).unwrap();
            let mut bundle = fresh(t, &["ready"]);
            let root = nested.0.join("root");
            fs::create_dir(&root).unwrap();
            rustix::mount::mount_bind(bundle.rootfs(), &root).unwrap();
            mount_change(&root, MountPropagationFlags::SHARED).unwrap();
            bundle.set("/root/path", json!(root)).set("/linux/rootfsPropagation", json!("slave"));
            let container = Container::new(t, &mut bundle);
            container.ready();
            let empty = std::ffi::CString::new("size=1m").unwrap();
            rustix::mount::mount(
                "late",
                root.join("srv-late"),
                "tmpfs",
                rustix::mount::MountFlags::empty(),
                empty.as_c_str(),
            )
            .unwrap_err();
            rustix::mount::mount(
                "late",
                root.join("home"),
                "tmpfs",
                rustix::mount::MountFlags::empty(),
                empty.as_c_str(),
            )
            .unwrap();
            fs::write(root.join("home/file"), "").unwrap();
            let seen = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
            rustix::mount::unmount(root.join("home"), rustix::mount::UnmountFlags::DETACH).unwrap();
            container.end();
            rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
            assert!(seen.lines().any(|line| line.contains(" /home ") && line.contains("late")), "{seen}");
        },
    ),
    refused(
        "unknown_propagation",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/rootfsPropagation"],
        |bundle| bundle.set("/linux/rootfsPropagation", json!("frobnicate")),
    ),
    holds(
        "mount_label_where_there_is_none",
        "runtime.md#create",
        "a label that cannot be applied MUST be an error",
        &["/linux/mountLabel"],
        |t| {
            if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
                t.skip("SELinux is enabled");
            }
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"));
            is_refused(t, &mut bundle);
        },
    ),
];

/// The propagation of the root, as the process sees it.
fn optional(seen: &Value) -> String {
    mount_at(&seen["mounts"], "/")["optional"].to_string()
}

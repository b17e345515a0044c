//! The bundle as a whole: its version, its root file system, its names, what is not known.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

pub const RULES: &[Rule] = &[
    refused("no_version", "config.md#specification-version", "the version is REQUIRED", &[], |bundle| {
        bundle.remove("/ociVersion")
    }),
    refused(
        "version_that_is_none",
        "config.md#specification-version",
        "the version MUST be in the format of SemVer 2.0.0",
        &["/ociVersion"],
        |bundle| bundle.set("/ociVersion", json!("abc")),
    ),
    refused(
        "version_of_two_numbers",
        "config.md#specification-version",
        "the version MUST be in the format of SemVer 2.0.0",
        &["/ociVersion"],
        |bundle| bundle.set("/ociVersion", json!("1.0")),
    ),
    holds(
        "versions_of_this_major_one",
        "config.md#specification-version",
        "what complies with an older minor version is compatible with every later one (MUST run)",
        &["/ociVersion"],
        |t| {
            for version in ["1.0.0", "1.0.2-dev", "1.0.0-rc2", "1.1.0+build.7", "1.2.1"] {
                let mut bundle = fresh(t, &["exit", "0"]);
                bundle.set("/ociVersion", json!(version));
                Container::new(t, &mut bundle).run().expect(0);
            }
        },
    ),
    holds(
        "no_configuration",
        "bundle.md#container-format",
        "config.json is REQUIRED in the bundle's directory",
        &[],
        |t| {
            let mut bundle = fresh(t, &["exit", "0"]);
            let container = Container::new(t, &mut bundle);
            fs::rename(container.bundle.dir.join("config.json"), t.dir().join("config.json")).unwrap();
            refuses(&container);
        },
    ),
    holds(
        "broken_configuration",
        "runtime.md#create",
        "what cannot be applied as it is written MUST be an error",
        &[],
        |t| {
            for text in ["", "{", "[]", r#"{"ociVersion": "1.0.0", }"#] {
                let mut bundle = fresh(t, &["exit", "0"]);
                let container = Container::new(t, &mut bundle);
                container.bundle.write_text(text);
                refuses(&container);
            }
        },
    ),
    refused("no_root", "config.md#root", "the root is REQUIRED", &[], |bundle| bundle.remove("/root")),
    refused("no_root_path", "config.md#root", "the path of the root is REQUIRED", &[], |bundle| {
        bundle.set("/root", json!({"readonly": false}))
    }),
    refused(
        "root_that_is_not_there",
        "config.md#root",
        "a directory MUST exist at the path",
        &["/root/path"],
        |bundle| bundle.set("/root/path", json!("missing")),
    ),
    refused(
        "root_that_is_a_file",
        "config.md#root",
        "a directory MUST exist at the path",
        &["/root/path"],
        |bundle| {
            fs::write(bundle.dir.join("file"), "").unwrap();
            bundle.set("/root/path", json!("file"))
        },
    ),
    sees(
        "root_relative_to_the_bundle",
        "config.md#root",
        "a relative path is taken from the bundle's directory (MUST be applied)",
        &["/root/path"],
        |bundle| {
            fs::rename(bundle.rootfs(), bundle.dir.join("other")).unwrap();
            bundle.set("/root/path", json!("./other"))
        },
        |seen| assert_eq!(seen["cwd"], "/"),
    ),
    sees(
        "absolute_root",
        "config.md#root",
        "the path can be absolute (MUST be applied)",
        &["/root/path"],
        |bundle| {
            let path = bundle.rootfs();
            bundle.set("/root/path", json!(path))
        },
        |seen| assert_eq!(seen["cwd"], "/"),
    ),
    holds(
        "read_only_root",
        "config.md#root",
        "with readonly the root MUST be read-only inside",
        &["/root/readonly"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.set("/root/readonly", json!(true));
            let tries = [
                json!(["open", "/new", "create"]),
                json!(["mounts"]),
                json!(["open", "/dev/shm/new", "create"]),
            ];
            let got = answers(t, &mut bundle, &tries);
            assert!(is_error(&got[0], "EROFS"), "{}", got[0]);
            assert!(has_options(mount_at(&got[1]["ok"], "/"), &["ro"]));
            assert!(works(&got[2]), "other mounts stay as they are: {}", got[2]);
        },
    ),
    holds(
        "writable_root",
        "config.md#root",
        "without readonly the root is writable: the default is false (MUST be applied)",
        &["/root/readonly"],
        |t| {
            let mut bundle = fresh(t, &[]);
            assert!(works(&answers(t, &mut bundle, &[json!(["open", "/one", "create"])])[0]));
            bundle.set("/root/readonly", json!(false));
            assert!(works(&answers(t, &mut bundle, &[json!(["open", "/two", "create"])])[0]));
            assert!(bundle.inside("/one").exists() && bundle.inside("/two").exists());
        },
    ),
    sees(
        "host_name",
        "config.md#hostname",
        "the name is what processes inside see (MUST be applied)",
        &["/hostname"],
        |bundle| bundle.set("/hostname", json!("mrs-dalloway")),
        |seen| assert_eq!(seen["hostname"], "mrs-dalloway"),
    ),
    sees(
        "domain_name",
        "config.md#domainname",
        "the name is what processes inside see (MUST be applied)",
        &["/domainname"],
        |bundle| bundle.set("/domainname", json!("foobarbaz.test")),
        |seen| assert_eq!(seen["domainname"], "foobarbaz.test"),
    ),
    sees(
        "unknown_properties",
        "config.md#extensibility",
        "unknown properties MUST be ignored",
        &[],
        |bundle| {
            bundle.set("/frobnicate", json!({"a": [1]})).set("/linux/frobnicate", json!("x"));
            bundle.set("/process/frobnicate", json!(7)).set("/mounts/0/frobnicate", json!(null))
        },
        |seen| assert_eq!(seen["pid"], 1),
    ),
    sees(
        "objects_of_other_platforms",
        "config.md#platform-specific-configuration",
        "what is for other platforms is no error: unknown or unused properties MUST be ignored",
        &[],
        |bundle| {
            bundle.set("/windows", json!({"layerFolders": ["x"]})).set("/solaris", json!({"milestone": "x"}));
            bundle.set("/zos", json!({"namespaces": []}))
        },
        |seen| assert_eq!(seen["pid"], 1),
    ),
    holds(
        "annotations_in_the_state",
        "runtime.md#state",
        "the state has the container's annotations (MUST be returned)",
        &["/annotations/*"],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let annotations = json!({"com.example.key": "value", "unknown key": "is no error", "empty": ""});
            bundle.set("/annotations", annotations.clone());
            let container = Container::new(t, &mut bundle);
            container.create();
            let seen = container.state();
            for (key, value) in annotations.as_object().unwrap() {
                assert_eq!(&seen["annotations"][key], value, "{key}");
            }
        },
    ),
    sees(
        "empty_annotations",
        "config.md#annotations",
        "no annotations and an empty map are the same (MUST)",
        &["/annotations"],
        |bundle| bundle.set("/annotations", json!({})),
        |seen| assert_eq!(seen["pid"], 1),
    ),
    refused(
        "empty_annotation_key",
        "config.md#annotations",
        "keys MUST NOT be an empty string",
        &["/annotations/*"],
        |bundle| bundle.set("/annotations", json!({"": "x"})),
    ),
    refused(
        "annotation_that_is_a_number",
        "config.md#annotations",
        "values MUST be strings",
        &["/annotations/*"],
        |bundle| bundle.set("/annotations", json!({"a": 1})),
    ),
];

//! Labels of security modules: taken on where the module is enabled, refused at their place where it is not.
use coracle_tests::*;
use std::fs;
use std::path::Path;

cases![
    profile_without_apparmor,
    labels_without_selinux,
    confined_by_apparmor,
    confined_when_added,
    profile_that_is_not_loaded,
];

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";

fn has_apparmor() -> bool {
    fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
}

fn peers(t: &T) {
    t.differs("runc", "words of its own");
    t.differs("crun", "goes on without the profile");
}

fn profile_without_apparmor(t: &T) {
    peers(t);
    if has_apparmor() {
        t.skip("AppArmor is enabled");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/process/apparmorProfile", json!("docker-default"));
    let container = Container::new(t, &mut bundle);
    for call in [container.create_call(), container.run_call()] {
        let error = call.done().error();
        assert_eq!(
            (&error["code"], &error["pointer"]),
            (&json!("lsm-missing"), &json!("/process/apparmorProfile"))
        );
        container.gone();
    }
    drop(container);
    for none in ["", "unconfined"] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set("/process/apparmorProfile", json!(none));
        Container::new(t, &mut bundle).run().expect(0);
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let error =
        container.call("exec").args(["--apparmor", "x"]).then(["/payload", "exit", "0"]).done().error();
    assert_eq!((&error["code"], &error["pointer"]), (&json!("lsm-missing"), &json!("/apparmorProfile")));
    container
        .call("exec")
        .args(["--apparmor", "unconfined"])
        .then(["/payload", "exit", "0"])
        .done()
        .expect(0);
    container.end();
}

fn labels_without_selinux(t: &T) {
    t.differs("runc", "goes on without the labels");
    t.differs("crun", "goes on without the labels");
    if Path::new("/sys/fs/selinux/enforce").exists() {
        t.skip("SELinux is enabled");
    }
    for pointer in ["/process/selinuxLabel", "/linux/mountLabel"] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set(pointer, json!("system_u:object_r:container_file_t:s0"));
        let container = Container::new(t, &mut bundle);
        let error = container.create_call().done().error();
        assert_eq!((&error["code"], &error["pointer"]), (&json!("lsm-missing"), &json!(pointer)));
        container.gone();
        drop(container);
        bundle.set(pointer, json!(""));
        Container::new(t, &mut bundle).run().expect(0);
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let label = ["--process-label", "system_u:system_r:container_t:s0"];
    let error = container.call("exec").args(label).then(["/payload", "exit", "0"]).done().error();
    assert_eq!((&error["code"], &error["pointer"]), (&json!("lsm-missing"), &json!("/selinuxLabel")));
    container.end();
}

/// The profile of `tests/data`: all is allowed but one path.
const PROFILE: &str = "coracle-test-confined";

/// Loads it for as long as the machine runs; the suites have a mount namespace of their own.
fn load(t: &T) {
    if !has_apparmor() {
        t.skip("needs AppArmor");
    }
    const TOP: &str = "/sys/kernel/security";
    let replace = Path::new(TOP).join("apparmor/.replace");
    if !replace.exists() {
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("securityfs", TOP, "securityfs", none, None).expect("securityfs");
    }
    fs::write(&replace, include_bytes!("../data/apparmor.bin")).expect("the profile is loaded");
}

/// What the process says of itself, and whether the one path is denied.
fn questions() -> [String; 2] {
    [
        json!(["read", "/proc/self/attr/current"]).to_string(),
        json!(["open", "/denied-by-profile", "create"]).to_string(),
    ]
}

fn check(answers: &Value, confined: bool) {
    let label = answers[0]["ok"]["text"].as_str().unwrap().trim_end();
    let expected = if confined { format!("{PROFILE} (enforce)") } else { "unconfined".to_owned() };
    assert_eq!(label, expected);
    assert_eq!(is_error(&answers[1], "EACCES"), confined, "{answers}");
}

fn confined_by_apparmor(t: &T) {
    peers(t);
    load(t);
    let [label, open] = questions();
    for (privileges, user, namespace) in
        [(true, 0, false), (false, 0, false), (true, 1000, false), (false, 1000, false), (true, 0, true)]
    {
        let mut bundle = Bundle::new(t, &["do", &label, &open]);
        bundle.set("/process/noNewPrivileges", json!(privileges)).set("/root/readonly", json!(false));
        bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
        check(&Container::new(t, &mut bundle).run().expect(0).json(), false);
        bundle
            .set("/process/apparmorProfile", json!(PROFILE))
            .set("/process/user", json!({"uid": user, "gid": 0}));
        if namespace {
            bundle.user_namespace(100_000);
        }
        check(&Container::new(t, &mut bundle).run().expect(0).json(), true);
    }
}

fn confined_when_added(t: &T) {
    peers(t);
    load(t);
    let [label, open] = questions();
    let words = ["/payload", "do", &label, &open];
    for namespace in [false, true] {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/root/readonly", json!(false)).set("/process/apparmorProfile", json!(PROFILE));
        if namespace {
            bundle.user_namespace(100_000);
        }
        let container = Container::new(t, &mut bundle);
        container.ready();
        check(&container.exec(&words).expect(0).json(), true);
        container.end();
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/root/readonly", json!(false));
    let container = Container::new(t, &mut bundle);
    container.ready();
    check(&container.exec(&words).expect(0).json(), false);
    let done = container.call("exec").args(["--apparmor", PROFILE]).then(words).done();
    check(&done.expect(0).json(), true);
    container.end();
}

fn profile_that_is_not_loaded(t: &T) {
    peers(t);
    load(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/process/apparmorProfile", json!("no-such-profile"));
    let container = Container::new(t, &mut bundle);
    let error = container.create_call().done().error();
    assert_eq!(
        (&error["pointer"], &error["errno"]),
        (&json!("/process/apparmorProfile"), &json!("ENOENT")),
        "{error}"
    );
    assert!(error["hint"].as_str().unwrap().contains("apparmor_parser"), "{error}");
    container.gone();
}

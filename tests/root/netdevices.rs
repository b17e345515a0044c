//! Network devices of the host that a container gets. Each case plays in a network namespace of its own, which is the host's for it.
use coracle_tests::network::{NetworkHost, ip};
use coracle_tests::*;

cases![
    moved_with_its_addresses,
    numbered_by_the_kernel,
    into_a_joined_namespace,
    into_a_user_namespace,
    back_when_the_container_fails,
    refused,
];

const OLD: &str = "network devices are younger than runc 1.1 and crun 1.8";

fn host(t: &T) -> NetworkHost {
    t.differs("runc", OLD);
    t.differs("crun", OLD);
    NetworkHost::new(t)
}

fn addresses() {
    ip(&["addr", "add", "10.1.2.3/24", "broadcast", "10.1.2.255", "dev", "cable0"]).unwrap();
    ip(&["addr", "add", "10.9.9.9", "peer", "10.9.9.10/32", "dev", "cable0", "noprefixroute"]).unwrap();
    ip(&["addr", "add", "169.254.7.7/16", "scope", "link", "dev", "cable0"]).unwrap();
    ip(&["addr", "add", "2001:db8::7/64", "dev", "cable0", "nodad"]).unwrap();
    ip(&["addr", "add", "2001:db8::99/64", "dev", "cable0", "valid_lft", "1000", "preferred_lft", "900"])
        .unwrap();
}

const SEEN: [&str; 4] = ["/proc/net/fib_trie", "/proc/net/if_inet6", "/proc/net/dev", "/proc/net/route"];

/// What the container sees of its network: the texts of [`SEEN`], then the flags of a device.
fn seen(t: &T, bundle: &mut Bundle, device: &str) -> (Vec<String>, u32) {
    let mut actions: Vec<Value> = SEEN.iter().map(|path| json!(["read", path])).collect();
    actions.push(json!(["read", format!("/sys/class/net/{device}/flags")]));
    let got = answers(t, bundle, &actions);
    let texts: Vec<String> =
        got.iter().map(|answer| answer["ok"]["text"].as_str().unwrap_or("").to_owned()).collect();
    let flags = texts[4].trim().trim_start_matches("0x");
    let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
    (texts, flags)
}

fn moved_with_its_addresses(t: &T) {
    let _host = host(t);
    addresses();
    ip(&["link", "set", "cable0", "mtu", "1300", "up"]).unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth7"}, "peer0": {}}));
    let (texts, flags) = seen(t, &mut bundle, "eth7");
    assert_eq!(flags & 1, 1, "up");
    for (text, wanted) in [
        (0, "10.1.2.3"),
        (0, "10.1.2.255"),
        (0, "10.9.9.9"),
        (1, "20010db8000000000000000000000007"),
        (2, "peer0:"),
    ] {
        assert!(texts[text].contains(wanted), "{wanted}: {}", texts[text]);
    }
    for (text, unwanted) in [(0, "169.254.7.7"), (1, "20010db8000000000000000000000099"), (2, "cable0")] {
        assert!(!texts[text].contains(unwanted), "{unwanted}: {}", texts[text]);
    }
    // A veth ends with its namespace; nothing is moved back.
    assert_eq!(ip(&["link", "show", "cable0"]), None);
}

fn numbered_by_the_kernel(t: &T) {
    let _host = host(t);
    ip(&["addr", "add", "10.1.2.3/24", "dev", "peer0"]).unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/linux/netDevices", json!({"cable0": {"name": "net%d"}, "peer0": {"name": "net%d"}}));
    let (texts, flags) = seen(t, &mut bundle, "net1");
    assert_eq!(flags & 1, 1, "up");
    assert!(texts[2].contains("net0:") && texts[2].contains("net1:"), "{}", texts[2]);
    assert!(texts[0].contains("10.1.2.3"));
}

fn into_a_joined_namespace(t: &T) {
    let _host = host(t);
    let mut first = Bundle::new(t, &["ready"]);
    let first = Container::new(t, &mut first);
    first.ready();
    let path = format!("/proc/{}/ns/net", first.pid());
    let mut bundle = Bundle::new(t, &[]);
    bundle
        .without_namespace("network")
        .add("/linux/namespaces", json!({"type": "network", "path": path}))
        .set("/linux/netDevices", json!({"cable0": {"name": "eth0"}}));
    assert_eq!(seen(t, &mut bundle, "eth0").1 & 1, 1);
    // The name is taken now: the second device stays where it is.
    bundle.set("/linux/netDevices", json!({"peer0": {"name": "eth0"}}));
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    assert_eq!(error["pointer"], "/linux/netDevices/peer0", "{error}");
    assert_eq!(error["code"], "network-device-exists", "{error}");
    container.gone();
    assert!(ip(&["link", "show", "peer0"]).is_some());
    first.end();
}

fn into_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let _host = host(t);
    ip(&["addr", "add", "10.1.2.3/24", "dev", "cable0"]).unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.user_namespace(100_000).set("/linux/netDevices", json!({"cable0": {}}));
    let (texts, flags) = seen(t, &mut bundle, "cable0");
    assert_eq!(flags & 1, 1, "up");
    assert!(texts[0].contains("10.1.2.3"));
}

fn back_when_the_container_fails(t: &T) {
    let _host = host(t);
    addresses();
    ip(&["link", "set", "cable0", "up"]).unwrap();
    let shown = |name: &str| {
        let text = ip(&["-o", "addr", "show", "dev", name, "scope", "global", "permanent"]).unwrap();
        let mut lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect();
        lines.sort();
        lines
    };
    let before = shown("cable0");
    assert_eq!(before.len(), 3);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth0"}, "peer0": {"name": "eth1"}}));
    bundle.mount("nosuchfs", "x", "/x", &[]);
    let container = Container::new(t, &mut bundle);
    container.run().expect(1).error();
    container.gone();
    drop(container);
    assert_eq!(shown("cable0"), before);
    assert!(ip(&["link", "show", "dev", "cable0", "up"]).unwrap().contains("cable0"), "up again");
    assert_eq!(ip(&["link", "show", "dev", "peer0", "up"]).unwrap(), "", "down as before");
    // The second of two is missing: the first is back, too.
    bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth0"}, "zzz0": {}}));
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    assert_eq!(error["pointer"], "/linux/netDevices/zzz0", "{error}");
    assert_eq!(error["code"], "network-device-missing", "{error}");
    container.gone();
    assert_eq!(shown("cable0"), before);
}

fn refused(t: &T) {
    let host = host(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/netDevices", json!({"lo": {"name": "lo7"}}));
    let fails = |bundle: &mut Bundle, pointer: &str, code: &str| {
        let container = Container::new(t, bundle);
        let error = container.run().expect(1).error();
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)), "{error}");
        container.gone();
    };
    fails(&mut bundle, "/linux/netDevices/lo", "network-device");
    bundle.set("/linux/netDevices", json!({"cable0": {}})).without_namespace("network");
    fails(&mut bundle, "/linux/netDevices", "network-namespace-missing");
    bundle.add("/linux/namespaces", json!({"type": "network", "path": host.path}));
    fails(&mut bundle, "/linux/netDevices", "network-namespace-host");
    assert!(ip(&["link", "show", "cable0"]).is_some());
}

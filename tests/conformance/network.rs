//! Network devices of the host that a container gets. Each case plays in a network namespace of its own, which is the host's for it.
use crate::rule::*;
use coracle_tests::network::{NetworkHost, ip};
use coracle_tests::*;

/// What a container with these devices sees: IPv4 addresses, IPv6 addresses, names.
fn seen(t: &T, devices: Value) -> [String; 3] {
    let mut bundle = fresh(t, &[]);
    bundle.set("/linux/netDevices", devices);
    let files = ["/proc/net/fib_trie", "/proc/net/if_inet6", "/proc/net/dev"];
    let got = answers(t, &mut bundle, &files.map(|path| json!(["read", path])));
    [0, 1, 2].map(|n| got[n]["ok"]["text"].as_str().unwrap_or("").to_owned())
}

const DEVICES: &str = "config-linux.md#network-devices";
const NAME: &[&str] = &["/linux/netDevices/*/name"];

pub const RULES: &[Rule] = &[
    holds(
        "moved",
        DEVICES,
        "the devices MUST be available, by their own names or the given ones",
        NAME,
        |t| {
            let _host = NetworkHost::new(t);
            let [_, _, names] = seen(t, json!({"cable0": {"name": "eth7"}, "peer0": {}}));
            assert!(
                names.contains("eth7:") && names.contains("peer0:") && !names.contains("cable0:"),
                "{names}"
            );
        },
    ),
    holds(
        "permanent_addresses",
        DEVICES,
        "permanent addresses with global scope of any family MUST be preserved",
        NAME,
        |t| {
            let _host = NetworkHost::new(t);
            ip(&["addr", "add", "10.1.2.3/24", "broadcast", "10.1.2.255", "dev", "cable0"]).unwrap();
            ip(&["addr", "add", "10.9.9.9/32", "dev", "cable0"]).unwrap();
            ip(&["addr", "add", "2001:db8::7/64", "dev", "cable0", "nodad"]).unwrap();
            ip(&["link", "set", "cable0", "up"]).unwrap();
            let [four, six, _] = seen(t, json!({"cable0": {"name": "eth7"}}));
            assert!(four.contains("10.1.2.3") && four.contains("10.9.9.9"), "{four}");
            assert!(six.contains("20010db8000000000000000000000007"), "{six}");
        },
    ),
    holds(
        "other_addresses",
        DEVICES,
        "only addresses that are permanent and of global scope are transferred (MUST)",
        NAME,
        |t| {
            let _host = NetworkHost::new(t);
            ip(&["addr", "add", "169.254.7.7/16", "scope", "link", "dev", "cable0"]).unwrap();
            ip(&[
                "addr",
                "add",
                "2001:db8::99/64",
                "dev",
                "cable0",
                "valid_lft",
                "1000",
                "preferred_lft",
                "900",
            ])
            .unwrap();
            let [four, six, _] = seen(t, json!({"cable0": {"name": "eth7"}}));
            assert!(!four.contains("169.254.7.7"), "{four}");
            assert!(!six.contains("20010db8000000000000000000000099"), "{six}");
        },
    ),
    holds("attributes", DEVICES, "existing attributes of the device MUST be preserved", NAME, |t| {
        let _host = NetworkHost::new(t);
        ip(&["link", "set", "cable0", "mtu", "1300", "address", "02:00:00:00:00:77"]).unwrap();
        let mut bundle = fresh(t, &[]);
        bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth7"}}));
        let files = ["/sys/class/net/eth7/mtu", "/sys/class/net/eth7/address"];
        let got = answers(t, &mut bundle, &files.map(|path| json!(["read", path])));
        assert_eq!(got[0]["ok"]["text"], "1300\n");
        assert_eq!(got[1]["ok"]["text"], "02:00:00:00:00:77\n");
    }),
    holds("up", DEVICES, "the device MUST be set to up after the move", NAME, |t| {
        let _host = NetworkHost::new(t);
        let mut bundle = fresh(t, &["report"]);
        bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth7"}}));
        assert_eq!(report(t, &mut bundle)["interfaces"]["eth7"]["up"], true);
    }),
    holds(
        "numbered_by_the_kernel",
        DEVICES,
        "a name with `%d` MUST be allowed, the kernel finds the number",
        NAME,
        |t| {
            let _host = NetworkHost::new(t);
            let [_, _, names] = seen(t, json!({"cable0": {"name": "net%d"}, "peer0": {"name": "net%d"}}));
            assert!(names.contains("net0:") && names.contains("net1:"), "{names}");
        },
    ),
    holds("name_that_is_taken", DEVICES, "a name that exists in the container MUST be an error", NAME, |t| {
        let _host = NetworkHost::new(t);
        let mut bundle = fresh(t, &[]);
        bundle.set("/linux/netDevices", json!({"cable0": {"name": "lo"}}));
        is_refused(t, &mut bundle);
        assert!(ip(&["link", "show", "cable0"]).is_some(), "the host has lost its device");
    }),
    holds(
        "device_that_is_not_there",
        DEVICES,
        "what cannot be moved MUST be an error",
        &["/linux/netDevices"],
        |t| {
            let _host = NetworkHost::new(t);
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/netDevices", json!({"missing0": {}}));
            is_refused(t, &mut bundle);
        },
    ),
    holds(
        "host_after_an_error",
        "runtime.md#errors",
        "after an error everything MUST be as before",
        &["/linux/netDevices"],
        |t| {
            let _host = NetworkHost::new(t);
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth0"}, "zzz0": {}}));
            is_refused(t, &mut bundle);
            assert!(ip(&["link", "show", "cable0"]).is_some(), "the host has lost its device");
        },
    ),
    holds(
        "into_a_joined_namespace",
        DEVICES,
        "the devices MUST be available in the container's network namespace, also in a joined one, and stay there",
        NAME,
        |t| {
            let _host = NetworkHost::new(t);
            let mut first = fresh(t, &["ready"]);
            let first = Container::new(t, &mut first);
            first.ready();
            let path = format!("/proc/{}/ns/net", first.pid());
            let mut bundle = fresh(t, &["report"]);
            bundle
                .without_namespace("network")
                .add("/linux/namespaces", json!({"type": "network", "path": path}));
            bundle.set("/linux/netDevices", json!({"cable0": {"name": "eth7"}}));
            assert_eq!(report(t, &mut bundle)["interfaces"]["eth7"]["up"], true);
            // It MUST NOT be moved back when the container ends.
            assert!(ip(&["link", "show", "cable0"]).is_none() && ip(&["link", "show", "eth7"]).is_none());
            let text = std::fs::read_to_string(format!("/proc/{}/net/dev", first.pid())).unwrap();
            assert!(text.contains("eth7:"), "{text}");
            first.end();
        },
    ),
];

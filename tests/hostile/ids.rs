//! C1: numbers that are none. Each spelling is an error, or exactly that id inside.
use coracle_tests::*;
use std::fs;

cases![exec_user, process_file_user, config_user, config_groups, mappings];

/// Spellings with the id that they mean; `None` must be refused.
const SPELLINGS: [(&str, Option<u32>); 30] = [
    ("0", Some(0)),
    ("1", Some(1)),
    ("1000", Some(1000)),
    ("65536", Some(65_536)),
    ("2147483647", Some(2_147_483_647)),
    ("2147483648", Some(2_147_483_648)),
    ("4294967294", Some(4_294_967_294)),
    ("4294967295", None),
    ("4294967296", None),
    ("4294967297", None),
    ("18446744073709551616", None),
    ("18446744073709551615", None),
    ("9223372036854775808", None),
    ("99999999999999999999999999", None),
    ("", None),
    ("-1", None),
    ("-0", None),
    ("+1", None),
    (" 1", None),
    ("1 ", None),
    ("1x", None),
    ("x", None),
    ("0x10", None),
    ("1e3", None),
    ("1.0", None),
    ("1_000", None),
    ("\u{0661}", None),
    ("1\n", None),
    (",", None),
    ("root", None),
];

/// `01` means 1 or is refused: both are exact.
const LOOSE: [(&str, u32); 2] = [("01", 1), ("007", 7)];

fn judge(done: &Done, field: &str, spelling: &str, expected: Option<u32>) {
    if done.code() == 0 && done.out.contains("\"uidMap\"") {
        let seen = done.json()[field].clone();
        let id = expected.unwrap_or_else(|| panic!("`{spelling}` ran as {seen}"));
        assert_eq!(seen, json!({"real": id, "effective": id, "saved": id, "fs": id}), "`{spelling}`");
    } else {
        assert_ne!(done.code(), 0, "`{spelling}`: {done}");
    }
}

fn exec_user(t: &T) {
    t.differs("runc", "numbers wrap around");
    t.differs("crun", "numbers wrap around");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let loose = LOOSE.iter().map(|(word, id)| (*word, Some(*id)));
    for (word, id) in SPELLINGS.into_iter().chain(loose) {
        let user = container.call("exec").arg("--user").arg(word).then(["/payload", "report"]).done();
        judge(&user, "uid", word, id);
        let group =
            container.call("exec").arg("--user").arg(format!("5:{word}")).then(["/payload", "report"]).done();
        judge(&group, "gid", word, id);
    }
    for word in ["0:", ":0", ":", "0:0:0", "0,0", "0:0 "] {
        let done = container.call("exec").arg("--user").arg(word).then(["/payload", "report"]).done();
        assert_ne!(done.code(), 0, "`{word}`: {done}");
    }
    container.end();
}

/// Values as they may stand in JSON.
fn values() -> Vec<(String, Option<u32>)> {
    let mut values: Vec<(String, Option<u32>)> = SPELLINGS
        .iter()
        .filter(|(word, _)| word.parse::<u128>().is_ok() && !word.starts_with('+'))
        .map(|(word, id)| ((*word).to_owned(), *id))
        .collect();
    for word in ["-1", "1.5", "\"0\"", "\"\"", "null", "true", "[0]", "{}", "1e10", "4294967295.0"] {
        values.push((word.to_owned(), None));
    }
    values
}

fn process_file_user(t: &T) {
    t.differs("runc", "4294967295 changes nothing");
    t.differs("crun", "numbers wrap around");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let file = t.dir().join("process.json");
    for (value, id) in values() {
        for field in ["uid", "gid"] {
            let other = if field == "uid" { "gid" } else { "uid" };
            let user = format!("{{\"{field}\": {value}, \"{other}\": 5}}");
            let text = format!(
                "{{\"user\": {user}, \"args\": [\"/payload\", \"report\"], \"cwd\": \"/\", \"env\": []}}"
            );
            fs::write(&file, text).unwrap();
            let done = container.call("exec").arg("--process").arg(&file).done();
            // Nothing is 0 by silence.
            let id = if value == "null" && done.code() == 0 { Some(0) } else { id };
            judge(&done, field, &value, id);
        }
    }
    container.end();
}

fn config_user(t: &T) {
    t.differs("runc", "4294967295 changes nothing");
    t.differs("crun", "numbers wrap around");
    for (value, id) in values() {
        for field in ["uid", "gid"] {
            let mut bundle = Bundle::new(t, &["report"]);
            bundle.set("/process/user", json!({"uid": 5, "gid": 5}));
            let container = Container::new(t, &mut bundle);
            let text = container.bundle.spec.to_string();
            let key = format!("\"{field}\":5");
            assert!(text.contains(&key));
            container.bundle.write_text(&text.replace(&key, &format!("\"{field}\":{value}")));
            let done = container.run();
            let id = if value == "null" && done.code() == 0 { Some(0) } else { id };
            judge(&done, field, &value, id);
        }
    }
}

fn config_groups(t: &T) {
    t.differs("runc", "4294967295 is dropped");
    t.differs("crun", "numbers wrap around");
    for (value, id) in values() {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/user", json!({"uid": 5, "gid": 5, "additionalGids": [123_454_321]}));
        let container = Container::new(t, &mut bundle);
        let text = container.bundle.spec.to_string();
        container.bundle.write_text(&text.replace("123454321", &value));
        let done = container.run();
        if done.code() == 0 {
            let id = id.unwrap_or_else(|| panic!("`{value}` ran with {}", done.json()["groups"]));
            assert_eq!(done.json()["groups"], json!([id]), "`{value}`");
        }
    }
}

fn mappings(t: &T) {
    t.differs("crun", "texts are taken as numbers");
    t.needs(&[Need::UserNamespaces]);
    for (container_id, host_id, size, good) in [
        ("0", "100000", "65536", true),
        ("0", "100000", "0", false),
        ("-1", "100000", "1", false),
        ("0", "-1", "1", false),
        ("0", "100000", "-1", false),
        ("0", "4294967295", "1", false),
        ("0", "4294967290", "10", false),
        ("4294967290", "0", "10", false),
        ("0", "4294967296", "1", false),
        ("4294967296", "100000", "1", false),
        ("0", "100000", "4294967296", false),
        ("0", "\"100000\"", "1", false),
        ("0", "1e5", "1", false),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.user_namespace(100_000);
        let container = Container::new(t, &mut bundle);
        let text = container.bundle.spec.to_string();
        let mut spec: Value = serde_json::from_str(&text).unwrap();
        spec["linux"]["uidMappings"] = json!("HERE");
        let mapping =
            format!("[{{\"containerID\": {container_id}, \"hostID\": {host_id}, \"size\": {size}}}]");
        container.bundle.write_text(&spec.to_string().replace("\"HERE\"", &mapping));
        let done = container.run();
        let ran = done.code() == 0;
        assert_eq!(ran, good, "{mapping}: {done}");
        if ran {
            assert_eq!(done.json()["uidMap"], json!([["0", "100000", "65536"]]));
        }
    }
}

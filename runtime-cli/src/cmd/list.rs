//! `coracle list`.

use std::collections::BTreeMap;

use coracle::{Container, ContainerId, Error};

use super::runtime;
use super::state::with_document;
use crate::Globals;
use crate::args::{Given, flags};
use crate::out::{self, state::Document, table::table};

/// Prints the containers below the root directory; none is no error, and one that cannot be read hides no other.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let found = runtime(globals)?.list()?;
    let text = if given.on(&flags::QUIET) {
        found.iter().map(|(id, _)| format!("{id}\n")).collect()
    } else if given.text(&flags::LIST_FORMAT) == Some("json") {
        json(globals, &found)
    } else {
        as_table(globals, &found)
    };
    out::print(text)?;
    Ok(0)
}

type Found = (ContainerId, Result<Container, Error>);

/// `null` when there is none, as Go's encoder has it for an empty list.
fn json(globals: &Globals, found: &[Found]) -> String {
    if found.is_empty() {
        return "null\n".to_owned();
    }
    format!("[{}]\n", documents(globals, found, |document| document.compact()).join(","))
}

fn as_table(globals: &Globals, found: &[Found]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(documents(globals, found, |document| {
        let pid = document.pid.to_string();
        [document.id, &pid, document.status, document.bundle, document.created, document.owner]
            .map(str::to_owned)
    }));
    table(&rows)
}

fn documents<T>(globals: &Globals, found: &[Found], show: impl Fn(&Document<'_>) -> T) -> Vec<T> {
    let users = if found.is_empty() { BTreeMap::new() } else { users() };
    let show = &show;
    let document = |(id, container): &Found| {
        let shown = container.as_ref().map_err(Error::to_string).and_then(|container| {
            let owner = owner(&users, container.owner());
            with_document(container, &owner, show).map_err(|error| error.to_string())
        });
        shown.unwrap_or_else(|error| {
            globals.log.debug(&format!("{id}: {error}"));
            show(&Document { id: id.as_str(), status: "unknown", ..Document::NOTHING })
        })
    };
    found.iter().map(document).collect()
}

/// Names of the host's users by number, as far as its passwd file has them.
fn users() -> BTreeMap<u32, String> {
    let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
    names(&passwd)
}

fn names(passwd: &[u8]) -> BTreeMap<u32, String> {
    let line = |line: &[u8]| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // The first of several names of one number is the one that others show.
    let mut names = BTreeMap::new();
    for (uid, name) in passwd.split(|byte| *byte == b'\n').filter_map(line) {
        names.entry(uid).or_insert(name);
    }
    names
}

fn owner(users: &BTreeMap<u32, String>, uid: u32) -> String {
    users.get(&uid).cloned().unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let users = names(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\nbroken\nweb:x:33:33::/:/bin/sh\n+::-1::\n");
        assert_eq!(owner(&users, 0), "root");
        assert_eq!(owner(&users, 33), "web");
        assert_eq!(owner(&users, 34), "#34");
    }
}

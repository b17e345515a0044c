//! crun's mappings in a mount option: `idmap=uids=0-1-10#10-11-10;gids=@0-100-10`.
//!
//! A mapping is the first id of the file system, the first one of the mount, and how many. With `@` the second one is an id of the
//! container, and the mount has what the user namespace makes of it.
//!
//! Must not: look at other options. Tests: `tests/mounts.rs`; `tests` package, idmaps.

use crate::spec::{Id, IdMapping};

/// User and group ids.
pub(super) type Maps = (Vec<IdMapping>, Vec<IdMapping>);

/// Reads what stands behind `idmap=`; `container`: the mappings of the container's user namespace.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str, container: (&[IdMapping], &[IdMapping])) -> Result<Maps, &'static str> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (own, list, maps) = match (part.strip_prefix("uids="), part.strip_prefix("gids=")) {
            (Some(list), _) => (&mut uids, list, container.0),
            (_, Some(list)) => (&mut gids, list, container.1),
            _ => return Err("has neither uids= nor gids="),
        };
        for mapping in list.split('#').filter(|mapping| !mapping.is_empty()) {
            own.push(one(mapping, maps)?);
        }
    }
    if uids.is_empty() || gids.is_empty() {
        return Err("maps users or groups alone: both have to be mapped");
    }
    Ok((uids, gids))
}

fn one(text: &str, container: &[IdMapping]) -> Result<IdMapping, &'static str> {
    let wrong = "has a mapping that is not ID-ID-COUNT";
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut numbers = numbers.split('-');
    let mut id = || numbers.next().and_then(|number| number.parse::<Id>().ok()).ok_or(wrong);
    let (container_id, mut host_id, size) = (id()?, id()?, id()?.get());
    if numbers.next().is_some() {
        return Err(wrong);
    }
    if relative {
        let outside = |map: &IdMapping| {
            let at = host_id.get().checked_sub(map.container_id.get())?;
            (at.checked_add(size)? <= map.size).then(|| map.host_id.get().checked_add(at)).flatten()
        };
        let found = container.iter().find_map(outside).and_then(Id::new);
        host_id = found.ok_or("has a relative mapping that lies in no range of the user namespace")?;
    }
    Ok(IdMapping { container_id, host_id, size })
}

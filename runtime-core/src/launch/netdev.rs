//! Network devices of the host for a container: moved, renamed, with their addresses, set up; and moved back when it is not made.
//!
//! The specification wants permanent addresses of global scope to stay, and nothing to be moved back when the container ends: a physical
//! device goes back to the host with its namespace, a virtual one ends with it. Routes are not carried over.
//!
//! Must not: enter a namespace itself. Tests: `tests` package, `root/netdevices.rs`.

use super::netlink::{Answer, Body, CREATE, GETADDR, GETLINK, NEWADDR, NEWLINK, Socket};
use super::session::{Session, Setting};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::observe::Watch;
use crate::plan::script::{NetDevice, Open, Planned, Script};
use coracle_init::program::Step;
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const NEWNET: i32 = libc::CLONE_NEWNET;
const UP: u32 = 1;
/// `IFLA_IFNAME`, `IFLA_NET_NS_FD`.
const NAME: u16 = 3;
const NAMESPACE: u16 = 28;
/// `IFA_LABEL`, `IFA_FLAGS`.
const LABEL: u16 = 3;
const FLAGS: u16 = 8;
/// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`, `IFA_RT_PRIORITY`, `IFA_PROTO`: what makes an address what it is.
const KEPT: [u16; 5] = [1, 2, 4, 9, 11];
const PERMANENT: u32 = 0x80;
/// Flags that a new address can be given: nodad, home address, temporary ones managed, no prefix route, autojoin.
const GIVEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;

/// What was moved. Dropped without [`Moved::stay`] everything goes back.
#[derive(Debug)]
pub(crate) struct Moved {
    host: Socket,
    /// Keeps the container's namespace alive, too.
    inside: Socket,
    home: OwnedFd,
    there: OwnedFd,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    name: String,
    /// Index inside.
    index: u32,
    was_up: bool,
    addresses: Vec<Answer>,
}

impl Moved {
    /// Moves all devices into the network namespace of `init`, or the one that was to be joined.
    ///
    /// # Errors
    /// The first device that cannot be moved; those before it are back then.
    pub(crate) fn all(devices: &[Planned<NetDevice>], init: BorrowedFd<'_>) -> Result<Option<Self>> {
        let Some(first) = devices.first() else { return Ok(None) };
        let about = |e: Error| e.at("/linux/netDevices").in_phase(Phase::Namespaces);
        let mut moved = Self::begin(&first.what, init).map_err(about)?;
        for planned in devices {
            moved.take(&planned.what).map_err(|e| e.at(planned.pointer.clone()).in_phase(planned.phase))?;
        }
        Ok(Some(moved))
    }

    /// The container is made: they are its.
    pub(crate) fn stay(mut self) {
        self.devices.clear();
    }

    fn begin(device: &NetDevice, init: BorrowedFd<'_>) -> Result<Self> {
        let own = |what: &'static str| move |e: Errno| Error::os(what, e);
        // Protocol 0 is `NETLINK_ROUTE`.
        let host = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let host = Socket::new(host.map_err(own("open a netlink socket"))?);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let home = open("/proc/thread-self/ns/net", flags, Mode::empty())
            .map_err(own("open the runtime's network namespace"))?;
        let (inside, there) = inside(device, init)?;
        let same =
            |a: &OwnedFd, b: &OwnedFd| -> Result<bool, Errno> { Ok(fstat(a)?.st_ino == fstat(b)?.st_ino) };
        if same(&home, &there).map_err(own("look at a network namespace"))? {
            let text = "move network devices: the container's network namespace is the host's";
            return Err(Error::new(ErrorKind::InvalidSpec, text).with_code("network-namespace-host"));
        }
        Ok(Self { host, inside, home, there, devices: Vec::new() })
    }

    fn take(&mut self, device: &NetDevice) -> Result<()> {
        let NetDevice { name, inside: new, .. } = device;
        let failed = |what: &str| {
            let text = format!("{what} the network device {name}");
            move |e: Errno| refused(&text, e)
        };
        let link = self.host.get(GETLINK, &named(name)).map_err(failed("find"))?;
        let (index, was_up) = (link.word(4), link.word(8) & UP != 0);
        let template = new.contains("%d");
        if !template && self.inside.get(GETLINK, &named(new)).is_ok() {
            let text = format!("move the network device {name}: the container has a device {new} already");
            return Err(Error::new(ErrorKind::InvalidSpec, text).with_code("network-device-exists"));
        }
        let addresses = addresses(&mut self.host, index).map_err(failed("read the addresses of"))?;
        let before = indexes(&mut self.inside).map_err(failed("move"))?;
        let there = self.there.as_raw_fd().to_ne_bytes();
        let body = Body::link(index, 0, UP).with(NAMESPACE, &there).with_text(NAME, new);
        let moving = self.host.change(NEWLINK, 0, &body);
        // The change has parts: a device whose new name is refused is there under its old one.
        let after = indexes(&mut self.inside).map_err(failed("move"))?;
        let mut arrived = after.difference(&before);
        match (arrived.next(), arrived.next()) {
            (Some(index), None) => {
                self.devices.push(Device {
                    name: name.clone(),
                    index: *index,
                    was_up,
                    addresses: addresses.clone(),
                });
            }
            (None, _) => {}
            (Some(_), Some(_)) => {
                let text =
                    format!("move the network device {name}: others appeared in its namespace meanwhile");
                return Err(Error::new(ErrorKind::Kernel, text).with_code("network-device"));
            }
        }
        moving.map_err(failed("move"))?;
        let index = self.devices.last().map_or(0, |device| device.index);
        let renamed = new != name;
        equip(&mut self.inside, index, &addresses, renamed).map_err(failed("give its addresses to"))?;
        up(&mut self.inside, index).map_err(failed("set up"))
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        let home = self.home.as_raw_fd().to_ne_bytes();
        for device in self.devices.drain(..).rev() {
            // Whatever fails here, the failure that led here is the one that is told, and the kernel does what it does with a namespace
            // that ends: physical devices go back.
            let body = Body::link(device.index, 0, UP).with(NAMESPACE, &home).with_text(NAME, &device.name);
            if self.inside.change(NEWLINK, 0, &body).is_err() {
                continue;
            }
            let Ok(link) = self.host.get(GETLINK, &named(&device.name)) else { continue };
            let index = link.word(4);
            let _ = equip(&mut self.host, index, &device.addresses, false);
            if device.was_up {
                let _ = up(&mut self.host, index);
            }
        }
    }
}

/// A socket in the container's network namespace, made by a process that enters it, and the namespace.
fn inside(device: &NetDevice, init: BorrowedFd<'_>) -> Result<(Socket, OwnedFd)> {
    let mut errand = Script::new();
    let fd = errand.open("", Phase::Namespaces, |slot| match &device.joined {
        Some(path) => Open::Namespace { path: path.clone(), nstype: NEWNET, slot },
        None => Open::InitNamespace { nstype: NEWNET, slot },
    })?;
    errand.step("", Phase::Namespaces, Step::JoinNamespace { fd, nstype: NEWNET });
    let (socket, namespace) = (errand.slot()?, errand.slot()?);
    errand.step("", Phase::Namespaces, Step::LendNetwork { socket, namespace });
    errand.step("", Phase::Namespaces, Step::Quit);
    let setting = Setting { init: Some(init), ..Setting::default() };
    let mut socket_fd = None;
    let mut namespace_fd = None;
    for (slot, fd) in Session::begin(errand, setting, &Watch(None))?.lent()? {
        if slot == socket {
            socket_fd = Some(fd);
        } else {
            namespace_fd = Some(fd);
        }
    }
    match (socket_fd, namespace_fd) {
        (Some(socket), Some(namespace)) => Ok((Socket::new(socket), namespace)),
        _ => Err(Error::new(
            ErrorKind::Kernel,
            "enter the container's network namespace: the process was killed",
        )),
    }
}

fn named(name: &str) -> Body {
    Body::link(0, 0, 0).with_text(NAME, name)
}

fn indexes(socket: &mut Socket) -> Result<BTreeSet<u32>, Errno> {
    Ok(socket.list(GETLINK, &Body::link(0, 0, 0))?.iter().map(|link| link.word(4)).collect())
}

/// The flags of an address; the old field has only eight.
fn flags(address: &Answer) -> u32 {
    let long = address.attribute(FLAGS).and_then(|value| value.try_into().ok());
    long.map_or_else(|| address.byte(2).into(), u32::from_ne_bytes)
}

/// Permanent addresses of global scope, of every family.
fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<Answer>, Errno> {
    const UNIVERSE: u8 = 0;
    let all = socket.list(GETADDR, &Body::address(0, 0, 0, 0, 0))?;
    let ours = |a: &Answer| a.word(4) == index && a.byte(3) == UNIVERSE && flags(a) & PERMANENT != 0;
    Ok(all.into_iter().filter(ours).collect())
}

fn equip(socket: &mut Socket, index: u32, addresses: &[Answer], renamed: bool) -> Result<(), Errno> {
    for address in addresses {
        let mut body = Body::address(address.byte(0), address.byte(1), 0, address.byte(3), index)
            .with(FLAGS, &(flags(address) & GIVEN).to_ne_bytes());
        // A label begins with the device's name.
        let label = (!renamed).then_some(LABEL);
        for kind in KEPT.into_iter().chain(label) {
            if let Some(value) = address.attribute(kind) {
                body = body.with(kind, value);
            }
        }
        match socket.change(NEWADDR, CREATE, &body) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn up(socket: &mut Socket, index: u32) -> Result<(), Errno> {
    socket.change(NEWLINK, 0, &Body::link(index, UP, UP))
}

fn refused(what: &str, errno: Errno) -> Error {
    let error = Error::os(what.to_owned(), errno);
    match errno {
        Errno::NODEV => {
            error.with_code("network-device-missing").with_hint("the host has no device of this name")
        }
        Errno::EXIST => {
            error.with_code("network-device-exists").with_hint("the container has a device of this name")
        }
        Errno::INVAL => error
            .with_code("network-device")
            .with_hint("some devices, like lo and bridges, cannot leave their network namespace"),
        Errno::PERM => error
            .with_code("network-device")
            .with_hint("moving network devices needs CAP_NET_ADMIN in the host's network namespace"),
        _ => error.with_code("network-device"),
    }
}

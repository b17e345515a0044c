//! A network namespace that is the host's for one case, with devices to give away.

use crate::bundle;
use crate::harness::T;
use crate::need::Need;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{File, read_link};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// The thread of the case is in a network namespace that nobody else is in, until this is dropped.
#[derive(Debug)]
pub struct NetworkHost {
    home: File,
    /// The namespace.
    pub path: String,
    holder: Child,
}

impl NetworkHost {
    /// Enters one with a pair of devices, `cable0` and `peer0`; skips the case when there cannot be any.
    pub fn new(t: &T) -> Self {
        t.needs(&[Need::Program("ip"), Need::Program("unshare")]);
        let home = File::open("/proc/thread-self/ns/net").expect("own namespace");
        let holder =
            bundle::spawn(Command::new("unshare").args(["--net", "sleep", "1000"])).expect("unshare");
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = read_link("/proc/thread-self/ns/net").expect("own namespace");
        while read_link(&path).expect("the holder waits") == own {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        enter(&File::open(&path).expect("the holder waits"));
        let host = Self { home, path, holder };
        if ip(&["link", "add", "cable0", "type", "veth", "peer", "name", "peer0"]).is_none() {
            drop(host);
            t.skip("needs a kernel with veth devices");
        }
        host
    }
}

impl Drop for NetworkHost {
    fn drop(&mut self) {
        enter(&self.home);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter it");
}

/// `ip` with these words, in the thread's namespace; none when it fails.
pub fn ip(words: &[&str]) -> Option<String> {
    let mut command = Command::new("ip");
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::null());
    let done = bundle::spawn(&mut command).expect("ip").wait_with_output().expect("own child");
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

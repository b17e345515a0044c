//! A small program builder and the parent's half of the protocol, just enough to walk on the running kernel.
#![allow(
    dead_code,
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by several test files; clone3 and raw descriptors have no safe form"
)]

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use coracle_init::program::{Bytes, HEADER_LEN, Header, STEP_LEN, Slot, Step, Str, StrList};
use coracle_init::wire::{Kind, LEN, Message};
use coracle_init::{Memory, walk};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

#[derive(Default)]
pub struct Program {
    steps: Vec<Step>,
    bytes: Vec<u8>,
    pub slots: Vec<RawFd>,
    keep: Vec<OwnedFd>,
    extra: Vec<RawFd>,
}

impl Program {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        while self.bytes.len() % 8 != 0 {
            self.bytes.push(0);
        }
        let off = HEADER_LEN + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        u32::try_from(off).unwrap()
    }

    pub fn str(&mut self, text: impl AsRef<[u8]>) -> Str {
        let text = text.as_ref();
        let off = self.put(text);
        self.bytes.push(0);
        Str { off, len: u32::try_from(text.len()).unwrap() }
    }

    pub fn list(&mut self, items: &[&str]) -> StrList {
        let items: Vec<Str> = items.iter().map(|item| self.str(item)).collect();
        let bytes: Vec<u8> =
            items.iter().flat_map(|s| [s.off.to_ne_bytes(), s.len.to_ne_bytes()]).flatten().collect();
        StrList { off: self.put(&bytes), count: u32::try_from(items.len()).unwrap() }
    }

    pub fn raw(&mut self, bytes: &[u8]) -> Bytes {
        Bytes { off: self.put(bytes), len: u32::try_from(bytes.len()).unwrap() }
    }

    pub fn slot(&mut self) -> Slot {
        self.slots.push(-1);
        Slot(u16::try_from(self.slots.len() - 1).unwrap())
    }

    pub fn fd(&mut self, fd: impl Into<OwnedFd>) -> Slot {
        let fd = fd.into();
        let slot = self.slot();
        *self.slots.last_mut().unwrap() = fd.as_raw_fd();
        self.keep.push(fd);
        slot
    }

    /// A descriptor that stays open without a slot.
    pub fn keep(&mut self, fd: RawFd) {
        self.extra.push(fd);
    }

    fn arena(&self) -> Vec<u8> {
        let steps_at = (HEADER_LEN + self.bytes.len()).next_multiple_of(8);
        let header = Header {
            total: u32::try_from(steps_at + STEP_LEN * self.steps.len()).unwrap(),
            steps_at: u32::try_from(steps_at).unwrap(),
            steps: u32::try_from(self.steps.len()).unwrap(),
            slots: u32::try_from(self.slots.len()).unwrap(),
            words: 256,
        };
        let mut arena = header.encode().to_vec();
        arena.extend(&self.bytes);
        arena.resize(steps_at, 0);
        for (index, step) in self.steps.iter().enumerate() {
            let (op, words) = step.encode();
            arena.extend(op.to_ne_bytes());
            arena.extend(u32::try_from(index).unwrap().to_ne_bytes());
            arena.extend(words.iter().flat_map(|w| w.to_ne_bytes()));
        }
        arena
    }

    /// The two steps that end every program: run `argv` with `env`.
    pub fn exec(&mut self, argv: &[&str], env: &[&str]) -> &mut Self {
        let candidates = self.list(&argv[..1]);
        let argv = self.list(argv);
        let env = self.list(env);
        self.step(Step::FindProgram { candidates, uid: 0, home: false })
            .step(Step::ResetSignals)
            .step(Step::CloseDescriptors { from_keep: 3, from: 3 })
            .step(Step::Exec { argv, env })
    }

    /// Clones with `flags`; the child walks.
    pub fn start(mut self, flags: u64) -> Child {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (output, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = File::open("/dev/null").unwrap();
        let arena = self.arena();
        let mut words = [0_usize; 256];
        let mut kept: Vec<RawFd> = self.slots.iter().copied().filter(|fd| *fd >= 0).collect();
        kept.extend(&self.extra);
        kept.extend([0, 1, 2, theirs.as_raw_fd()]);
        kept.sort_unstable();
        let mut args = [0_u64; 11];
        let mut pidfd = -1_i32;
        args[0] = flags | libc::CLONE_PIDFD as u64;
        args[1] = &raw mut pidfd as u64;
        let (stdout_fd, null_fd, report) = (stdout.as_raw_fd(), null.as_raw_fd(), theirs.as_raw_fd());
        let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), 88) };
        assert!(pid >= 0, "clone3: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // No allocation from here on: other threads may hold the allocator's lock.
            unsafe {
                libc::dup2(null_fd, 0);
                libc::dup2(stdout_fd, 1);
                libc::dup2(stdout_fd, 2);
            }
            walk(
                &arena,
                Memory {
                    slots: &mut self.slots,
                    words: &mut words,
                    report,
                    kept: &kept,
                    spare_stack: None,
                    spare_tree: None,
                },
            );
        }
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Child { pid: i32::try_from(pid).unwrap(), pidfd, report: ours, output }
    }

    /// Starts, expects the exec to happen, and returns what it wrote and its wait status.
    pub fn output(self, flags: u64) -> (String, i32) {
        let child = self.start(flags);
        child.finish()
    }

    /// Starts and expects a failure.
    pub fn failure(self, flags: u64) -> Message {
        let child = self.start(flags);
        let (message, _) = child.receive().expect("a message before the end of file");
        assert_eq!(message.kind, Kind::Failed, "{message:?}");
        assert_eq!(child.wait(), 1 << 8);
        message
    }
}

pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub report: OwnedFd,
    pub output: OwnedFd,
}

impl Child {
    pub fn receive(&self) -> Option<(Message, Vec<OwnedFd>)> {
        receive(&self.report)
    }

    pub fn expect(&self, kind: Kind) -> Vec<OwnedFd> {
        let (message, fds) = self.receive().unwrap_or_else(|| panic!("{kind:?} expected, not the end"));
        assert_eq!(message.kind, kind, "{message:?} {}", String::from_utf8_lossy(&message.detail));
        fds
    }

    pub fn send(&self, kind: Kind, fds: &[RawFd]) {
        send(&self.report, &Message::plain(kind).encode(), fds);
    }

    pub fn wait(&self) -> i32 {
        wait(self.pid)
    }

    pub fn finish(self) -> (String, i32) {
        match self.receive() {
            None => {}
            Some((m, _)) => panic!("{m:?} {}", String::from_utf8_lossy(&m.detail)),
        }
        let mut text = String::new();
        File::from(self.output).read_to_string(&mut text).unwrap();
        (text, wait(self.pid))
    }
}

pub fn wait(pid: i32) -> i32 {
    let mut status = 0;
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    assert_eq!(got, pid, "{}", std::io::Error::last_os_error());
    status
}

pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[RawFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(|fd| unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) }).collect();
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    }
    sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

pub fn receive(socket: impl AsFd) -> Option<(Message, Vec<OwnedFd>)> {
    let mut bytes = [0_u8; LEN + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut vector = [std::io::IoSliceMut::new(&mut bytes)];
    let got = recvmsg(socket, &mut vector, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return None;
    }
    Some((Message::decode(&bytes[..got.bytes]).unwrap(), fds))
}

pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn short_sleep() {
    std::thread::sleep(Duration::from_millis(30));
}

pub fn leak(fd: OwnedFd) -> RawFd {
    fd.into_raw_fd()
}

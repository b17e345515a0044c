//! Messages with descriptors.

use libc::c_void;
use rustix::io::Errno;

use super::{Fd, at, at_mut, call, fd_arg, plain};

/// socket(AF_UNIX, SOCK_DGRAM): enough for an ioctl about interfaces, and there in every kernel that can run a gate.
pub(crate) fn unix_socket() -> Result<Fd, Errno> {
    let kind = fd_arg(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    Fd::answered(plain(libc::SYS_socket, [fd_arg(libc::AF_UNIX), kind, 0, 0, 0, 0]))
}

/// socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) in the network namespace of this thread.
pub(crate) fn route_socket() -> Result<Fd, Errno> {
    let kind = fd_arg(libc::SOCK_RAW | libc::SOCK_CLOEXEC);
    Fd::answered(plain(libc::SYS_socket, [fd_arg(libc::AF_NETLINK), kind, 0, 0, 0, 0]))
}

/// Words of a control buffer: header and 253 descriptors.
const CONTROL: usize = 129;
const SCM_HEADER: usize = 16;

/// `struct iovec`, `struct msghdr` of 64-bit Linux, where all lengths are words.
#[repr(C)]
struct Vector {
    base: usize,
    len: usize,
}
#[repr(C)]
struct Header {
    name: usize,
    name_len: u32,
    vector: *const Vector,
    vectors: usize,
    control: *mut c_void,
    control_len: usize,
    flags: i32,
}

/// sendmsg(2) of `bytes` with one descriptor, without SIGPIPE.
pub(crate) fn send_with_fd(socket: i32, bytes: &[u8], fd: i32) -> Result<usize, Errno> {
    // cmsg_len, then level and type, then the descriptor and padding.
    let rights = pair(libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let mut control = [SCM_HEADER.wrapping_add(4), rights, pair(fd, 0)];
    let vector = Vector { base: at(bytes), len: bytes.len() };
    let header = Header {
        name: 0,
        name_len: 0,
        vector: &raw const vector,
        vectors: 1,
        control: (&raw mut control).cast(),
        control_len: size_of_val(&control),
        flags: 0,
    };
    // SAFETY: the header, its vector, bytes and control data are alive and only read.
    unsafe { call(libc::SYS_sendmsg, [fd_arg(socket), at(&header), fd_arg(libc::MSG_NOSIGNAL), 0, 0, 0]) }
}

fn pair(low: i32, high: i32) -> usize {
    let [a, b, c, d] = low.to_ne_bytes();
    let [e, f, g, h] = high.to_ne_bytes();
    usize::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn unpair(word: usize) -> [i32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])]
}

/// What [`receive`] got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes of the message.
    pub(crate) bytes: usize,
    /// Descriptors that came with it, close-on-exec.
    pub(crate) fds: usize,
    /// The message or its descriptors were longer than the room for them.
    pub(crate) cut: bool,
}

/// recvmsg(2) of one message and its descriptors.
pub(crate) fn receive(socket: i32, bytes: &mut [u8], fds: &mut [i32]) -> Result<Received, Errno> {
    let mut control = [0_usize; CONTROL];
    let vector = Vector { base: at_mut(bytes), len: bytes.len() };
    let mut header = Header {
        name: 0,
        name_len: 0,
        vector: &raw const vector,
        vectors: 1,
        control: (&raw mut control).cast(),
        control_len: size_of_val(&control),
        flags: 0,
    };
    let flags = fd_arg(libc::MSG_CMSG_CLOEXEC);
    // SAFETY: the kernel writes to `bytes`, `control` and `header`, not beyond the lengths given.
    let len = unsafe { call(libc::SYS_recvmsg, [fd_arg(socket), at_mut(&mut header), flags, 0, 0, 0]) }?;
    let mut count = 0_usize;
    let [cmsg_len, kind, data @ ..] = &control;
    if header.control_len >= SCM_HEADER && *kind == pair(libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        count = cmsg_len.wrapping_sub(SCM_HEADER).wrapping_shr(2);
        for (place, fd) in fds.iter_mut().zip(data.iter().flat_map(|word| unpair(*word)).take(count)) {
            *place = fd;
        }
    }
    let cut = header.flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 || count > fds.len();
    Ok(Received { bytes: len, fds: count.min(fds.len()), cut })
}

//! Datagrams, many in one system call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::Token;
use crate::driver::{DatagramBatch, DatagramEntry};
use crate::raw_address::RawAddress;

/// A datagram of UDP cannot be longer.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Room for one IPv4 or IPv6 packet-info message.
const CONTROL_BYTES: usize = 64;

/// A UDP socket of an engine.
pub(crate) struct DatagramSocket {
    pub(crate) fd: OwnedFd,
    pub(crate) token: Token,
    pub(crate) address: SocketAddr,
}

/// Control messages want the alignment of their header.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Reads up to a batch of datagrams; none if nothing waits or the socket has an error, which it then forgets.
pub(crate) fn receive(fd: &OwnedFd, batch: &mut DatagramBatch) {
    const COUNT: usize = DatagramBatch::CAPACITY;
    batch.entries.clear();
    // Zeroed once and reused: the kernel's pages of it are touched only as far as datagrams are long.
    batch.bytes.resize(COUNT * DATAGRAM_BYTES_MAX, 0);
    let mut addresses = [RawAddress::empty(); COUNT];
    let mut controls = [Control([0; CONTROL_BYTES]); COUNT];
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; COUNT];
    // SAFETY: a message header is numbers and pointers, for which all zeroes are valid.
    let mut messages: [libc::mmsghdr; COUNT] = unsafe { std::mem::zeroed() };
    for (position, chunk) in batch.bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX).enumerate() {
        vectors[position] = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: chunk.len() };
        let header = &mut messages[position].msg_hdr;
        let (name, _) = addresses[position].as_mut_ptr();
        header.msg_name = name.cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &mut vectors[position];
        header.msg_iovlen = 1;
        header.msg_control = controls[position].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES;
    }
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: every header points at buffers of this frame or of `batch`, with their true lengths; all outlive
    // the call.
    let received = unsafe {
        libc::recvmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), COUNT as u32, flags, std::ptr::null_mut())
    };
    for position in 0..usize::try_from(received).unwrap_or(0) {
        let message = &messages[position];
        addresses[position].set_len(message.msg_hdr.msg_namelen);
        let Some(peer) = addresses[position].to_inet() else { continue };
        batch.entries.push(DatagramEntry {
            peer,
            local: local_address(&message.msg_hdr),
            start: position * DATAGRAM_BYTES_MAX,
            len: (message.msg_len as usize).min(DATAGRAM_BYTES_MAX),
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
}

/// The packet-info message of a received datagram.
fn local_address(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel filled `header`; its control buffer is alive and as long as it says.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header inside the control buffer.
        let found = unsafe { message.read_unaligned() };
        // SAFETY: as above; the data follows the header within the same buffer.
        let data = unsafe { libc::CMSG_DATA(message) };
        match (found.cmsg_level, found.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel puts an in_pktinfo behind a header of this level and type (ip(7)).
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the kernel puts an in6_pktinfo behind a header of this level and type (ipv6(7)).
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
            }
            _ => {}
        }
        // SAFETY: `message` is a header of this control buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Sends a batch; returns how many datagrams the kernel took.
pub(crate) fn send(fd: &OwnedFd, batch: &DatagramBatch) -> usize {
    let mut sent = 0;
    while sent < batch.entries.len() {
        let some = &batch.entries[sent..batch.entries.len().min(sent + DatagramBatch::CAPACITY)];
        match send_some(fd, some, &batch.bytes) {
            0 => break,
            count => sent += count,
        }
    }
    sent
}

fn send_some(fd: &OwnedFd, entries: &[DatagramEntry], bytes: &[u8]) -> usize {
    const COUNT: usize = DatagramBatch::CAPACITY;
    let mut addresses = [RawAddress::empty(); COUNT];
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; COUNT];
    // SAFETY: a message header is numbers and pointers, for which all zeroes are valid.
    let mut messages: [libc::mmsghdr; COUNT] = unsafe { std::mem::zeroed() };
    for (position, entry) in entries.iter().enumerate() {
        addresses[position] = RawAddress::inet(entry.peer);
        let datagram = &bytes[entry.start..entry.start + entry.len];
        vectors[position] =
            libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        let header = &mut messages[position].msg_hdr;
        let (name, length) = addresses[position].as_ptr();
        header.msg_name = name.cast_mut().cast();
        header.msg_namelen = length;
        header.msg_iov = &mut vectors[position];
        header.msg_iovlen = 1;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: every header points at buffers of this frame or of `bytes`, with their true lengths; all outlive
    // the call, and sending writes to none of them.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), entries.len() as u32, flags) };
    usize::try_from(sent).unwrap_or(0)
}

//! A connection between two processes that carries messages, and descriptors with them.
//!
//! A sequenced-packet Unix socket: messages keep their bounds and come whole or not at all, so that no partial send
//! can tear descriptors from the bytes that name them. Source: unix(7), `SCM_RIGHTS`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::ProcessHandle;
use crate::SocketAddress;
use crate::raw_address::RawAddress;
use crate::sys::{self, check, check_size, retry};

/// The most bytes of one message; well below what a Unix socket takes with the usual `net.core.wmem_default` (208 KiB).
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The most descriptors of one message: the kernel's SCM_MAX_FD.
pub const DESCRIPTORS_MAX: usize = 253;

/// Bytes of the control message that holds so many descriptors.
const fn control_bytes(descriptors: usize) -> usize {
    // SAFETY: it only computes, and does so from a number.
    unsafe { libc::CMSG_SPACE((descriptors * size_of::<RawFd>()) as u32) as usize }
}

/// Control messages want the alignment of their header.
#[repr(C, align(8))]
struct Control([u8; control_bytes(DESCRIPTORS_MAX)]);

/// A message, as it was received. Descriptors that nobody takes out of it are closed with it.
#[derive(Debug, Default)]
pub struct Message {
    /// Its bytes; never empty.
    pub bytes: Vec<u8>,
    /// Its descriptors, in the order in which they were sent; close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Who is at the other end of a [`Channel`]: for the side that was dialled, who dialled; for the side that dialled, who
/// listened. As it was at that moment (SO_PEERCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl PeerCredentials {
    /// Whether it is a process of the user that this one runs as.
    pub fn is_this_user(&self) -> bool {
        // SAFETY: no pointers; it cannot fail.
        self.uid == unsafe { libc::geteuid() }
    }
}

/// One end. It never blocks: [`wait`](super::wait) for it, or register it with an event loop.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// Where one process waits for the other to dial.
#[derive(Debug)]
pub struct ChannelListener {
    fd: OwnedFd,
}

impl ChannelListener {
    /// Listens at a path, which must not exist. Whoever may write to the file may dial: put it into a directory that
    /// only its owner may enter, and look at [`Channel::peer`] all the same.
    ///
    /// # Errors
    /// EADDRINUSE if the path exists; what `bind` and `chmod` say.
    pub fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let fd = sys::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET)?;
        sys::bind(fd.as_fd(), &RawAddress::new(&SocketAddress::unix(path))?)?;
        // Before `listen`: nobody can connect to a socket that does not listen yet.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        sys::listen(fd.as_fd(), 4)?;
        Ok(Self { fd })
    }

    /// Who dialled, if somebody did.
    ///
    /// # Errors
    /// `WouldBlock` if nobody waits; EMFILE when out of descriptors.
    pub fn accept(&self) -> io::Result<Channel> {
        retry(|| sys::accept(self.fd.as_fd())).map(|(fd, _)| Channel { fd })
    }
}

impl AsFd for ChannelListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Channel {
    /// Dials.
    ///
    /// # Errors
    /// ENOENT or ECONNREFUSED if nobody listens there (any more).
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = sys::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET)?;
        sys::connect(fd.as_fd(), &RawAddress::new(&SocketAddress::unix(path))?)?;
        Ok(Self { fd })
    }

    /// An end that another process had, and passed on.
    ///
    /// # Errors
    /// `InvalidInput` if it is none.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Self> {
        let option = |name| sys::get_option(fd.as_fd(), libc::SOL_SOCKET, name);
        let is_channel = option(libc::SO_DOMAIN)? == libc::AF_UNIX
            && option(libc::SO_TYPE)? == libc::SOCK_SEQPACKET
            && option(libc::SO_ACCEPTCONN)? == 0;
        match is_channel {
            true => Ok(Self { fd }),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an end of a channel")),
        }
    }

    /// Both ends of a channel within this process.
    ///
    /// # Errors
    /// EMFILE when out of descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut fds: [RawFd; 2] = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: `fds` has room for the two descriptors.
        check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
        Ok((Self { fd: sys::owned(fds[0]) }, Self { fd: sys::owned(fds[1]) }))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// None on a connected channel.
    pub fn peer(&self) -> io::Result<PeerCredentials> {
        let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        let pointer: *mut libc::ucred = &mut found;
        // SAFETY: `pointer` is valid for the bytes of a `ucred` that `length` announces.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                pointer.cast(),
                &mut length,
            )
        };
        check(result)?;
        // The kernel says 0 for a process that this one cannot see (another PID namespace).
        Ok(PeerCredentials { pid: u32::try_from(found.pid).unwrap_or(0), uid: found.uid, gid: found.gid })
    }

    /// A handle to the process at the other end, by which its death is noticed. An end of the channel alone does not
    /// prove it: a process may close the channel and live on.
    ///
    /// # Errors
    /// ESRCH if it has ended and was waited for; ENOSYS before Linux 5.3.
    pub fn peer_process(&self) -> io::Result<ProcessHandle> {
        let pid = self.peer()?.pid;
        // Linux 6.5 gives a handle that cannot name a later process of the same number.
        match sys::get_option(self.fd.as_fd(), libc::SOL_SOCKET, SO_PEERPIDFD) {
            // SAFETY: the kernel made this descriptor for this call; nobody else has it.
            Ok(fd) => Ok(ProcessHandle::new(unsafe { OwnedFd::from_raw_fd(fd) }, pid)),
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => ProcessHandle::open(pid),
            Err(error) => Err(error),
        }
    }

    /// Sends a message whole, with copies of the descriptors.
    ///
    /// # Errors
    /// - `WouldBlock`: the other end has not taken enough of what was sent before. Nothing was sent.
    /// - ETOOMANYREFS: more descriptors are under way than this user may have open. Nothing was sent; wait until the
    ///   other end has taken some.
    /// - `InvalidInput`: empty, or over [`MESSAGE_BYTES_MAX`] or [`DESCRIPTORS_MAX`].
    /// - `BrokenPipe`, `ConnectionReset`: the other end is gone.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a message has 1 to 65536 bytes and at most 253 descriptors",
            ));
        }
        let mut control = Control([0; control_bytes(DESCRIPTORS_MAX)]);
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut header = empty_header();
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = control_bytes(descriptors.len());
            write_descriptors(&header, descriptors);
        }
        let sent = retry(|| {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: the header points at `bytes` and `control` with their true lengths; both outlive the call, which
            // writes to neither.
            check_size(unsafe { libc::sendmsg(self.fd.as_raw_fd(), &header, flags) })
        })?;
        assert_eq!(sent, bytes.len(), "a packet socket sends whole messages");
        Ok(())
    }

    /// Receives one message into `message`, whose earlier bytes and descriptors are dropped. `false`: the other end is
    /// gone and nothing will come any more.
    ///
    /// # Errors
    /// - `WouldBlock`: nothing waits.
    /// - `InvalidData`: it was longer than [`MESSAGE_BYTES_MAX`], or this process has not enough descriptors left for
    ///   those that came with it. The message is lost, and what came of it is closed: the hand-over has failed.
    pub fn receive(&self, message: &mut Message) -> io::Result<bool> {
        message.descriptors.clear();
        message.bytes.resize(MESSAGE_BYTES_MAX, 0);
        let mut control = Control([0; control_bytes(DESCRIPTORS_MAX)]);
        let mut vector =
            libc::iovec { iov_base: message.bytes.as_mut_ptr().cast(), iov_len: message.bytes.len() };
        let mut header = empty_header();
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let received = retry(|| {
            let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
            // SAFETY: the header points at the buffers of `message` and `control` with their true lengths; both
            // outlive the call.
            check_size(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut header, flags) })
        });
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                message.bytes.clear();
                return Err(error);
            }
        };
        message.bytes.truncate(received);
        take_descriptors(&header, &mut message.descriptors);
        let lost = match header.msg_flags {
            flags if flags & libc::MSG_CTRUNC != 0 => Some("descriptors were lost: too many are open here"),
            flags if flags & libc::MSG_TRUNC != 0 => Some("a message is longer than messages are"),
            _ => None,
        };
        if let Some(reason) = lost {
            message.bytes.clear();
            message.descriptors.clear();
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(received > 0)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `SO_PEERPIDFD`, which not every libc names yet. Source: `include/uapi/asm-generic/socket.h`.
const SO_PEERPIDFD: i32 = 77;

fn empty_header() -> libc::msghdr {
    // SAFETY: a message header is numbers and pointers, for which all zeroes are valid.
    unsafe { std::mem::zeroed() }
}

/// Fills the control buffer of a header, which has room for exactly these descriptors.
fn write_descriptors(header: &libc::msghdr, descriptors: &[BorrowedFd<'_>]) {
    let bytes = size_of::<RawFd>() * descriptors.len();
    // SAFETY: the header's control buffer is alive, aligned, and as long as it says.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    assert!(!first.is_null(), "the buffer has room for a header");
    let found = libc::cmsghdr {
        // SAFETY: it only computes.
        cmsg_len: unsafe { libc::CMSG_LEN(bytes as u32) } as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: `first` is the place of a header within the control buffer, which is aligned for one.
    unsafe { first.write(found) };
    // SAFETY: the data follows the header within the same buffer, which was made for so many descriptors.
    let data = unsafe { libc::CMSG_DATA(first) };
    for (position, fd) in descriptors.iter().enumerate() {
        // SAFETY: the data has room for all descriptors, of which this is one.
        let place = unsafe { data.cast::<RawFd>().add(position) };
        // SAFETY: as above; the place may be unaligned for what the type system knows.
        unsafe { place.write_unaligned(fd.as_raw_fd()) };
    }
}

/// Takes every descriptor that came with a message, so that none is lost whatever is made of it.
fn take_descriptors(header: &libc::msghdr, descriptors: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel filled `header`; its control buffer is alive and as long as it says.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header inside the control buffer.
        let found = unsafe { message.read_unaligned() };
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: it only computes.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (found.cmsg_len as usize).saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: the data follows the header within the control buffer.
            let data = unsafe { libc::CMSG_DATA(message) };
            for position in 0..count {
                // SAFETY: the kernel wrote `count` descriptors from here on.
                let place = unsafe { data.cast::<RawFd>().add(position) };
                // SAFETY: as above; the place may be unaligned for what the type system knows.
                descriptors.push(sys::owned(unsafe { place.read_unaligned() }));
            }
        }
        // SAFETY: `message` is a header of this control buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    fn receive(channel: &Channel) -> Message {
        let mut message = Message::default();
        assert!(channel.receive(&mut message).expect("a message that waits"));
        message
    }

    #[test]
    fn a_message_brings_its_bytes_and_its_descriptors_in_order() {
        let (one, other) = Channel::pair().expect("a pair");
        let (reads, writes): (Vec<_>, Vec<_>) =
            (0..DESCRIPTORS_MAX).map(|_| sys::pipe().expect("a pipe")).unzip();
        let borrowed: Vec<_> = writes.iter().map(AsFd::as_fd).collect();
        let bytes = vec![7; MESSAGE_BYTES_MAX];
        one.send(&bytes, &borrowed).expect("to send");
        one.send(b"and another", &[]).expect("to send");
        let message = receive(&other);
        assert_eq!(message.bytes, bytes);
        assert_eq!(message.descriptors.len(), DESCRIPTORS_MAX);
        for (position, (read, write)) in reads.into_iter().zip(message.descriptors).enumerate() {
            File::from(write).write_all(&[position as u8]).expect("to write");
            let mut got = [0; 1];
            File::from(read).read_exact(&mut got).expect("to read");
            assert_eq!(got[0], position as u8);
        }
        assert_eq!(receive(&other).bytes, b"and another");
    }

    #[test]
    fn descriptors_that_nobody_takes_are_closed_with_their_message() {
        let (one, other) = Channel::pair().expect("a pair");
        let (read, write) = sys::pipe().expect("a pipe");
        one.send(b"x", &[write.as_fd()]).expect("to send");
        drop(write);
        let message = receive(&other);
        let nothing = sys::read(read.as_fd(), &mut [0; 1]).expect_err("somebody may still write");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(message);
        assert_eq!(sys::read(read.as_fd(), &mut [0; 1]).expect("the end"), 0);
    }

    #[test]
    fn descriptors_of_a_message_that_nobody_received_are_closed_with_the_channel() {
        let (one, other) = Channel::pair().expect("a pair");
        let (read, write) = sys::pipe().expect("a pipe");
        one.send(b"x", &[write.as_fd()]).expect("to send");
        drop((write, other));
        assert_eq!(sys::read(read.as_fd(), &mut [0; 1]).expect("the end"), 0);
    }

    #[test]
    fn received_descriptors_are_closed_on_exec() {
        let (one, other) = Channel::pair().expect("a pair");
        one.send(b"x", &[one.as_fd()]).expect("to send");
        let message = receive(&other);
        // SAFETY: no pointers.
        let flags = unsafe { libc::fcntl(message.descriptors[0].as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }

    #[test]
    fn a_full_channel_takes_nothing_more_and_loses_nothing() {
        let (one, other) = Channel::pair().expect("a pair");
        let mut sent = 0_u32;
        loop {
            let mut bytes = vec![0; MESSAGE_BYTES_MAX];
            bytes[..4].copy_from_slice(&sent.to_le_bytes());
            match one.send(&bytes, &[one.as_fd()]) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(sent > 0);
        for number in 0..sent {
            let message = receive(&other);
            assert_eq!(message.bytes.len(), MESSAGE_BYTES_MAX);
            assert_eq!(message.bytes[..4], number.to_le_bytes());
            assert_eq!(message.descriptors.len(), 1);
        }
        let nothing = other.receive(&mut Message::default()).expect_err("nothing waits");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (one, _other) = Channel::pair().expect("a pair");
        for bytes in [&[][..], &[0; MESSAGE_BYTES_MAX + 1]] {
            let error = one.send(bytes, &[]).expect_err("no message");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let many = vec![one.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(one.send(b"x", &many).expect_err("too many").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_end_that_is_passed_on_goes_on_and_what_is_none_is_refused() {
        let (one, other) = Channel::pair().expect("a pair");
        let copy = other.as_fd().try_clone_to_owned().expect("a copy");
        drop(other);
        let other = Channel::from_descriptor(copy).expect("it is one");
        one.send(b"word", &[]).expect("to send");
        assert_eq!(receive(&other).bytes, b"word");
        let stream = std::os::unix::net::UnixStream::pair().expect("a pair").0;
        for none in [OwnedFd::from(stream), std::fs::File::open("/dev/null").expect("it is there").into()] {
            assert!(Channel::from_descriptor(none).is_err());
        }
    }

    #[test]
    fn an_end_is_told_to_the_other() {
        let (one, other) = Channel::pair().expect("a pair");
        one.send(b"last", &[]).expect("to send");
        drop(one);
        let mut message = Message::default();
        assert!(other.receive(&mut message).expect("what was sent before"));
        assert!(!other.receive(&mut message).expect("the end"));
        assert!(other.send(b"x", &[]).is_err());
    }

    #[test]
    fn who_dialled_and_who_listens_know_each_other() {
        let path = std::env::temp_dir().join(format!("ringway-channel-{}.sock", std::process::id()));
        let listener = ChannelListener::bind(&path).expect("a path");
        assert_eq!(listener.accept().expect_err("nobody").kind(), io::ErrorKind::WouldBlock);
        let dialled = Channel::connect(&path).expect("somebody listens");
        let accepted = listener.accept().expect("who dialled");
        std::fs::remove_file(&path).expect("the socket's file");
        for channel in [&dialled, &accepted] {
            let peer = channel.peer().expect("a peer");
            assert_eq!(peer.pid, std::process::id());
            assert!(peer.is_this_user());
            let process = channel.peer_process().expect("a process");
            assert_eq!(process.pid(), std::process::id());
            assert!(!process.has_ended());
        }
    }
}

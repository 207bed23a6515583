//! System calls as safe functions: each wraps one call, retries EINTR and turns -1 into an [`io::Error`].
//!
//! Nothing here decides anything. Socket addresses are in `raw_address`, datagrams in `udp`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::SocketAddress;
use crate::raw_address::RawAddress;

/// Turns the -1 of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted: profilers send many.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

pub(crate) fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: `fd` was returned by the system call just made, which gave it to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Raises the soft limit of descriptors (RLIMIT_NOFILE) to the hard one. Returns `(soft before, soft now)`.
///
/// # Errors
/// When the kernel refuses, which it does not for an ordinary process.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let before = limit.rlim_cur;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit for the kernel to read.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok((before, limit.rlim_cur))
}

/// How many descriptors this process has open; 0 where that cannot be told (no `/proc`).
pub fn open_descriptors() -> u32 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |open| u32::try_from(open.count()).unwrap_or(u32::MAX))
}

/// Makes room for so many descriptors at once, as far as the soft limit allows.
///
/// The kernel doubles the table of a process when it is full, and where threads share it, waits each time until no thread
/// can be looking at the old one (`expand_fdtable`, `synchronize_rcu`): some milliseconds, in the middle of whatever needs a
/// descriptor. In a process of one thread it costs nothing but the memory, 8 bytes a descriptor.
///
/// # Errors
/// EMFILE or ENOMEM.
pub fn reserve_descriptors(count: u32) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let last = i32::try_from(u64::from(count).min(limit.rlim_cur.saturating_sub(1))).unwrap_or(i32::MAX);
    let some = event_fd()?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(some.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last) }).map(owned).map(drop)
}

pub(crate) fn socket(domain: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::socket(domain, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) }).map(owned)
}

pub(crate) fn bind(fd: BorrowedFd<'_>, address: &RawAddress) -> io::Result<()> {
    let (pointer, length) = address.as_ptr();
    // SAFETY: `pointer` is valid for `length` bytes while `address` is borrowed.
    check(unsafe { libc::bind(fd.as_raw_fd(), pointer, length) }).map(drop)
}

pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), i32::try_from(backlog).unwrap_or(i32::MAX)) }).map(drop)
}

/// Starts a non-blocking connect: `Ok(true)` established, `Ok(false)` under way.
pub(crate) fn connect(fd: BorrowedFd<'_>, address: &RawAddress) -> io::Result<bool> {
    let (pointer, length) = address.as_ptr();
    // SAFETY: `pointer` is valid for `length` bytes while `address` is borrowed.
    match check(unsafe { libc::connect(fd.as_raw_fd(), pointer, length) }) {
        Ok(_) => Ok(true),
        // An interrupted connect goes on by itself, as one that is under way.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a socket that was told to connect already is. Asks for the peer's name, which only such a socket has.
pub(crate) fn is_connected(fd: BorrowedFd<'_>) -> bool {
    let mut address = RawAddress::empty();
    let (pointer, length) = address.as_mut_ptr();
    // SAFETY: `pointer` and `length` describe the storage of `address`, borrowed for the call.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), pointer, length) }).is_ok()
}

pub(crate) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddress> {
    let mut address = RawAddress::empty();
    let (pointer, length) = address.as_mut_ptr();
    // SAFETY: `pointer` and `length` describe the storage of `address`, borrowed for the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), pointer, length) })?;
    Ok(address.to_address())
}

pub(crate) fn peer_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddress> {
    let mut address = RawAddress::empty();
    let (pointer, length) = address.as_mut_ptr();
    // SAFETY: `pointer` and `length` describe the storage of `address`, borrowed for the call.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), pointer, length) })?;
    Ok(address.to_address())
}

pub(crate) fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddress)> {
    let mut address = RawAddress::empty();
    let (pointer, length) = address.as_mut_ptr();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `pointer` and `length` describe the storage of `address`, borrowed for the call.
    let accepted = check(unsafe { libc::accept4(fd.as_raw_fd(), pointer, length, flags) })?;
    Ok((owned(accepted), address.to_address()))
}

pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option_bytes(fd, level, name, &value.to_ne_bytes())
}

pub(crate) fn set_option_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for `length` bytes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) }).map(drop)
}

pub(crate) fn get_option(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: i32 = 0;
    let mut length: libc::socklen_t = 4;
    let pointer: *mut i32 = &mut value;
    // SAFETY: `pointer` is valid for the four bytes that `length` announces.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, pointer.cast(), &mut length) })?;
    Ok(value)
}

/// Makes sure that a descriptor from outside is a stream socket that never blocks. Says whether it listens.
///
/// O_NONBLOCK belongs to the socket and not to the descriptor: whoever else holds it sees it too.
pub(crate) fn check_stream(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = get_option(fd, libc::SOL_SOCKET, libc::SO_TYPE)?;
    if kind != libc::SOCK_STREAM {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a stream socket"));
    }
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: no pointers.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(get_option(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}

/// Has a descriptor closed when another program is executed.
pub(crate) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}

/// Nanoseconds of CLOCK_MONOTONIC: since the machine started, the same for all its processes.
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    debug_assert_eq!(result, 0, "every Linux has this clock");
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: no pointers; any number may be asked for.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// Takes the pending error of a socket (SO_ERROR), if it has one.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> Option<io::Error> {
    match get_option(fd, libc::SOL_SOCKET, libc::SO_ERROR) {
        Ok(0) => None,
        Ok(code) => Some(io::Error::from_raw_os_error(code)),
        Err(error) => Some(error),
    }
}

/// Makes the next close send RST (SO_LINGER on, zero seconds).
pub(crate) fn set_abortive(fd: BorrowedFd<'_>) {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&1_i32.to_ne_bytes());
    // A socket that cannot linger (Unix) has no RST to send either.
    let _ = set_option_bytes(fd, libc::SOL_SOCKET, libc::SO_LINGER, &value);
}

/// Ends a connection whose socket somebody else may hold too, so that closing this descriptor would tell the other end
/// nothing: FIN at once, or RST where the next close was to send one.
pub(crate) fn end_shared(fd: BorrowedFd<'_>) {
    // The first of the two numbers of SO_LINGER, which `set_abortive` sets.
    let is_abortive = get_option(fd, libc::SOL_SOCKET, libc::SO_LINGER).is_ok_and(|on| on != 0);
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nowhere` is valid for `length` bytes.
    if is_abortive && check(unsafe { libc::connect(fd.as_raw_fd(), &nowhere, length) }).is_ok() {
        // To connect to nowhere is to abort (tcp_disconnect), whoever else holds the socket.
        return;
    }
    // Fails on a connection that has ended already.
    let _ = shutdown(fd, libc::SHUT_RDWR);
}

/// Drops SYNs that reach a listening TCP socket, while handshakes under way still complete.
///
/// Source: `tcp_filter` runs a classic BPF program of the listening socket on the TCP header (Linux 3.9 and later).
pub(crate) fn refuse_new_connections(fd: BorrowedFd<'_>) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        // A = flags of the TCP header (byte 13)
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        // A &= SYN | ACK
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        // SYN alone: drop. Anything else: keep whole.
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let pointer: *const libc::sock_fprog = &filter;
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `filter` points at `program`; both live until the call has copied them.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, pointer.cast(), length)
    };
    check(result).map(drop)
}

pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    retry(|| {
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: `buffer` is valid for writes of its length.
        check_size(unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) })
    })
}

pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: `bytes` is valid for reads of its length.
        check_size(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
    })
}

pub(crate) fn shutdown(fd: BorrowedFd<'_>, how: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), how) }).map(drop)
}

/// Moves bytes between a pipe and a socket without copying them.
pub(crate) fn splice(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    length: usize,
    more: bool,
) -> io::Result<usize> {
    let mut flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE;
    if more {
        flags |= libc::SPLICE_F_MORE;
    }
    retry(|| {
        let null = std::ptr::null_mut();
        // SAFETY: null offsets mean "none"; neither a pipe nor a socket has one.
        check_size(unsafe { libc::splice(from.as_raw_fd(), null, to.as_raw_fd(), null, length, flags) })
    })
}

/// A pipe, non-blocking; `(read end, write end)`.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) })?;
    Ok((owned(fds[0]), owned(fds[1])))
}

/// Asks for a pipe of `bytes`; returns what it holds now.
pub(crate) fn set_pipe_size(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    let size = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) })?;
    Ok(size as usize)
}

/// Reads from a pipe.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `buffer` is valid for writes of its length.
        check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
    })
}

fn ioctl_count(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    let pointer: *mut libc::c_int = &mut count;
    // SAFETY: both requests of this file write one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, pointer) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Bytes that wait to be received.
pub(crate) fn unread_bytes(fd: BorrowedFd<'_>) -> usize {
    ioctl_count(fd, libc::FIONREAD).unwrap_or(0)
}

/// Whether an error waits to be taken from a socket, behind the bytes that can still be read. It stays where it is.
pub(crate) fn has_error(fd: BorrowedFd<'_>) -> bool {
    // Errors are reported unasked.
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one valid pollfd, for the kernel to read and write during the call.
    let count = retry(|| check(unsafe { libc::poll(&mut poll, 1, 0) }));
    count.is_ok_and(|count| count > 0) && poll.revents & libc::POLLERR != 0
}

/// Bytes sent that the other end has not acknowledged.
pub(crate) fn unacknowledged_bytes(fd: BorrowedFd<'_>) -> usize {
    ioctl_count(fd, libc::TIOCOUTQ).unwrap_or(0)
}

pub(crate) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) }).map(owned)
}

/// Adds one to an event descriptor, or takes its count; both may find nothing to do.
pub(crate) fn signal_event(fd: BorrowedFd<'_>) {
    let one = 1_u64.to_ne_bytes();
    let _ = retry(|| {
        // SAFETY: `one` is valid for reads of its eight bytes.
        check_size(unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) })
    });
}

pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(owned)
}

pub(crate) fn epoll_control(
    epoll: BorrowedFd<'_>,
    operation: i32,
    fd: BorrowedFd<'_>,
    events: i32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    // SAFETY: `event` is valid for the call; the kernel copies it.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &mut event) }).map(drop)
}

/// Waits; returns how many of `events` were filled. Interrupted: zero.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [libc::epoll_event],
    wait: Option<Duration>,
) -> io::Result<usize> {
    let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // Rounded up, so that a timer is due when the wait ends.
    let milliseconds =
        wait.map_or(-1, |wait| i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: `events` is valid for `room` entries.
    match check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), room, milliseconds) }) {
        Ok(count) => Ok(count as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_descriptors_as_were_reserved() {
        let (_, limit) = raise_descriptor_limit().expect("a limit");
        let wanted = u32::try_from(limit / 2).unwrap_or(u32::MAX).min(3000);
        let before = open_descriptors();
        reserve_descriptors(wanted).expect("memory for a table");
        let status = std::fs::read_to_string("/proc/self/status").expect("a status");
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("the table's size");
        assert!(size.trim().parse::<u32>().expect("a number") >= wanted);
        // Other tests open and close some meanwhile.
        assert!(before > 0 && open_descriptors() < wanted, "nothing stays open");
    }
}

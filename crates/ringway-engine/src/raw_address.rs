//! Socket addresses in the kernel's form, and back.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::SocketAddress;

/// Storage for an address of any family.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    storage: Storage,
    length: libc::socklen_t,
}

/// Large enough and aligned for each family; all are plain numbers, so every reading of it is defined.
#[derive(Clone, Copy)]
#[repr(C)]
union Storage {
    bytes: [u8; size_of::<libc::sockaddr_storage>()],
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
}

const PATH_OFFSET: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);

impl RawAddress {
    /// Room for the kernel to write to.
    pub(crate) fn empty() -> Self {
        let storage = Storage { bytes: [0; size_of::<libc::sockaddr_storage>()] };
        Self { storage, length: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// The kernel's form of `address`.
    ///
    /// # Errors
    /// `InvalidInput` for an unnamed Unix address or a path of more than 107 bytes.
    pub(crate) fn new(address: &SocketAddress) -> io::Result<Self> {
        match address {
            SocketAddress::Inet(addr) => Ok(Self::inet(*addr)),
            SocketAddress::Unix(None) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "unnamed Unix address"))
            }
            SocketAddress::Unix(Some(path)) => {
                let path = path.as_os_str().as_bytes();
                let mut raw = Self::empty();
                let mut unix = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
                if path.is_empty() || path.len() >= unix.sun_path.len() || path.contains(&0) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "a Unix socket's path has 1 to 107 bytes",
                    ));
                }
                for (to, from) in unix.sun_path.iter_mut().zip(path) {
                    *to = *from as libc::c_char;
                }
                raw.storage.unix = unix;
                raw.length = (PATH_OFFSET + path.len() + 1) as libc::socklen_t;
                Ok(raw)
            }
        }
    }

    pub(crate) fn inet(addr: SocketAddr) -> Self {
        let mut raw = Self::empty();
        match addr {
            SocketAddr::V4(v4) => {
                raw.storage.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                raw.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                raw.storage.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                raw.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }

    /// For a call that reads the address. Valid while `self` is borrowed.
    pub(crate) fn as_ptr(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        let pointer: *const Storage = &self.storage;
        (pointer.cast(), self.length)
    }

    /// For a call that writes the address. Valid while `self` is borrowed.
    pub(crate) fn as_mut_ptr(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        let pointer: *mut Storage = &mut self.storage;
        (pointer.cast(), &mut self.length)
    }

    /// Sets how much the kernel wrote, for calls that report it elsewhere (recvmmsg).
    pub(crate) fn set_len(&mut self, length: libc::socklen_t) {
        self.length = length.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
    }

    fn family(&self) -> i32 {
        // SAFETY: every byte of the storage is initialised, and bytes may be read as any number.
        let bytes = unsafe { &self.storage.bytes };
        i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    /// The IP address and port, if it has them.
    pub(crate) fn to_inet(self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the storage is initialised and large enough; all its values are valid numbers.
                let v4 = unsafe { self.storage.v4 };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: the storage is initialised and large enough; all its values are valid numbers.
                let v6 = unsafe { self.storage.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }

    pub(crate) fn to_address(self) -> SocketAddress {
        if let Some(addr) = self.to_inet() {
            return SocketAddress::Inet(addr);
        }
        // SAFETY: every byte of the storage is initialised.
        let bytes = unsafe { &self.storage.bytes };
        let end = (self.length as usize).clamp(PATH_OFFSET, bytes.len());
        let path = &bytes[PATH_OFFSET..end];
        let path = &path[..path.iter().position(|byte| *byte == 0).unwrap_or(path.len())];
        SocketAddress::Unix((!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_kernel_form() {
        for text in ["127.0.0.1:80", "[::1]:443", "[fe80::1%3]:9", "0.0.0.0:0"] {
            let addr: SocketAddr = text.parse().expect("an address");
            assert_eq!(RawAddress::inet(addr).to_address(), SocketAddress::Inet(addr));
        }
        let unix = SocketAddress::unix("/run/ringway.sock");
        assert_eq!(RawAddress::new(&unix).expect("a path that fits").to_address(), unix);
    }

    #[test]
    fn a_unix_path_that_does_not_fit_is_refused() {
        assert!(RawAddress::new(&SocketAddress::unix("x".repeat(108))).is_err());
        assert!(RawAddress::new(&SocketAddress::unix("x".repeat(107))).is_ok());
        assert!(RawAddress::new(&SocketAddress::Unix(None)).is_err());
    }
}

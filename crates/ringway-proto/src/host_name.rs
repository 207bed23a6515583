//! A host name that a client asks for: checked, in lower case, without memory of its own.

use core::fmt;
use core::net::Ipv6Addr;
use core::ops::Deref;

/// The most bytes of a name in text: 255 on the wire of DNS, with the length of each label and of the root (RFC 1035,
/// section 2.3.4).
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// The most bytes of a label (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A host name in ASCII, in lower case, without a trailing dot: two that mean the same host are equal.
///
/// Labels are of letters, digits, hyphens and underscores; the latter two may stand anywhere, as they do in the wild.
/// ```
/// use ringway_proto::host_name::{HostName, HostNameError};
/// assert_eq!(&*HostName::new(b"WWW.Example.com.")?, "www.example.com");
/// assert_eq!(HostName::new(b"192.0.2.1"), Err(HostNameError::IpLiteral));
/// # Ok::<(), HostNameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostName {
    bytes: [u8; HOST_NAME_BYTES_MAX],
    len: u8,
}

/// Why bytes are no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostNameError {
    /// There is nothing, or nothing but a dot.
    Empty,
    /// It is longer than [`HOST_NAME_BYTES_MAX`].
    TooLong,
    /// A label is empty or longer than 63 bytes.
    Label,
    /// A byte is none of a host name.
    Byte,
    /// It is an IP address, or what some programs take for one.
    IpLiteral,
}

impl HostName {
    /// Reads a name. Of trailing dots one is left out.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(name: &[u8]) -> Result<Self, HostNameError> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.is_empty() {
            return Err(HostNameError::Empty);
        }
        if name.len() > HOST_NAME_BYTES_MAX {
            return Err(HostNameError::TooLong);
        }
        if name.contains(&b':') {
            let text = core::str::from_utf8(name).unwrap_or_default();
            let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            let is_literal = text.parse::<Ipv6Addr>().is_ok();
            return Err(if is_literal { HostNameError::IpLiteral } else { HostNameError::Byte });
        }
        let mut last: &[u8] = b"";
        for label in name.split(|byte| *byte == b'.') {
            if label.is_empty() || label.len() > LABEL_BYTES_MAX {
                return Err(HostNameError::Label);
            }
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Err(HostNameError::Byte);
            }
            last = label;
        }
        if is_number(last) {
            return Err(HostNameError::IpLiteral);
        }
        let mut bytes = [0; HOST_NAME_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name);
        bytes.make_ascii_lowercase();
        // At most 253.
        Ok(Self { bytes, len: name.len() as u8 })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// Whether a name that ends in this label is read as an IPv4 address: as a decimal, octal or hexadecimal number
/// (WHATWG URL, "ends in a number").
fn is_number(label: &[u8]) -> bool {
    match label {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HostNameError {
    /// What is wrong, in words for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "the host name is empty",
            Self::TooLong => "the host name is longer than 253 bytes",
            Self::Label => "a label of the host name is empty or longer than 63 bytes",
            Self::Byte => "a byte is none of a host name",
            Self::IpLiteral => "an IP address is no host name",
        }
    }
}

impl fmt::Display for HostNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for HostNameError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    #[test]
    fn names_that_mean_the_same_host_are_equal() {
        for name in ["www.example.com", "WWW.EXAMPLE.COM", "www.Example.com."] {
            assert_eq!(
                HostName::new(name.as_bytes()).map(|name| name.to_string()),
                Ok("www.example.com".into())
            );
        }
        for name in
            ["localhost", "_dmarc.example.com", "-odd-.example.com", "xn--bcher-kva.example", "1.2.3.4a"]
        {
            assert_eq!(HostName::new(name.as_bytes()).map(|name| name.to_string()), Ok(name.to_string()));
        }
    }

    #[test]
    fn the_longest_name_and_label_pass_and_no_longer_ones() {
        let mut name = vec![b'a'; HOST_NAME_BYTES_MAX];
        name.iter_mut().skip(63).step_by(64).for_each(|byte| *byte = b'.');
        assert_eq!(HostName::new(&name).map(|name| name.len()), Ok(253));
        assert_eq!(HostName::new(&[&name[..], b"."].concat()).map(|name| name.len()), Ok(253));
        assert_eq!(HostName::new(&[&name[..], b"a"].concat()), Err(HostNameError::TooLong));
        assert_eq!(HostName::new(&[b'a'; 64]), Err(HostNameError::Label));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for (name, error) in [
            ("", HostNameError::Empty),
            (".", HostNameError::Empty),
            ("..", HostNameError::Label),
            (".example.com", HostNameError::Label),
            ("a..example.com", HostNameError::Label),
            ("a.example.com..", HostNameError::Label),
            ("*.example.com", HostNameError::Byte),
            ("a example.com", HostNameError::Byte),
            ("a\0.example.com", HostNameError::Byte),
            ("bücher.example", HostNameError::Byte),
            ("example.com:443", HostNameError::Byte),
            ("127.0.0.1", HostNameError::IpLiteral),
            ("127.1", HostNameError::IpLiteral),
            ("0x7f000001", HostNameError::IpLiteral),
            ("127.0.0.0x", HostNameError::IpLiteral),
            ("::1", HostNameError::IpLiteral),
            ("[2001:db8::1]", HostNameError::IpLiteral),
        ] {
            assert_eq!(HostName::new(name.as_bytes()), Err(error), "{name}");
        }
    }
}

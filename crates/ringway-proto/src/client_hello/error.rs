//! The rules that a hello can break.

use core::fmt;

use crate::host_name::HostNameError;
use crate::reader::Incomplete;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $rule:literal, $reference:literal;)*) => {
        /// The rule that a hello breaks. The connection is not to be served as if it had said nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HelloError { $($(#[$doc])* $name,)* }

        impl HelloError {
            /// What is wrong, in words for a log line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $rule,)* }
            }

            /// Where it is written.
            pub const fn reference(self) -> &'static str {
                match self { $(Self::$name => $reference,)* }
            }
        }
    };
}

rules! {
    /// A hello of SSL 2.0, or one of TLS in its shape.
    Sslv2 = "a hello in the shape of SSL 2.0", "RFC 6176, section 3";
    /// A record whose version does not begin with 3.
    RecordVersion = "the version of a record is none of TLS", "RFC 8446, section 5.1";
    /// A record of the handshake without a byte in it.
    EmptyRecord = "a record of the handshake is empty", "RFC 8446, section 5.1";
    /// A record of more than 2^14 bytes.
    RecordTooLong = "a record is longer than 16384 bytes", "RFC 8446, section 5.1";
    /// A record of another kind before the hello was complete.
    Interleaved = "a record of another kind stands within the hello", "RFC 8446, section 5.1";
    /// The first message is no ClientHello.
    NotClientHello = "the first message is no ClientHello", "RFC 8446, section 4.1.2";
    /// It would be longer than [`HELLO_BYTES_MAX`](super::HELLO_BYTES_MAX).
    TooLong = "the hello is longer than 16 KiB", "RFC 8446, section 4";
    /// The record in which it ends holds more.
    Trailing = "the record goes on after the hello", "RFC 8446, section 5.1";
    /// A length points beyond what holds it, or what it holds has a rest.
    Length = "a length does not fit what holds it", "RFC 8446, section 3.4";
    /// The version does not begin with 3.
    Version = "the version of the hello is none of TLS", "RFC 5246, section 7.4.1.2";
    /// A session identifier of more than 32 bytes.
    SessionId = "the session identifier is longer than 32 bytes", "RFC 8446, section 4.1.2";
    /// No cipher suite, or half of one.
    CipherSuites = "the list of cipher suites is malformed", "RFC 8446, section 4.1.2";
    /// No compression method.
    Compression = "there is no compression method", "RFC 8446, section 4.1.2";
    /// Two extensions of one type, which two readers may read differently.
    RepeatedExtension = "an extension is there twice", "RFC 8446, section 4.2";
    /// No name in the list of server names.
    NoServerName = "the list of server names is empty", "RFC 6066, section 3";
    /// Several names in the list of server names.
    SeveralServerNames = "there are several server names", "RFC 6066, section 3";
    /// The server name is of another type than a host name.
    ServerNameType = "the server name is no host name", "RFC 6066, section 3";
    /// The server name is empty, too long, or has bytes that no host name has.
    ServerName = "the server name is malformed", "RFC 6066, section 3";
    /// The server name is an IP address.
    IpLiteral = "the server name is an IP address", "RFC 6066, section 3";
    /// An empty list of protocols, or one with an empty name.
    Alpn = "the list of protocols (ALPN) is malformed", "RFC 7301, section 3.1";
    /// No supported version, or half of one.
    SupportedVersions = "the list of supported versions is malformed", "RFC 8446, section 4.2.1";
}

impl From<Incomplete> for HelloError {
    fn from(_: Incomplete) -> Self {
        Self::Length
    }
}

impl From<HostNameError> for HelloError {
    fn from(error: HostNameError) -> Self {
        match error {
            HostNameError::IpLiteral => Self::IpLiteral,
            HostNameError::Empty | HostNameError::TooLong | HostNameError::Label | HostNameError::Byte => {
                Self::ServerName
            }
        }
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.reference())
    }
}

impl core::error::Error for HelloError {}

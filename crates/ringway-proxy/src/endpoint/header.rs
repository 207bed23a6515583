//! What a backend is told of a connection before its first byte: a PROXY header.

use ringway::{ConnectionId, Operations, SocketAddress};
use ringway_proto::proxy_protocol::{Addresses, v2, write_v1};

use crate::model::SendHeader;

/// The header for a connection from `client` to `local`. Other than IP is not told: `UNKNOWN`, or an unspecified
/// family.
pub(crate) fn header_for_client(
    form: SendHeader,
    client: &SocketAddress,
    local: Option<&SocketAddress>,
) -> Vec<u8> {
    let addresses = match (client.inet(), local.and_then(SocketAddress::inet)) {
        (Some(client), Some(local)) => Addresses::between(canonical(client), canonical(local)),
        _ => Addresses::Unspecified,
    };
    write(form, &addresses)
}

/// The header for a health check on this connection. Version 2 has a word for it; in version 1 the addresses of the
/// connection itself are told, because some servers refuse `UNKNOWN` (section 2.1).
pub(crate) fn header_for_check(
    form: SendHeader,
    ops: &Operations<'_>,
    connection: ConnectionId,
    target: &SocketAddress,
) -> Vec<u8> {
    match form {
        SendHeader::None => Vec::new(),
        SendHeader::V2 => {
            let mut header = Vec::new();
            v2::Writer::local(&mut header).finish();
            header
        }
        SendHeader::V1 => {
            let own = ops.local_address(connection);
            header_for_client(form, own.as_ref().unwrap_or(&SocketAddress::Unix(None)), Some(target))
        }
    }
}

fn write(form: SendHeader, addresses: &Addresses<'_>) -> Vec<u8> {
    let mut header = Vec::new();
    match form {
        SendHeader::None => {}
        SendHeader::V1 => write_v1(&mut header, addresses),
        SendHeader::V2 => v2::Writer::proxy(&mut header, addresses).finish(),
    }
    header
}

/// IPv4 that came to an IPv6 socket is told as IPv4.
fn canonical(address: std::net::SocketAddr) -> std::net::SocketAddr {
    (address.ip().to_canonical(), address.port()).into()
}

#[cfg(test)]
mod tests {
    use ringway_proto::proxy_protocol::parse;

    use super::*;

    fn inet(text: &str) -> SocketAddress {
        SocketAddress::Inet(text.parse().expect("an address"))
    }

    #[test]
    fn ipv4_client_of_a_dual_stack_frontend_is_told_as_ipv4() {
        let header = header_for_client(
            SendHeader::V1,
            &inet("[::ffff:192.0.2.1]:5000"),
            Some(&inet("[::ffff:192.0.2.2]:443")),
        );
        assert_eq!(header, b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n");
    }

    #[test]
    fn client_without_an_ip_address_is_unknown() {
        let unix = SocketAddress::Unix(None);
        assert_eq!(header_for_client(SendHeader::V1, &unix, Some(&unix)), b"PROXY UNKNOWN\r\n");
        let header = header_for_client(SendHeader::V2, &unix, None);
        let (header, _) = parse(&header).expect("well-formed").expect("complete");
        assert_eq!(header.addresses, Addresses::Unspecified);
        assert!(header_for_client(SendHeader::None, &unix, None).is_empty());
    }
}

//! What a backend is told of a connection before its first byte: a PROXY header.

use std::borrow::Cow;

use ringway::{ConnectionId, Operations, SocketAddress};
use ringway_proto::proxy_protocol::{Addresses, tlv_type, v2, write_v1};

use crate::model::SendHeader;

/// The header for a connection from `client` to `local`. Other than IP is not told: `UNKNOWN`, or an unspecified
/// family. `secured`: what version 2 tells of a client whose TLS ends here.
pub(crate) fn header_for_client(
    form: SendHeader,
    client: &SocketAddress,
    local: Option<&SocketAddress>,
    secured: Option<&SecuredClient<'_>>,
) -> Vec<u8> {
    let addresses = match (client.inet(), local.and_then(SocketAddress::inet)) {
        (Some(client), Some(local)) => Addresses::between(canonical(client), canonical(local)),
        _ => Addresses::Unspecified,
    };
    let mut header = Vec::new();
    match form {
        SendHeader::None => {}
        SendHeader::V1 => write_v1(&mut header, &addresses),
        SendHeader::V2 => {
            let writer = v2::Writer::proxy(&mut header, &addresses);
            match secured {
                Some(secured) => secured.write(writer).finish(),
                None => writer.finish(),
            }
        }
    }
    header
}

/// A client whose TLS ends here, for backends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecuredClient<'a> {
    /// `"1.2"` or `"1.3"`.
    pub(crate) version: &'a str,
    /// By the name of IANA.
    pub(crate) cipher: &'a str,
    /// The application protocol that was agreed on.
    pub(crate) alpn: Option<&'a str>,
    /// The server that it asked for.
    pub(crate) authority: Option<&'a str>,
    /// A name of the connection, unique among those of all processes; at most 128 bytes.
    pub(crate) unique_id: &'a str,
    /// What it is called by its certificate, which was verified; empty: it has one without a name.
    pub(crate) client: Option<&'a str>,
    /// It went on with a session of earlier, and showed the certificate then.
    pub(crate) is_resumed: bool,
}

impl SecuredClient<'_> {
    /// Section 2.2.
    fn write<'w>(&self, mut writer: v2::Writer<'w>) -> v2::Writer<'w> {
        if let Some(alpn) = self.alpn {
            writer = writer.tlv(tlv_type::ALPN, alpn.as_bytes());
        }
        if let Some(authority) = self.authority {
            writer = writer.tlv(tlv_type::AUTHORITY, authority.as_bytes());
        }
        // It came over TLS (1), with a certificate in this connection (2) and session (4); zero: which was verified.
        let mut ssl = match (self.client, self.is_resumed) {
            (None, _) => vec![0x01, 0, 0, 0, 1],
            (Some(_), false) => vec![0x07, 0, 0, 0, 0],
            (Some(_), true) => vec![0x05, 0, 0, 0, 0],
        };
        let mut add = |kind: u8, value: &str| {
            ssl.push(kind);
            // Names of versions and suites have a few dozen bytes, those of clients at most 255.
            ssl.extend_from_slice(&(value.len() as u16).to_be_bytes());
            ssl.extend_from_slice(value.as_bytes());
        };
        add(tlv_type::SSL_VERSION, &format!("TLSv{}", self.version));
        add(tlv_type::SSL_CIPHER, &name_of_openssl(self.cipher));
        if let Some(client) = self.client.filter(|client| !client.is_empty()) {
            add(tlv_type::SSL_CN, client);
        }
        writer.tlv(tlv_type::SSL, &ssl).tlv(tlv_type::UNIQUE_ID, self.unique_id.as_bytes())
    }
}

/// A cipher suite by the name that the document and other proxies use, which is that of OpenSSL. Suites of TLS 1.3 have the
/// same name everywhere.
fn name_of_openssl(cipher: &str) -> Cow<'_, str> {
    match cipher.strip_prefix("TLS_").and_then(|name| name.split_once("_WITH_")) {
        Some((exchange, suite)) => {
            let suite = suite.replace("AES_128", "AES128").replace("AES_256", "AES256");
            let suite = suite.replace("CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305");
            format!("{exchange}-{suite}").replace('_', "-").into()
        }
        None => cipher.into(),
    }
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
            header_for_client(form, own.as_ref().unwrap_or(&SocketAddress::Unix(None)), Some(target), None)
        }
    }
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
            None,
        );
        assert_eq!(header, b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n");
    }

    #[test]
    fn client_whose_tls_ends_here_is_told_with_what_was_agreed_on() {
        let secured = SecuredClient {
            version: "1.2",
            cipher: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            alpn: Some("h2"),
            authority: Some("www.example.com"),
            unique_id: "5f-7",
            client: None,
            is_resumed: false,
        };
        let (client, local) = (inet("192.0.2.1:5000"), inet("192.0.2.2:443"));
        let header = header_for_client(SendHeader::V2, &client, Some(&local), Some(&secured));
        let (header, _) = parse(&header).expect("well-formed").expect("complete");
        let value = |kind| header.tlvs.get(kind);
        assert_eq!(value(tlv_type::ALPN), Some(&b"h2"[..]));
        assert_eq!(value(tlv_type::AUTHORITY), Some(&b"www.example.com"[..]));
        assert_eq!(value(tlv_type::UNIQUE_ID), Some(&b"5f-7"[..]));
        let ssl = value(tlv_type::SSL).expect("it is told");
        assert_eq!(ssl[..5], [1, 0, 0, 0, 1], "TLS, and no verified certificate");
        let suite = b"\x23\0\x1dECDHE-ECDSA-AES128-GCM-SHA256";
        assert_eq!(ssl[5..], [&b"\x21\0\x07TLSv1.2"[..], suite].concat());
        for (is_resumed, flags) in [(false, 7), (true, 5)] {
            let known = SecuredClient { client: Some("alice"), is_resumed, ..secured };
            let header = header_for_client(SendHeader::V2, &client, Some(&local), Some(&known));
            let (header, _) = parse(&header).expect("well-formed").expect("complete");
            let ssl = header.tlvs.get(tlv_type::SSL).expect("it is told");
            assert_eq!(ssl[..5], [flags, 0, 0, 0, 0], "a verified certificate");
            assert!(ssl.ends_with(b"\x22\0\x05alice"));
        }
        assert_eq!(name_of_openssl("TLS_AES_128_GCM_SHA256"), "TLS_AES_128_GCM_SHA256");
        let chacha = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
        assert_eq!(name_of_openssl(chacha), "ECDHE-RSA-CHACHA20-POLY1305");
        let plain = header_for_client(SendHeader::V1, &client, Some(&local), Some(&secured));
        assert_eq!(plain, b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n");
    }

    #[test]
    fn client_without_an_ip_address_is_unknown() {
        let unix = SocketAddress::Unix(None);
        assert_eq!(header_for_client(SendHeader::V1, &unix, Some(&unix), None), b"PROXY UNKNOWN\r\n");
        let header = header_for_client(SendHeader::V2, &unix, None, None);
        let (header, _) = parse(&header).expect("well-formed").expect("complete");
        assert_eq!(header.addresses, Addresses::Unspecified);
        assert!(header_for_client(SendHeader::None, &unix, None, None).is_empty());
    }
}

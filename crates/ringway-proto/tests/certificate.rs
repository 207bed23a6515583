//! Certificates that openssl made, and bytes that are none.

use std::net::IpAddr;

use proptest::prelude::*;
use ringway_proto::certificate::{Certificate, CertificateError, KeyKind};

/// `openssl req -x509`, ECDSA, with names of each kind, to a year that UTCTime does not have.
const NAMES: &[u8] = include_bytes!("certificates/names.der");
/// The same with RSA and a common name only.
const RSA: &[u8] = include_bytes!("certificates/rsa.der");

#[test]
fn names_of_each_kind_are_read_as_they_are_written() {
    let certificate = Certificate::parse(NAMES).expect("it is one");
    let names: Vec<&str> = certificate.dns_names().collect();
    assert_eq!(names, ["www.example.com", "*.Example.com", "example.com"]);
    let addresses: Vec<IpAddr> = certificate.ip_addresses().collect();
    assert_eq!(addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    assert_eq!(certificate.uris().collect::<Vec<_>>(), ["spiffe://example.com/web"]);
    assert_eq!(certificate.mail_addresses().collect::<Vec<_>>(), ["admin@example.com"]);
    assert_eq!(certificate.common_name(), Some("www.example.com"));
    assert_eq!((certificate.not_before(), certificate.not_after()), (1_795_747_902, 4_949_347_902));
    assert_eq!(certificate.key_kind(), KeyKind::Ecdsa);
    assert_eq!(certificate.serial()[..4], [0x31, 0xf7, 0x3a, 0x83]);
    assert_eq!(certificate.public_key().len(), 91, "P-256");
}

#[test]
fn a_certificate_without_other_names_has_its_common_name() {
    let certificate = Certificate::parse(RSA).expect("it is one");
    assert_eq!(certificate.dns_names().count(), 0);
    assert_eq!(certificate.common_name(), Some("only.example.com"));
    assert_eq!(certificate.key_kind(), KeyKind::Rsa);
    assert_eq!(certificate.not_after(), 1_827_283_902);
}

#[test]
fn each_beginning_of_one_is_none() {
    for end in 0..NAMES.len() {
        assert_eq!(Certificate::parse(&NAMES[..end]), Err(CertificateError), "{end}");
    }
    let longer = [NAMES, b"\0"].concat();
    assert_eq!(Certificate::parse(&longer), Err(CertificateError));
}

/// Looks at all that there is.
fn look(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    let texts = certificate.dns_names().chain(certificate.uris()).chain(certificate.mail_addresses());
    for text in texts.chain(certificate.common_name()) {
        assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    }
    let _ = certificate.ip_addresses().count();
    assert!(!certificate.public_key().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look(&bytes);
    }

    #[test]
    fn no_change_of_a_certificate_makes_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        is_rsa in any::<bool>(),
    ) {
        let mut bytes = if is_rsa { RSA } else { NAMES }.to_vec();
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        look(&bytes);
    }
}

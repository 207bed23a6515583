//! Certificates, whatever they are: no panic, and names that are text.
//!
//! Shared by the fuzz target and by the test that replays its seeds.

use ringway_proto::certificate::Certificate;

/// Holds the bytes against that.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else { return };
    let names = certificate.dns_names().chain(certificate.uris()).chain(certificate.mail_addresses());
    for name in names.chain(certificate.common_name()) {
        assert!(!name.is_empty() && !name.chars().any(char::is_control));
    }
    let _ = certificate.ip_addresses().count();
    assert!(certificate.serial().len() + certificate.public_key().len() < bytes.len());
    // No byte can be missing.
    assert!(Certificate::parse(&bytes[..bytes.len() - 1]).is_err());
}

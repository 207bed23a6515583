//! `[app.tls]` with `mode = "terminate"`: certificates, and what is agreed on.

use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use ringway::tls::{CertifiedKey, ServerTerms, TermsError, certified_key};

use super::app;
use super::fields::{Checker, Fields, Item};
use crate::config::read;
use crate::model::{Certificate, Termination};

/// Names of application protocols have a byte for their length (RFC 7301, section 3.1).
const ALPN_BYTES_MAX: usize = 255;

/// What is said about the end of TLS. `mode`: whether it ends here, where that is known.
pub(super) fn termination(
    fields: &mut Fields<'_>,
    mode: Option<&(Item<'_>, bool)>,
    checker: &mut Checker<'_>,
) -> Option<Termination> {
    let expected = "an array of tables, as [{ chain = \"a.pem\", key = \"a.key\" }]";
    let certificates = fields.take("certificates");
    let alpn = fields.take("alpn");
    if let Some((mode, true)) = mode
        && certificates.is_none()
    {
        let hint = "give the files as certificates = [{ chain = \"a.pem\", key = \"a.key\" }]";
        checker.conflict(mode, "there are no certificates to end TLS with", Some(hint));
    }
    if let Some((_, false)) = mode {
        for item in certificates.iter().chain(&alpn) {
            checker.conflict(item, "backends end TLS: this goes with mode = \"terminate\"", None);
        }
        return None;
    }
    let alpn = alpn.map_or_else(Vec::new, |item| protocols(&item, checker));
    let all = app::elements(&certificates?, expected, checker);
    let pairs: Vec<(Certificate, Arc<CertifiedKey>)> =
        all.iter().filter_map(|element| pair(element, checker)).collect();
    if pairs.len() < all.len() {
        return None;
    }
    let (certificates, keys) = pairs.into_iter().unzip();
    let protocols = alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    let terms = ServerTerms::of(keys, protocols);
    Some(Termination { certificates, alpn, terms })
}

fn pair(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<(Certificate, Arc<CertifiedKey>)> {
    let mut fields = checker.table(item, "a table, as { chain = \"a.pem\", key = \"a.key\" }")?;
    let chain = fields.require("chain", "the path of a file with a certificate", checker);
    let key = fields.require("key", "the path of a file with a private key", checker);
    fields.finish(&[], checker);
    let chain_file = chain.as_ref().and_then(|item| file(item, checker));
    let key_file = key.as_ref().and_then(|item| file(item, checker));
    let (chain, key) = (chain?, key?);
    let ((chain_path, chain_bytes), (key_path, key_bytes)) = (chain_file?, key_file?);
    let mut version = DefaultHasher::new();
    version.write(&chain_bytes);
    version.write(&key_bytes);
    match certified_key(&chain_bytes, &key_bytes) {
        Ok(certified) => {
            let version = version.finish();
            Some((Certificate { chain: chain_path, key: key_path, version }, certified))
        }
        Err(error) => {
            let of_chain = matches!(error, TermsError::Chain(_));
            checker.conflict(if of_chain { &chain } else { &key }, error.to_string(), None);
            None
        }
    }
}

/// Reads a file that is named; its path, and what is in it.
fn file(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<(PathBuf, Vec<u8>)> {
    let path = checker.text(item, "the path of a file")?;
    let path = checker.directory_to_read().join(path);
    match read(&path) {
        Ok(bytes) => Some((path, bytes)),
        Err(error) => {
            checker.conflict(item, format!("the file cannot be read: {error}"), None);
            None
        }
    }
}

/// Names of application protocols.
pub(super) fn protocols(item: &Item<'_>, checker: &mut Checker<'_>) -> Vec<String> {
    let expected = "a protocol of 1 to 255 bytes such as \"h2\"";
    let mut protocols = Vec::new();
    for element in app::elements(item, "an array of protocols, as [\"h2\"]", checker) {
        match checker.text(&element, expected) {
            Some(text) if (1..=ALPN_BYTES_MAX).contains(&text.len()) => protocols.push(text),
            Some(_) => checker.wrong(&element, expected),
            None => {}
        }
    }
    protocols
}

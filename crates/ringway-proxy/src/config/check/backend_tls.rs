//! `[app.backend_tls]`: whom to believe, and who Ringway is to backends.

use std::path::PathBuf;

use ringway::tls::{ClientTerms, ClientTermsError, ClientTermsPlan, Trust};
use ringway_proto::host_name::HostName;

use super::fields::{Checker, Item};
use super::tls;
use crate::config::read as read_file;
use crate::model::{App, BackendTls};

const NAME: &str = "a host name or an IP address";

pub(super) fn read(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<BackendTls> {
    let mut fields = checker.table(item, "a table, [app.backend_tls] in TOML")?;
    let verify = fields.take("verify").map_or(Some(true), |item| checker.boolean(&item));
    let ca_item = fields.take("ca");
    let ca = ca_item.as_ref().map(|item| file(item, checker));
    let server_name = fields.take("server_name").map(|item| server_name(&item, checker));
    let certificate = fields.take("certificate").map(|item| own_certificate(&item, checker));
    let alpn = fields.take("alpn").map_or_else(Vec::new, |item| tls::protocols(&item, checker));
    fields.finish(checker);
    let verify = verify?;
    if let (Some(item), false) = (&ca_item, verify) {
        checker.conflict(item, "nobody is believed by it, as nothing is verified", None);
    }
    // What is given and faulty was told.
    let ca = match ca {
        Some(ca) => Some(ca?),
        None => None,
    };
    let server_name = match server_name {
        Some(name) => Some(name?),
        None => None,
    };
    let certificate = match certificate {
        Some(certificate) => Some(certificate?),
        None => None,
    };
    let trust = match (&ca, verify) {
        (_, false) => Trust::Anybody,
        (Some(file), true) => Trust::Authorities(file.bytes.clone()),
        (None, true) => Trust::System,
    };
    let protocols = alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    let pem = certificate.as_ref().map(|own: &Own<'_>| (own.chain.bytes.clone(), own.key.bytes.clone()));
    match ClientTerms::new(ClientTermsPlan { trust, certificate: pem, alpn: protocols }) {
        Ok(terms) => {
            let ca = ca.map(|file: File| file.path);
            let certificate = certificate.map(|own| (own.chain.path, own.key.path));
            Some(BackendTls { verify, ca, server_name, certificate, alpn, terms })
        }
        Err(error) => {
            let (place, hint) = match (&error, &certificate) {
                (ClientTermsError::System(_), _) => (item, Some("name a file in `ca`")),
                (ClientTermsError::Chain(_), Some(own)) => (&own.chain_item, None),
                (ClientTermsError::Key(_), Some(own)) => (&own.key_item, None),
                (_, _) => (ca_item.as_ref().unwrap_or(item), None),
            };
            checker.conflict(place, error.to_string(), hint);
            None
        }
    }
}

/// A file that was read.
struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// Who this end is.
struct Own<'t> {
    chain_item: Item<'t>,
    key_item: Item<'t>,
    chain: File,
    key: File,
}

fn own_certificate<'t>(item: &Item<'t>, checker: &mut Checker<'_>) -> Option<Own<'t>> {
    let mut fields = checker.table(item, "a table, as { chain = \"a.pem\", key = \"a.key\" }")?;
    let chain_item = fields.require("chain", "the path of a file with a certificate", checker);
    let key_item = fields.require("key", "the path of a file with a private key", checker);
    fields.finish(checker);
    let chain = chain_item.as_ref().and_then(|item| file(item, checker));
    let key = key_item.as_ref().and_then(|item| file(item, checker));
    Some(Own { chain_item: chain_item?, key_item: key_item?, chain: chain?, key: key? })
}

fn file(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<File> {
    let path = checker.text(item, "the path of a file")?;
    let path = checker.directory_to_read().join(path);
    match read_file(&path) {
        Ok(bytes) => Some(File { path, bytes }),
        Err(error) => {
            checker.conflict(item, format!("the file cannot be read: {error}"), None);
            None
        }
    }
}

fn server_name(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<String> {
    let text = checker.text(item, NAME)?;
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Some(text);
    }
    match HostName::new(text.as_bytes()) {
        Ok(name) => Some(name.to_string()),
        Err(_) => {
            checker.wrong(item, NAME);
            None
        }
    }
}

/// TLS within TLS is nobody's wish, and a backend has to have a name to be verified by.
pub(super) fn check(item: &Item<'_>, app: &App, checker: &mut Checker<'_>) {
    if app.tls.as_ref().is_some_and(|tls| tls.termination.is_none()) {
        let hint = "leave it out, or end TLS of clients with tls.mode = \"terminate\"";
        checker.conflict(item, "clients speak TLS with backends already, as it is passed on", Some(hint));
    }
    let Some(tls) = app.backend_tls.as_deref() else { return };
    let pools = app.pools().map(|(_, pool)| &**pool);
    let nameless = std::iter::once(app)
        .chain(pools)
        .flat_map(|pool: &App| pool.backends.iter().map(move |backend| (pool, backend)))
        .find(|(pool, backend)| tls.name_of(pool, &backend.name).is_none());
    if let Some((_, backend)) = nameless {
        let message = format!("the backend {:?} has no name of its own to be asked for", backend.name);
        checker.conflict(item, message, Some("name it in `server_name`"));
    }
}

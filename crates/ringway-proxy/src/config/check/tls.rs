//! `[app.tls]` with `mode = "terminate"`: certificates, who clients have to be, tickets.
//!
//! The files are read here, so that a configuration whose certificates are of no use is refused as a whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway::tls::{
    CertificateFault, CertificateFiles, CertificateProblem, CertificateStore, ClientPolicy, Demand,
    TICKET_LIFETIME_MAX, TicketSecrets, TlsVersion, certificates_in,
};

use super::app;
use super::fields::{Checker, Fields, Item};
use crate::config::tree::Value;
use crate::model::Termination;

const CERTIFICATES: &str = "an array of tables, as [{ chain = \"a.pem\", key = \"a.key\" }]";
const CERTIFICATE: &str =
    "a table, as { chain = \"a.pem\", key = \"a.key\" } or { directory = \"certificates\" }";
const PATH: &str = "the path of a file";
/// Up to so many certificates are loaded and looked at before a configuration is taken: that is a blink. More of them are
/// looked at afterwards, and loaded then or when clients ask for them.
const LOADED_AT_ONCE_MAX: usize = 1_000;
/// What is wrong with a directory is told of so many certificates: they have one cause then.
const FAULTS_OF_DIRECTORY_MAX: usize = 20;
/// Names of application protocols have a byte for their length (RFC 7301, section 3.1).
const ALPN_BYTES_MAX: usize = 255;
const TICKET_LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Reads what goes with `mode = "terminate"` of the app of this name. `demanded_by`: where that is said, which is what certificates
/// are needed for.
pub(super) fn termination(
    app_name: &str,
    demanded_by: Option<&Item<'_>>,
    fields: &mut Fields<'_>,
    checker: &mut Checker<'_>,
) -> Option<Termination> {
    let certificates = fields.take("certificates");
    if let (None, Some(mode)) = (&certificates, demanded_by) {
        let message = "this needs certificates, as certificates = [{ chain = \"a.pem\", key = \"a.key\" }]";
        checker.conflict(mode, message, None);
    }
    let certificates = certificates.and_then(|item| certificates_of(&item, app_name, checker));
    let alpn = fields.take("alpn").map(|item| protocols(&item, checker));
    let versions = [TlsVersion::Tls12, TlsVersion::Tls13].map(|version| (version.as_str(), version));
    let min_version = fields.take("min_version").and_then(|item| checker.choice(&item, &versions, &[]));
    let clients = clients(fields, checker);
    let ticket_keys = fields.take("ticket_keys").and_then(|item| ticket_keys(&item, checker));
    let ticket_lifetime = match fields.take("ticket_lifetime") {
        None => Some(Termination::TICKET_LIFETIME),
        Some(item) if item.as_text() == Some("none") => None,
        Some(item) => checker.duration(&item, TICKET_LIFETIME_MIN..=TICKET_LIFETIME_MAX, None),
    };
    Some(Termination {
        certificates: Arc::new(certificates?),
        alpn: alpn.unwrap_or_default(),
        min_version: min_version.unwrap_or(TlsVersion::Tls12),
        clients: clients?,
        ticket_keys,
        ticket_lifetime,
    })
}

/// The keys that mean nothing where TLS is passed on.
pub(super) fn refuse(fields: &mut Fields<'_>, checker: &mut Checker<'_>) {
    for name in [
        "certificates",
        "alpn",
        "min_version",
        "client_ca",
        "client_auth",
        "client_crl",
        "ticket_keys",
        "ticket_lifetime",
    ] {
        if let Some(item) = fields.take(name) {
            checker.conflict(&item, "this goes with mode = \"terminate\": here the backends end TLS", None);
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

/// Where what is said of a certificate is to be told.
struct Place<'t> {
    /// The whole of it.
    element: Item<'t>,
    chain: Option<Item<'t>>,
    key: Option<Item<'t>>,
    ocsp: Option<Item<'t>>,
}

impl<'t> Place<'t> {
    fn of(&self, fault: &CertificateFault, files: &CertificateFiles) -> &Item<'t> {
        let own = if fault.path == files.key && files.key != files.chain {
            &self.key
        } else if Some(&fault.path) == files.ocsp.as_ref() {
            &self.ocsp
        } else {
            &self.chain
        };
        own.as_ref().unwrap_or(&self.element)
    }
}

fn certificates_of(item: &Item<'_>, app_name: &str, checker: &mut Checker<'_>) -> Option<CertificateStore> {
    let elements = app::elements(item, CERTIFICATES, checker);
    let mut files: Vec<CertificateFiles> = Vec::new();
    let mut places: Vec<Place<'_>> = Vec::new();
    // The place of each certificate.
    let mut place_of: Vec<usize> = Vec::new();
    let mut is_whole = !elements.is_empty();
    for element in elements {
        let Some((found, place)) = element_of(&element, checker) else {
            is_whole = false;
            continue;
        };
        place_of.extend(std::iter::repeat_n(places.len(), found.len()));
        places.push(place);
        files.extend(found);
    }
    if files.is_empty() {
        return None;
    }
    let all = files.clone();
    let before = checker.known.and_then(|known| known.certificates(app_name));
    let (store, faults) = match CertificateStore::read(files, before) {
        Ok(store) => {
            let faults = look_at(&store, checker);
            (Some(store), faults)
        }
        // Few can be looked at to the end, so that nothing is found later only.
        Err(_) if all.len() <= LOADED_AT_ONCE_MAX => (None, CertificateStore::faults(&all)),
        Err(faults) => (None, faults),
    };
    let mut told: Vec<usize> = vec![0; places.len()];
    for fault in &faults {
        let number = place_of[fault.number];
        let place = &places[number];
        told[number] += 1;
        match (&place.chain, told[number]) {
            (Some(_), _) => {
                checker.conflict(place.of(fault, &all[fault.number]), told_of(fault), None);
            }
            (None, ..=FAULTS_OF_DIRECTORY_MAX) => checker.conflict(&place.element, fault.to_string(), None),
            (None, _) => {}
        }
    }
    for (place, count) in places.iter().zip(told) {
        if place.chain.is_none() && count > FAULTS_OF_DIRECTORY_MAX {
            let more = count - FAULTS_OF_DIRECTORY_MAX;
            checker.conflict(&place.element, format!("and {more} more certificates are faulty"), None);
        }
    }
    store.filter(|_| is_whole && faults.is_empty())
}

/// What is wrong with certificates whose names could be read.
fn look_at(store: &CertificateStore, checker: &Checker<'_>) -> Vec<CertificateFault> {
    let mut faults = Vec::new();
    if store.len() <= LOADED_AT_ONCE_MAX {
        faults.extend(store.load_all().err().into_iter().flatten());
    } else if checker.verified_at.is_some() {
        faults.extend(store.verify(usize::MAX, 0).err().into_iter().flatten());
    }
    if let Some(now) = checker.verified_at {
        faults.extend(store.oddities(now));
    }
    faults
}

/// The path stands in the file already.
fn told_of(fault: &CertificateFault) -> String {
    match &fault.problem {
        CertificateProblem::Unreadable(error) => format!("the file cannot be read: {error}"),
        problem => problem.to_string(),
    }
}

/// One certificate, or those of a directory.
fn element_of<'t>(item: &Item<'t>, checker: &mut Checker<'_>) -> Option<(Vec<CertificateFiles>, Place<'t>)> {
    let mut fields = checker.table(item, CERTIFICATE)?;
    let directory = fields.take("directory");
    let chain = match directory {
        Some(_) => fields.take("chain"),
        None => fields.require("chain", "the path of a file with a certificate", checker),
    };
    let (key, ocsp) = (fields.take("key"), fields.take("ocsp"));
    fields.finish(checker);
    match (chain, directory) {
        (Some(chain), None) => {
            let files = CertificateFiles {
                chain: path(&chain, checker)?,
                key: match &key {
                    Some(key) => path(key, checker)?,
                    None => path(&chain, checker)?,
                },
                ocsp: match &ocsp {
                    Some(ocsp) => Some(path(ocsp, checker)?),
                    None => None,
                },
            };
            Some((vec![files], Place { element: item.clone(), chain: Some(chain), key, ocsp }))
        }
        (None, Some(directory)) => {
            for other in [&key, &ocsp].into_iter().flatten() {
                checker.conflict(other, "this goes with chain: a directory has keys and staples in it", None);
            }
            let path = path(&directory, checker)?;
            let found = match checker.known.and_then(|known| known.listing(&path)) {
                Some(found) => Ok(found.to_vec()),
                None => certificates_in(&path),
            };
            let place = Place { element: directory, chain: None, key: None, ocsp: None };
            match found {
                Ok(found) if found.is_empty() => {
                    checker.conflict(&place.element, "there is no certificate in this directory", None);
                    None
                }
                Ok(found) => Some((found, place)),
                Err(error) => {
                    let message = format!("the directory cannot be read: {error}");
                    checker.conflict(&place.element, message, None);
                    None
                }
            }
        }
        (Some(_), Some(directory)) => {
            checker.conflict(&directory, "this is a certificate by its chain already", None);
            None
        }
        (None, None) => None,
    }
}

/// Who clients have to be: `None` if that is not right, `Some(None)` if they are not asked.
#[expect(clippy::option_option, reason = "they differ")]
fn clients(fields: &mut Fields<'_>, checker: &mut Checker<'_>) -> Option<Option<ClientPolicy>> {
    let (ca, demand, crl) = (fields.take("client_ca"), fields.take("client_auth"), fields.take("client_crl"));
    let demands = [("required", Demand::Required), ("optional", Demand::Optional)];
    let is_faulty = |found: &Option<Demand>| demand.is_some() && found.is_none();
    let chosen = demand.as_ref().and_then(|item| checker.choice(item, &demands, &[]));
    let Some(ca) = ca else {
        for item in [&demand, &crl].into_iter().flatten() {
            checker.conflict(item, "nobody is asked for a certificate: there is no client_ca", None);
        }
        return (demand.is_none() && crl.is_none()).then_some(None);
    };
    let mut crls: Vec<(PathBuf, Item<'_>)> = Vec::new();
    let elements = match &crl {
        Some(item) if matches!(item.node.value, Value::Array(_)) => {
            app::elements(item, "an array of paths", checker)
        }
        Some(item) => vec![item.clone()],
        None => Vec::new(),
    };
    for element in elements {
        crls.push((path(&element, checker)?, element));
    }
    if is_faulty(&chosen) {
        return None;
    }
    let paths: Vec<PathBuf> = crls.iter().map(|(path, _)| path.clone()).collect();
    let policy = ClientPolicy::read(chosen.unwrap_or(Demand::Required), &path(&ca, checker)?, &paths);
    let faults = match policy {
        Ok(policy) => return Some(Some(policy)),
        Err(faults) => faults,
    };
    for fault in faults {
        let of_list = crls.iter().find(|(path, _)| fault.is_revocation_list && *path == fault.path);
        let item = of_list.map_or(&ca, |(_, item)| item);
        checker.conflict(item, format!("of the file: {}", fault.problem), None);
    }
    None
}

fn ticket_keys(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<TicketSecrets> {
    let path = path(item, checker)?;
    match TicketSecrets::read(&path) {
        Ok(secrets) => Some(secrets),
        Err(problem) => {
            checker.conflict(item, format!("of the file: {problem}"), None);
            None
        }
    }
}

fn path(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let path = checker.text(item, PATH)?;
    Some(checker.directory_to_read().join(path))
}

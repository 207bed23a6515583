//! TLS to backends.

use std::path::PathBuf;

use ringway::tls::ClientTerms;

use super::{App, Target};

/// `[app.backend_tls]`. What stands in files has been read: another content makes other terms.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendTls {
    /// Whether certificates of backends are verified. Default yes.
    pub verify: bool,
    /// A file of authorities; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The name that is asked for and verified; `None`: that of the backend, as the configuration has it.
    pub server_name: Option<String>,
    /// Who this end is, where backends ask: files of a certificate and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Application protocols that are offered, the preferred one first; empty: none are.
    pub alpn: Vec<String>,
    /// Made of these.
    pub terms: ClientTerms,
}

impl BackendTls {
    /// The name, or the IP address, that a backend of `app` is asked for and has to have a certificate for.
    pub fn name_of(&self, app: &App, backend: &str) -> Option<String> {
        self.server_name.clone().or_else(|| name_of_backend(app, backend))
    }
}

/// The host name or IP address of a backend of `app`, as the configuration has it.
pub fn name_of_backend(app: &App, backend: &str) -> Option<String> {
    let backend = app.backends.iter().find(|other| other.name == backend)?;
    match &backend.target {
        Target::Host { name, .. } => Some(name.clone()),
        Target::Address(address) => Some(address.inet()?.ip().to_canonical().to_string()),
        // Its hosts are the resolver's word.
        Target::Service { .. } => None,
    }
}

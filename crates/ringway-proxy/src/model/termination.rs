//! `[app.tls]` with `mode = "terminate"`: by what TLS is ended here.

use std::sync::Arc;
use std::time::Duration;

use ringway::tls::{CertificateStore, ClientPolicy, TicketSecrets, TlsVersion};

/// By what an app ends TLS. What stands in files has been read: another version of a file is another termination.
#[derive(Clone, Debug, PartialEq)]
pub struct Termination {
    /// The certificates, the default one first.
    pub certificates: Arc<CertificateStore>,
    /// Application protocols, the preferred one first.
    pub alpn: Vec<String>,
    /// The oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// Who clients have to be; `None`: they are not asked.
    pub clients: Option<ClientPolicy>,
    /// Keys of tickets that other machines have, too; `None`: the process makes its own.
    pub ticket_keys: Option<TicketSecrets>,
    /// How long a client may go on with a session of earlier; `None`: it cannot. Default 6 h.
    pub ticket_lifetime: Option<Duration>,
}

impl Termination {
    /// What a client that offers these protocols agrees on, if anything.
    pub fn agrees_on(&self, offers: &dyn Fn(&[u8]) -> bool) -> Option<&str> {
        self.alpn.iter().map(String::as_str).find(|protocol| offers(protocol.as_bytes()))
    }

    /// The default of `ticket_lifetime`: long enough for a visit, and less than what a stolen key would be worth.
    pub const TICKET_LIFETIME: Duration = Duration::from_secs(6 * 3_600);
}

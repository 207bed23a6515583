//! TLS 1.2 and 1.3: one interface over one connection, server or client.
//!
//! [`Conversation`] takes bytes in and gives bytes to send, payload, and what was agreed. It reads no socket and holds no
//! buffer while nothing is incomplete. It is a [`Layer`](crate::layer::Layer), so that a
//! [`TransformRelay`](crate::relay::TransformRelay) can have TLS on either side. [`ServerTerms`] is what connections are
//! accepted by, of an app as a whole.
//!
//! Below it is rustls on aws-lc-rs, by its unbuffered connections: nothing outside this module names one. They shake hands; from
//! then on records are sealed and opened here, by the keys that rustls gives away, in one pass from where payload was read to
//! where it is sent from.
//!
//! Terms are made of a [`CertificateStore`], which finds the certificate of a name among many, a [`ClientPolicy`] for mutual TLS,
//! and [`TicketKeys`], which all workers share.

mod certificates;
mod client_auth;
mod client_terms;
mod conversation;
mod failure;
mod file;
mod provider;
mod terms;
mod tickets;
mod traffic;

pub use certificates::{
    CertificateFault, CertificateFiles, CertificateProblem, CertificateReport, CertificateStore,
    certificates_in,
};
pub use client_auth::{ClientPolicy, ClientPolicyFault, Demand, name_of_client};
pub use client_terms::{ClientTerms, ClientTermsError, ClientTermsPlan, Trust};
pub use conversation::{Agreed, Conversation, Progress};
pub use failure::{Failure, FailureKind};
pub use terms::{ServerTerms, ServerTermsPlan, TlsVersion};
pub use tickets::{MadeKey, TICKET_LIFETIME_MAX, TicketKeys, TicketSecrets};

#[cfg(test)]
mod tests;

//! TLS 1.2 and 1.3: one interface over one connection, server or client.
//!
//! [`Conversation`] takes bytes in and gives bytes to send, payload, and what was agreed. It reads no socket and holds no
//! buffer while nothing is incomplete. It is a [`Layer`](crate::layer::Layer), so that a
//! [`TransformRelay`](crate::relay::TransformRelay) can have TLS on either side. [`ServerTerms`] is what connections are
//! accepted by, of an app as a whole.
//!
//! Below it is rustls on aws-lc-rs, by its unbuffered connections: nothing outside this module names one.

mod conversation;
mod failure;
mod provider;
mod terms;

pub use conversation::{Agreed, Conversation, Progress};
pub use failure::{Failure, FailureKind};
pub use rustls::sign::CertifiedKey;
pub use terms::{ServerTerms, TermsError, certified_key};

#[cfg(test)]
mod tests;

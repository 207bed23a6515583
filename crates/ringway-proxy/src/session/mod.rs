//! One proxied connection, from accept to its one line in the access log.
//!
//! Pure: [`tcp::Session`] is told what happened and when, and answers with what is to be done. `worker` does it.

mod close_reason;
mod moved;
mod peer;
pub mod progress;
pub mod record;
mod slab;
pub mod tcp;

pub use close_reason::{CloseReason, Ending, Initiator, Phase};
pub use moved::{CarriedAddresses, EndpointName, SessionFacts};
pub use peer::{Peer, PeerTable};
pub use slab::Slab;

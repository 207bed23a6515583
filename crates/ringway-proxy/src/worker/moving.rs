//! Connections between workers: what travels, and what a worker is asked and told.
//!
//! A worker that is asked to give connections away freezes their sessions, takes their sockets out of its engine, and
//! hands over all of them at once. Whoever gets them puts them into another worker, or back into the same one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ringway::{ExportedConnection, Mailer};

use super::connections::OwnPace;
use super::{Parcel, WorkerMail};
use crate::admission::{HandshakePermit, Seat, SourcePermit};
use crate::control::access_log::Asked;
use crate::endpoint::{AppState, Endpoint, FrontendState};
use crate::session::SessionFacts;

/// A proxied connection on its way: all that it is, its sockets, and its places in the counts of the process.
///
/// It has to arrive somewhere: dropped, its sockets are closed without a line in the access log, and its places are
/// never given back.
#[derive(Debug)]
pub struct MovedSession {
    pub(super) facts: SessionFacts,
    pub(super) client: ExportedConnection,
    /// There is one if bytes flow.
    pub(super) backend: Option<ExportedConnection>,
    pub(super) claims: Claims,
}

/// What a connection holds of what all workers of a process share. It stays counted while it is on its way.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) app: Arc<AppState>,
    /// Where its backends are: the app itself, or the pool of its route.
    pub(super) pool: Arc<AppState>,
    /// What its client asked for.
    pub(super) asked: Option<Arc<Asked>>,
    pub(super) frontend: Arc<FrontendState>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) permit: Option<SourcePermit>,
    /// It has not said where it goes.
    pub(super) handshake: Option<HandshakePermit>,
    pub(super) seat: Option<Seat>,
    /// What it has used of its bandwidth.
    pub(super) pace: OwnPace,
}

impl MovedSession {
    /// All that it is, apart from its sockets.
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// The client's socket, with what is received, queued and ended of it.
    pub fn client(&self) -> &ExportedConnection {
        &self.client
    }

    /// The backend's socket, if bytes flow.
    pub fn backend(&self) -> Option<&ExportedConnection> {
        self.backend.as_ref()
    }
}

/// Which connections a worker gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All, whatever they do.
    All,
    /// So many of those that are relayed and have not moved a byte for a while.
    Idle {
        /// At most.
        count_max: u32,
        /// Without a byte in either direction.
        silence: Duration,
    },
}

/// What a worker gave away.
#[derive(Debug, Default)]
pub struct Taken {
    /// The connections.
    pub sessions: Vec<MovedSession>,
    /// Connections that were meant and stay.
    pub staying: Vec<Stayed>,
    /// Those that stand still where they are.
    pub held: Held,
}

/// A connection that was meant to be given away, and stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// Its number in the process, as in the access log.
    pub number: u64,
    /// Why.
    pub why: Staying,
}

/// Why a connection stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Staying {
    /// It is about to end: one of its sides is gone, and the other is given what came before.
    Ending,
    /// Its TLS ends here.
    Tls,
}

impl Staying {
    /// The word for people and for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ending => "ending",
            Self::Tls => "tls_that_ends_here",
        }
    }
}

/// Connections that stand still in their worker, because another process has copies of their sockets.
#[derive(Debug, Default)]
pub struct Held {
    /// How far each has come: records of progress, in pieces of about the size of a message.
    pub records: Vec<Vec<u8>>,
    /// How many of them carry bytes both ways.
    pub relaying: u64,
    /// Of how many one side has finished sending.
    pub half_closed: u64,
}

/// Where connections go that a worker gives away.
type Deliver = Arc<dyn Fn(Taken) -> Result<(), Taken> + Send + Sync>;

/// Asks a worker to give connections away.
#[derive(Clone)]
pub struct TakeOut {
    pub(super) which: Which,
    pub(super) deliver: Deliver,
}

impl TakeOut {
    /// `deliver` gets them all at once, also if there is none. If it gives them back, because nobody wants them
    /// any more, they go on in the worker that they came from.
    pub fn new(which: Which, deliver: impl Fn(Taken) -> Result<(), Taken> + Send + Sync + 'static) -> Self {
        Self { which, deliver: Arc::new(deliver) }
    }

    /// They go to the worker behind `to`. `done` is dropped when they have arrived.
    pub fn to_worker(which: Which, to: Mailer<WorkerMail>, done: impl Clone + Send + Sync + 'static) -> Self {
        Self::new(which, move |taken| {
            if taken.sessions.is_empty() {
                return Ok(());
            }
            let Taken { sessions, staying, held } = taken;
            let parcel = Parcel::new(Arrivals::new(sessions, done.clone()));
            if to.try_send(WorkerMail::PutIn(parcel.clone())).is_ok() {
                return Ok(());
            }
            let sessions = parcel.open().map_or_else(Vec::new, |arrivals| arrivals.sessions);
            Err(Taken { sessions, staying, held })
        })
    }
}

impl fmt::Debug for TakeOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOut").field("which", &self.which).finish_non_exhaustive()
    }
}

/// Connections that come to a worker by mail.
pub struct Arrivals {
    pub(super) sessions: Vec<MovedSession>,
    /// Dropped when they have arrived.
    _done: Box<dyn Send>,
}

impl Arrivals {
    /// Those of `sessions`. `done` is dropped when they have arrived.
    pub fn new(sessions: Vec<MovedSession>, done: impl Send + 'static) -> Self {
        Self { sessions, _done: Box::new(done) }
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrivals").field("sessions", &self.sessions).finish_non_exhaustive()
    }
}

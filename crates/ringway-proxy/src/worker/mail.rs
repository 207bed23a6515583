//! What the control plane and other workers tell a worker.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use ringway::Mailer;

use super::listening::LentListener;
use super::loading::Asker;
use super::moving::{Arrivals, MovedSession, TakeOut, Taken};
use crate::admission::{Bell, Call};
use crate::endpoint::Endpoint;
use crate::inspection::Inquiry;
use crate::session::progress::Progress;
use crate::snapshot::Adoption;

/// What the control plane, or another worker, tells a worker.
#[derive(Clone, Debug)]
pub enum WorkerMail {
    /// Go on by this snapshot. What is the same in it as in the one until now is not touched.
    Adopt(Adoption),
    /// The endpoints of an app changed: its state has the new set.
    Endpoints {
        /// Slot of the app.
        app: usize,
    },
    /// An app is drained, or is not any more: its state says which.
    Serve {
        /// Slot of the app.
        app: usize,
    },
    /// One of its clients that wait for a backend is called: there may be room.
    Room(Call),
    /// The certificate that one of its clients waits for is loaded, or cannot be.
    Loaded(Asker),
    /// Give connections away.
    TakeOut(TakeOut),
    /// Carry these on.
    PutIn(Parcel<Arrivals>),
    /// End these: nobody knows how far they went.
    Cut(Parcel<Arrivals>),
    /// Look at connections, or end some.
    Inspect(Inquiry),
    /// Add one: this worker turns.
    Beat(Arc<AtomicUsize>),
    /// Stop accepting, once what waits in the queues is accepted; let connections finish.
    Drain,
    /// Stop accepting and close all connections now.
    CloseNow,
    /// Give second handles to all listening sockets, and go on.
    Lend(mpsc::Sender<io::Result<Vec<LentListener>>>),
    /// Copy the sockets and the facts of some relays, which go on.
    CopyAhead(CopyAhead),
    /// Stand ready for these, which another process serves.
    Expect(Parcel<Arrivals>),
    /// Take all listening sockets out of the engine, and say when that is done: until it is decided which process
    /// serves, new clients wait in the kernel's queues.
    Rest(mpsc::Sender<Rested>),
    /// It stays this process: go on from where it came to rest.
    Resume,
    /// It was another process, which has died: end those that stand still, as nobody knows how far they went.
    CutHeld,
    /// It is another process: let go of those that stand still.
    LetGo(LetGo),
    /// Look again who waits in the queues of all listening sockets.
    LookAgain,
    /// It is another process: what was taken out of the engine, or stands still, is its own.
    Leave,
    /// It is this process: take over what another one left.
    Wake(Parcel<Legacy>),
}

/// A worker that came to rest.
#[derive(Debug)]
pub struct Rested {
    /// Which worker.
    pub worker: u32,
    /// The smallest number that no connection of it has had, in the process.
    pub next_number: u64,
    /// Its connections.
    pub taken: Taken,
}

/// Bytes of records in one message to another process, and descriptors: as many as one message of the channel holds, so that the
/// other process reads the first while the next is written.
pub const MESSAGE_BYTES: usize = 48 << 10;
/// See [`MESSAGE_BYTES`].
pub const MESSAGE_DESCRIPTORS: usize = 252;

/// Asks a worker to copy the sockets and the facts of some relays.
#[derive(Clone, Debug)]
pub struct CopyAhead {
    /// Which worker it is.
    pub worker: usize,
    /// The first place to look at.
    pub from: u32,
    /// The version of records that is written.
    pub version: u16,
    /// Gets them.
    pub reply: mpsc::Sender<CopiedAhead>,
}

/// Copies of relays that go on.
#[derive(Debug)]
pub struct CopiedAhead {
    /// Which worker they are of.
    pub worker: usize,
    /// Their records.
    pub records: Vec<u8>,
    /// Two of each: the client's socket and the backend's.
    pub descriptors: Vec<OwnedFd>,
    /// How many there are.
    pub count: u64,
    /// The place to go on from.
    pub next: Option<u32>,
}

impl CopiedAhead {
    /// None yet.
    pub(super) fn new(worker: usize) -> Self {
        Self { worker, records: Vec::new(), descriptors: Vec::new(), count: 0, next: None }
    }
}

/// Asks a worker to let go of connections that stand still.
#[derive(Clone, Debug)]
pub struct LetGo {
    /// The numbers of those that go on here: of each worker, to be named the first time.
    pub keep: Arc<BTreeSet<u64>>,
    /// Which worker this is.
    pub worker: usize,
    /// Hears which worker that is, and how many it has left.
    pub reply: mpsc::Sender<(usize, usize)>,
}

/// What another process leaves to a worker of this one.
#[derive(Debug)]
pub struct Legacy {
    /// Listening sockets.
    pub listeners: Vec<LentListener>,
    /// Connections.
    pub sessions: Vec<MovedSession>,
    /// How far those have come that are expected.
    pub progress: Vec<Progress>,
    /// Whether it was said of all: then those of which nothing was said have ended where they were.
    pub is_whole: bool,
    /// The smallest number that no connection of the other process has had.
    pub next_number: u64,
    /// Endpoints that are left out because too many of their connections failed, with the slot of their app or pool: this
    /// worker takes them back when their time is over.
    pub outliers: Vec<(usize, Arc<Endpoint>)>,
    /// Told when the worker has gone on.
    pub awake: mpsc::Sender<()>,
}

/// Something that cannot be copied, in mail that can: whoever opens it first gets it.
#[derive(Debug)]
pub struct Parcel<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Parcel<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Parcel<T> {
    /// Packs it.
    pub fn new(content: T) -> Self {
        Self(Arc::new(Mutex::new(Some(content))))
    }

    /// What is in it; none if somebody has opened it before.
    pub fn open(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Calls clients of a worker by mail.
pub(super) struct MailBell(pub(super) Mailer<WorkerMail>);

impl Bell for MailBell {
    fn ring(&self, call: Call) {
        self.0.send(WorkerMail::Room(call));
    }
}

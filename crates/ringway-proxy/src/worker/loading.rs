//! Loading certificates that clients ask for and that nobody has loaded yet: workers never wait for a file.
//!
//! Whatever certificates are few, or have room, is loaded before. The others a thread loads, one for the process, while the
//! hello of the client waits where it is.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ringway::Mailer;
use ringway::tls::CertificateStore;

use super::mail::WorkerMail;

/// So many clients may wait for a certificate: with a disk that is slow they are few, and with one that hangs nobody gets any.
const WAITING_MAX: usize = 1_024;

/// Has certificates loaded. Cheap to clone: all clones are one.
#[derive(Clone, Default)]
pub struct Loader {
    /// To its thread, which is made when the first one is needed.
    line: Arc<Mutex<Option<SyncSender<Order>>>>,
}

/// What is to be loaded, and for whom.
pub(super) struct Order {
    pub(super) certificates: Arc<CertificateStore>,
    pub(super) host: Option<Box<str>>,
    /// To its worker.
    pub(super) mailer: Mailer<WorkerMail>,
    pub(super) client: Asker,
}

/// Which client waits for its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Place of its session in its worker.
    pub place: u32,
    /// Its number there.
    pub number: u32,
}

impl Loader {
    /// Takes an order, after which the worker gets [`WorkerMail::Loaded`]; says whether there is room for it.
    pub(super) fn order(&self, order: Order) -> bool {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_none() {
            let (sender, receiver) = sync_channel(WAITING_MAX);
            let thread = thread::Builder::new().name("loader".to_owned());
            match thread.spawn(move || load(&receiver)) {
                Ok(_) => *line = Some(sender),
                // There may be room for a thread when the next client asks.
                Err(error) => tracing::debug!(%error, "no thread to load certificates"),
            }
        }
        line.as_ref().is_some_and(|line| line.try_send(order).is_ok())
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}

/// Loads until nobody can ask for more.
fn load(orders: &Receiver<Order>) {
    for Order { certificates, host, mailer, client } in orders {
        certificates.prepare(host.as_deref());
        mailer.send(WorkerMail::Loaded(client));
    }
}

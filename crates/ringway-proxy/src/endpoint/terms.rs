//! By what an app ends TLS: made of its configuration, and of the keys of its tickets, which stay while that changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringway::tls::{MadeKey, ServerTerms, ServerTermsPlan, TicketKeys, TicketSecrets};

use crate::model::Termination;

/// The keys of an app's tickets, for all workers and all its configurations.
#[derive(Debug, Default)]
pub(super) struct TicketOffice {
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    given: Option<TicketSecrets>,
    lifetime: Duration,
    keys: Arc<TicketKeys>,
}

impl TicketOffice {
    /// The terms of a configuration of the app of this name. They read no file: what is not loaded the worker has loaded.
    pub(super) fn terms(&self, app: &str, termination: &Termination) -> ServerTerms {
        ServerTerms::new(ServerTermsPlan {
            alpn: termination.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
            min_version: termination.min_version,
            clients: termination.clients.clone(),
            tickets: termination.ticket_lifetime.map(|lifetime| self.keys(lifetime, termination)),
            owner: app.to_owned(),
            ..ServerTermsPlan::new(termination.certificates.only_loaded())
        })
    }

    /// The keys until now, if they are still what is asked for.
    fn keys(&self, lifetime: Duration, termination: &Termination) -> Arc<TicketKeys> {
        let given = &termination.ticket_keys;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*open
            && (&open.given, open.lifetime) == (given, lifetime)
        {
            return Arc::clone(&open.keys);
        }
        let keys = Arc::new(match given {
            Some(secrets) => TicketKeys::given(secrets, lifetime),
            None => TicketKeys::random(lifetime),
        });
        *open = Some(Open { given: given.clone(), lifetime, keys: Arc::clone(&keys) });
        keys
    }

    /// The keys that this process, or one before it, has made.
    pub(super) fn made(&self) -> Vec<MadeKey> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| open.keys.made()).unwrap_or_default()
    }

    /// Goes on with keys of the process before.
    pub(super) fn go_on_with(&self, made: &[MadeKey]) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*open {
            open.keys.go_on_with(made);
        }
    }
}

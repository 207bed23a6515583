//! A server that another process can follow.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringway_engine::{Listener, SocketAddress};

use super::carrier::{Carrier, CarrierMail};
use super::old::{self, House};
use super::{Handover, HandoverError, HandoverReport, Progress, VARIABLE, new};
use crate::server::RunningServer;
use crate::{Mailer, Server};

/// How long a new process may take until it is ready, if nobody says how long.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    /// As [`start`](Self::start), for handlers whose connections can go on in another process.
    ///
    /// In a process that [`SuccessionServer::hand_over`] started, this takes over from the one that did: it listens where
    /// that one listened, and its handlers get the connections. Call it early: everything that touches a socket of the
    /// server, or asks the engine's clock for the time, comes after it.
    ///
    /// `observe` is told of each step of a hand-over, in either role, after it was taken.
    ///
    /// # Errors
    /// As for `start`; and, in a process that was to take over, why it does not. The other one goes on then.
    pub fn start_succession<H, F, O>(self, make: F, observe: O) -> io::Result<SuccessionServer<H::Mail>>
    where
        H: Handover + 'static,
        F: Fn(usize) -> H + Clone + Send + 'static,
        O: Fn(Progress) + Send + 'static,
    {
        let old = std::env::var_os(VARIABLE).map(|path| new::reach(Path::new(&path))).transpose()?.flatten();
        let (running, listeners) = match old {
            Some(channel) => new::take_over(&self, channel, make, &observe)?,
            None => {
                let (running, handles) = self.spawn(&self.addresses, move |index, ids| {
                    Carrier::new(make(index), index, ids.into_iter().zip(0..).collect())
                })?;
                let of_worker = |worker: Vec<Listener>| (0..).zip(worker).collect::<Vec<_>>();
                (running, handles.into_iter().flat_map(of_worker).collect())
            }
        };
        let bound =
            |place: u32| listeners.iter().find(|(p, _)| *p == place).map(|(_, l)| l.address().clone());
        let addresses =
            (0..).zip(&self.addresses).map(|(p, a)| bound(p).unwrap_or_else(|| a.clone())).collect();
        Ok(SuccessionServer {
            running,
            addresses,
            listeners,
            state_version: H::STATE_VERSION,
            patience: PATIENCE,
            was_followed: false,
            observe: Box::new(observe),
        })
    }
}

/// A server that runs, and that another process can follow.
pub struct SuccessionServer<M> {
    running: RunningServer<CarrierMail<M>>,
    addresses: Vec<SocketAddress>,
    listeners: Vec<(u32, Listener)>,
    state_version: u32,
    patience: Duration,
    was_followed: bool,
    observe: Box<dyn Fn(Progress) + Send>,
}

/// Sends mail to a worker's handler from any thread. While a hand-over goes on, mail waits.
pub struct SuccessionMailer<M>(Mailer<CarrierMail<M>>);

impl<M> SuccessionMailer<M> {
    /// Puts `mail` into the worker's box and wakes it.
    pub fn send(&self, mail: M) {
        self.0.send(CarrierMail::User(mail));
    }
}

impl<M: Send + 'static> SuccessionServer<M> {
    /// The addresses it listens on, in the order they were given, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddress] {
        &self.addresses
    }

    /// A way to send mail to each worker.
    pub fn mailers(&self) -> Vec<SuccessionMailer<M>> {
        self.running.mailers().iter().cloned().map(SuccessionMailer).collect()
    }

    /// How long a new process may take until it is ready. Default: 10 seconds.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Starts another process and hands everything over to it: it calls [`Server::start_succession`] with as many
    /// addresses, or more. Blocks until that one serves; connections stand still for some milliseconds at the end of it.
    ///
    /// Afterwards this process holds nothing but the connections that the other one did not take; [`Self::join`] waits
    /// for their end.
    ///
    /// # Errors
    /// Why it was called off. Then this process goes on as before, and the other one was ended.
    pub fn hand_over(&mut self, command: Command) -> Result<HandoverReport, HandoverError> {
        if self.was_followed {
            let error = io::Error::new(io::ErrorKind::NotConnected, "another process serves already");
            return Err(HandoverError::Local(error));
        }
        let house = House {
            mailers: self.running.mailers(),
            listeners: &self.listeners,
            addresses: self.addresses.len(),
            state_version: self.state_version,
            patience: self.patience,
            observe: &*self.observe,
        };
        let report = old::hand_over(house, command)?;
        self.was_followed = true;
        // The new process's handles keep the queues.
        self.listeners.clear();
        Ok(report)
    }

    /// Waits until every worker's handler is finished; after a hand-over, until no connection is left.
    ///
    /// # Errors
    /// The first failure of a worker's kernel interface.
    ///
    /// # Panics
    /// If a handler panicked.
    pub fn join(self) -> io::Result<()> {
        drop(self.listeners);
        self.running.join()
    }
}

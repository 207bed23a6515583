//! SIGTERM and SIGINT, as events; SIGHUP, as a request to reload; SIGUSR2, as one to upgrade.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::lifecycle::Event;
use super::reload::{Requests, Wanted};
use super::upgrade::Order;
use crate::snapshot::Origin;

/// Sends an event for each signal that asks the process to end, and a request for each that asks for a reload or an
/// upgrade, from now on.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn forward(events: UnboundedSender<Event>, requests: Requests) -> io::Result<()> {
    for (name, kind) in [("SIGTERM", SignalKind::terminate()), ("SIGINT", SignalKind::interrupt())] {
        let mut signals = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && events.send(Event::Signal(name)).is_ok() {}
        });
    }
    let mut hangups = signal(SignalKind::hangup())?;
    let reloads = requests.clone();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // The log tells what came of it.
            let _ = reloads.apply(Wanted::File, Origin::Signal).await;
        }
    });
    let mut upgrades = signal(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        while upgrades.recv().await.is_some() {
            // One after the other; the log tells what came of it.
            let mut journal = requests.upgrade(Order::default());
            while journal.recv().await.is_some() {}
        }
    });
    Ok(())
}

//! SIGTERM and SIGINT, as events.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::lifecycle::Event;

/// Sends an event for each signal that asks the process to end, from now on.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn forward(events: UnboundedSender<Event>) -> io::Result<()> {
    for (name, kind) in [("SIGTERM", SignalKind::terminate()), ("SIGINT", SignalKind::interrupt())] {
        let mut signals = signal(kind)?;
        let events = events.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && events.send(Event::Signal(name)).is_ok() {}
        });
    }
    Ok(())
}

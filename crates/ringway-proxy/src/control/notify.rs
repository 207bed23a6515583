//! What systemd is told: that the process is ready, reads its configuration again, ends, and that its workers turn.
//!
//! The protocol of sd_notify(3): datagrams of `NAME=value` lines to the socket that NOTIFY_SOCKET names. Without it
//! nothing is sent.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells systemd.
#[derive(Clone, Debug)]
pub(super) struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    /// Goes by the environment.
    pub(super) fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self(None);
        };
        let connect = || {
            let address = match name.as_encoded_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(&name)?,
            };
            let socket = UnixDatagram::unbound()?;
            // A manager that does not read must not stop us.
            socket.set_nonblocking(true)?;
            socket.connect_addr(&address)?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                let error: std::io::Error = error;
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: the service manager hears nothing");
                Self(None)
            }
        }
    }

    /// The start, or a reload, is over.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again. [`ready`](Self::ready) ends this, whatever came of it.
    pub(super) fn reloading(&self) {
        // The manager tells by the time which of several reloads this belongs to.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"));
    }

    /// Another process serves from now on, and is the one to be watched.
    pub(super) fn main_process(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"));
    }

    /// The process ends.
    pub(super) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// How often the manager wants to hear that the process lives, if at all: twice as often as it says, as it advises.
fn watchdog_interval(micros: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let micros: u64 = micros?.parse().ok().filter(|micros| *micros > 0)?;
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    is_ours.then(|| Duration::from_micros(micros) / 2)
}

/// Asks all workers to count themselves; see [`watch`].
pub(super) trait Beating: Send + Sync + 'static {
    /// How many there are.
    fn workers(&self) -> usize;
    /// Each adds one when it has turned.
    fn ask(&self, count: &Arc<AtomicUsize>);
}

/// Feeds the manager's watchdog, for as long as each worker turns its loop.
pub(super) async fn watch(notifier: Notifier, workers: Arc<impl Beating>) {
    let environment = |name| std::env::var(name).ok();
    let (micros, pid) = (environment("WATCHDOG_USEC"), environment("WATCHDOG_PID"));
    if let (Some(_), Some(interval)) = (&notifier.0, watchdog_interval(micros.as_deref(), pid.as_deref())) {
        tracing::info!(?interval, "the service manager watches this process");
        feed(interval, &*workers, || notifier.send("WATCHDOG=1")).await;
    }
}

async fn feed(interval: Duration, workers: &impl Beating, alive: impl Fn()) {
    let mut is_late = false;
    loop {
        let count = Arc::new(AtomicUsize::new(0));
        workers.ask(&count);
        tokio::time::sleep(interval).await;
        let turned = count.load(Ordering::Relaxed);
        if turned == workers.workers() {
            is_late = false;
            alive();
        } else if !std::mem::replace(&mut is_late, true) {
            tracing::error!(
                turned,
                workers = workers.workers(),
                "a worker does not turn: the watchdog is not fed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Workers {
        workers: usize,
        turning: AtomicUsize,
    }

    impl Beating for Workers {
        fn workers(&self) -> usize {
            self.workers
        }
        fn ask(&self, count: &Arc<AtomicUsize>) {
            count.store(self.turning.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_turn_starves_the_watchdog() {
        let workers = Workers { workers: 3, turning: AtomicUsize::new(3) };
        let fed = Cell::new(0);
        let second = Duration::from_secs(1);
        let feed = async {
            tokio::select! {
                () = feed(second, &workers, || fed.set(fed.get() + 1)) => {}
                () = async {
                    tokio::time::sleep(second * 3 + second / 2).await;
                    assert_eq!(fed.get(), 3);
                    workers.turning.store(2, Ordering::Relaxed);
                    // What was asked for before is still answered.
                    tokio::time::sleep(second * 10).await;
                    assert_eq!(fed.get(), 4);
                    workers.turning.store(3, Ordering::Relaxed);
                    tokio::time::sleep(second * 3).await;
                    assert!(fed.get() > 4);
                } => {}
            }
        };
        feed.await;
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let own = std::process::id().to_string();
        assert_eq!(watchdog_interval(Some("3000000"), None), Some(Duration::from_millis(1_500)));
        assert_eq!(watchdog_interval(Some("3000000"), Some(&own)), Some(Duration::from_millis(1_500)));
        assert_eq!(watchdog_interval(Some("3000000"), Some("1")), None);
        assert_eq!(watchdog_interval(Some("0"), None), None);
        assert_eq!(watchdog_interval(Some("soon"), None), None);
        assert_eq!(watchdog_interval(None, None), None);
    }
}

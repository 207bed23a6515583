//! The life of the process from the first accept to its exit: serve, drain, cut.
//!
//! One signal makes it drain: no new connections, those that are open may finish until `drain_timeout` is over. A
//! second signal, or the end of that time, cuts what is left. A worker that fails ends the process at once.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::exit::Exit;

/// Workers that do not end within this time after they were told to cut everything are stuck.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the control plane reacts to.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal that asks for the end.
    Signal(&'static str),
    /// An operator asks for the end. Unlike a second signal, asking again changes nothing.
    Drain,
    /// The endpoints of an app changed.
    Endpoints {
        /// Slot of the app.
        app: usize,
    },
    /// Another process serves from now on. What is left here may finish, as in a drain.
    HandedOver,
    /// A worker thread came to its end.
    Ended {
        /// Name of the thread.
        thread: String,
        /// Whether its engine worked to the end.
        result: io::Result<()>,
    },
}

/// The threads that carry connections, as far as this module needs them.
pub(super) trait Fleet {
    /// Worker threads; each sends one [`Event::Ended`].
    fn workers(&self) -> usize;
    /// Tells everyone that an app has new endpoints.
    fn publish(&self, app: usize);
    /// Tells the workers to accept no more, and to end once their connections have.
    fn drain(&self);
    /// Tells the workers that another process listens now, and to end once what is left to them has ended.
    fn leave(&self);
    /// Tells the workers to cut all connections and end.
    fn close_now(&self);
    /// Connections of clients that are open.
    fn open(&self) -> u64;
    /// Connections so far: `(that ended, of these cut by the end of the process)`.
    fn ended(&self) -> (u64, u64);
}

enum Phase {
    Serving,
    Draining { until: Instant },
    Cutting { until: Instant },
}

/// Runs until the last worker has ended; says how it went.
pub(super) async fn run(
    fleet: &impl Fleet,
    events: &mut UnboundedReceiver<Event>,
    drain_timeout: impl Fn() -> Duration,
    on_drain: impl FnOnce(),
) -> Exit {
    let mut phase = Phase::Serving;
    let mut running = fleet.workers();
    let mut on_drain = Some(on_drain);
    let mut ended_before = 0;
    while running > 0 {
        let Some(event) = next(&phase, events).await else {
            match phase {
                Phase::Serving => {}
                Phase::Draining { .. } => {
                    tracing::warn!(connections = fleet.open(), "drain timeout is over: cutting connections");
                    phase = cut(fleet);
                }
                Phase::Cutting { .. } => {
                    tracing::error!(workers = running, "workers did not end");
                    return Exit::Failed;
                }
            }
            continue;
        };
        match event {
            Event::Endpoints { app } => fleet.publish(app),
            Event::Ended { thread, result: Err(error) } => {
                tracing::error!(thread, %error, "the engine failed: the process ends");
                return Exit::Failed;
            }
            Event::Ended { thread, result: Ok(()) } => {
                if matches!(phase, Phase::Serving) {
                    tracing::error!(thread, "a thread ended before it was told to: the process ends");
                    return Exit::Failed;
                }
                running -= 1;
            }
            Event::Drain if !matches!(phase, Phase::Serving) => {}
            Event::HandedOver => {
                ended_before = fleet.ended().0;
                on_drain = None;
                fleet.leave();
                let connections = fleet.open();
                if connections > 0 {
                    let drain_timeout = drain_timeout();
                    tracing::info!(
                        connections,
                        ?drain_timeout,
                        "handed over: what could not move may finish here"
                    );
                }
                phase = Phase::Draining { until: Instant::now() + drain_timeout() };
            }
            Event::Drain | Event::Signal(_) => {
                let signal = if let Event::Signal(signal) = event { signal } else { "ringway drain" };
                phase = match phase {
                    Phase::Serving => {
                        if let Some(on_drain) = on_drain.take() {
                            on_drain();
                        }
                        ended_before = fleet.ended().0;
                        let drain_timeout = drain_timeout();
                        tracing::info!(
                            signal,
                            connections = fleet.open(),
                            drain_timeout = ?drain_timeout,
                            "draining: no new connections; another signal cuts those that are open"
                        );
                        fleet.drain();
                        Phase::Draining { until: Instant::now() + drain_timeout }
                    }
                    Phase::Draining { .. } => {
                        tracing::warn!(signal, connections = fleet.open(), "cutting connections");
                        cut(fleet)
                    }
                    cutting @ Phase::Cutting { .. } => cutting,
                };
            }
        }
    }
    let (ended, cut) = fleet.ended();
    let finished = ended.saturating_sub(ended_before).saturating_sub(cut);
    if cut > 0 {
        tracing::warn!(finished, cut, "ended: connections were cut");
        Exit::Cut
    } else {
        tracing::info!(finished, cut, "ended: all connections finished");
        Exit::Finished
    }
}

/// The next event; none when the phase's time is over first.
async fn next(phase: &Phase, events: &mut UnboundedReceiver<Event>) -> Option<Event> {
    match phase {
        Phase::Serving => events.recv().await,
        Phase::Draining { until } | Phase::Cutting { until } => {
            timeout_at(*until, events.recv()).await.ok().flatten()
        }
    }
}

fn cut(fleet: &impl Fleet) -> Phase {
    fleet.close_now();
    Phase::Cutting { until: Instant::now() + CUT_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    /// Two workers with connections; what they are told they do.
    struct Fake {
        told: RefCell<Vec<&'static str>>,
        events: UnboundedSender<Event>,
        open: Cell<u64>,
        cut: Cell<u64>,
        /// Workers end when told to cut.
        obedient: bool,
    }

    impl Fake {
        fn end_workers(&self) {
            for index in 0..2 {
                let ended = Event::Ended { thread: format!("worker-{index}"), result: Ok(()) };
                self.events.send(ended).expect("it is read");
            }
        }
    }

    impl Fleet for Fake {
        fn workers(&self) -> usize {
            2
        }
        fn publish(&self, _app: usize) {
            self.told.borrow_mut().push("endpoints");
        }
        fn drain(&self) {
            self.told.borrow_mut().push("drain");
            if self.open.get() == 0 {
                self.end_workers();
            }
        }
        fn leave(&self) {
            self.told.borrow_mut().push("leave");
            if self.open.get() == 0 {
                self.end_workers();
            }
        }
        fn close_now(&self) {
            self.told.borrow_mut().push("close_now");
            if self.obedient {
                self.cut.set(self.open.replace(0));
                self.end_workers();
            }
        }
        fn open(&self) -> u64 {
            self.open.get()
        }
        fn ended(&self) -> (u64, u64) {
            (10 - self.open.get(), self.cut.get())
        }
    }

    fn fake(open: u64) -> (Fake, UnboundedReceiver<Event>) {
        let (events, receiver) = unbounded_channel();
        let fake = Fake {
            told: RefCell::default(),
            events,
            open: Cell::new(open),
            cut: Cell::new(0),
            obedient: true,
        };
        (fake, receiver)
    }

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_signal_drains_and_the_end_is_good_when_all_connections_finish() {
        let (fleet, mut events) = fake(0);
        fleet.events.send(Event::Signal("SIGTERM")).expect("it is read");
        let drained = Cell::new(false);
        let exit = run(&fleet, &mut events, || TIMEOUT, || drained.set(true)).await;
        assert_eq!(exit, Exit::Finished);
        assert!(drained.get());
        assert_eq!(*fleet.told.borrow(), ["drain"]);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_outlast_the_drain_are_cut_and_the_exit_says_so() {
        let (fleet, mut events) = fake(3);
        fleet.events.send(Event::Signal("SIGTERM")).expect("it is read");
        let start = Instant::now();
        assert_eq!(run(&fleet, &mut events, || TIMEOUT, || ()).await, Exit::Cut);
        assert_eq!(start.elapsed(), TIMEOUT);
        assert_eq!(*fleet.told.borrow(), ["drain", "close_now"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_process_did_not_take_over_may_finish_until_the_drain_timeout() {
        for (open, exit) in [(0, Exit::Finished), (3, Exit::Cut)] {
            let (fleet, mut events) = fake(open);
            fleet.events.send(Event::HandedOver).expect("it is read");
            let drained = Cell::new(false);
            assert_eq!(run(&fleet, &mut events, || TIMEOUT, || drained.set(true)).await, exit);
            assert!(!drained.get(), "the address is served all the time");
            assert_eq!(fleet.told.borrow()[0], "leave");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_may_ask_twice_and_cuts_nothing() {
        let (fleet, mut events) = fake(3);
        for _ in 0..2 {
            fleet.events.send(Event::Drain).expect("it is read");
        }
        let start = Instant::now();
        assert_eq!(run(&fleet, &mut events, || TIMEOUT, || ()).await, Exit::Cut);
        assert_eq!(start.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_cuts_at_once() {
        let (fleet, mut events) = fake(3);
        for signal in ["SIGTERM", "SIGINT", "SIGINT"] {
            fleet.events.send(Event::Signal(signal)).expect("it is read");
        }
        let start = Instant::now();
        assert_eq!(run(&fleet, &mut events, || TIMEOUT, || ()).await, Exit::Cut);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_do_not_end_are_not_waited_for_for_ever() {
        let (mut fleet, mut events) = fake(3);
        fleet.obedient = false;
        fleet.events.send(Event::Signal("SIGTERM")).expect("it is read");
        assert_eq!(run(&fleet, &mut events, || TIMEOUT, || ()).await, Exit::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_or_ends_unasked_ends_the_process() {
        for result in [Err(io::Error::other("epoll broke")), Ok(())] {
            let (fleet, mut events) = fake(3);
            fleet.events.send(Event::Ended { thread: "worker-0".to_owned(), result }).expect("it is read");
            assert_eq!(run(&fleet, &mut events, || TIMEOUT, || ()).await, Exit::Failed);
        }
    }
}

//! The threads that carry connections: the workers, and the prober beside them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ringway::{EngineConfig, Mailer};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::access_log::AccessLog;
use super::lifecycle::{Event, Fleet};
use super::notify::Beating;
use super::threads;
use crate::admission::Admission;
use crate::endpoint::{AppState, Endpoint};
use crate::inspection::Selection;
use crate::metrics::Metrics;
use crate::model::Server;
use crate::prober::{ProbeHandler, ProbeMail, ProbeSetup};
use crate::snapshot::{Adoption, Snapshot};
use crate::worker::{
    Arrivals, CopiedAhead, CopyAhead, LentListener, LetGo, Loader, MovedSession, Parcel, ProxyHandler,
    Rested, WorkerMail, WorkerSetup,
};

/// When queues are looked at again after a process died that held them: by then its ring is gone for sure.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(2)];

/// A worker that lets go of some hundreds of connections answers within milliseconds: one that takes longer is stuck.
const LET_GO: Duration = Duration::from_secs(2);

/// What the threads share.
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
    /// Gets the connections that are to be closed because their backend went down.
    pub(super) down: UnboundedSender<Selection>,
}

/// The running threads.
pub(super) struct Crew {
    workers: Vec<Mailer<WorkerMail>>,
    /// None as long as no app wants its backends checked.
    prober: Mutex<Option<Mailer<ProbeMail>>>,
    engine: EngineConfig,
    congestion: Option<String>,
    events: UnboundedSender<Event>,
    down: UnboundedSender<Selection>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

impl Crew {
    /// Starts them.
    ///
    /// # Errors
    /// When there are no more threads, or an engine cannot be made.
    pub(super) fn start(
        parts: Parts,
        workers: usize,
        engine: &EngineConfig,
        events: &UnboundedSender<Event>,
        is_dormant: bool,
    ) -> io::Result<Self> {
        let mut mailers = Vec::with_capacity(workers);
        let loader = Loader::default();
        for index in 0..workers {
            let thread = format!("worker-{index}");
            let on_end = report_end(thread.clone(), events);
            let setup = WorkerSetup {
                worker: index as u32,
                workers: workers as u32,
                snapshot: Arc::clone(&parts.snapshot),
                admission: Arc::clone(&parts.admission),
                metrics: parts.metrics.worker(index),
                recorder: Box::new(parts.access_log.clone()),
                loader: loader.clone(),
                congestion: parts.server.congestion.clone(),
                // Processes and workers should not all choose the same at the same time.
                seed: RandomState::new().hash_one(index),
            };
            let make = if is_dormant { ProxyHandler::dormant } else { ProxyHandler::new };
            mailers.push(threads::spawn(&thread, engine, move |mailer| make(setup, mailer), on_end)?);
        }
        let crew = Self {
            workers: mailers,
            prober: Mutex::default(),
            engine: engine.clone(),
            congestion: parts.server.congestion,
            events: events.clone(),
            down: parts.down,
            admission: parts.admission,
            metrics: parts.metrics,
        };
        if !is_dormant {
            crew.probe_by(&parts.snapshot)?;
        }
        Ok(crew)
    }

    /// Checks backends from now on, if that is wanted: for a crew that was started dormant.
    pub(super) fn start_checks(&self, snapshot: &Arc<Snapshot>) {
        if let Err(error) = self.probe_by(snapshot) {
            tracing::error!(%error, "backends are not checked");
        }
    }

    /// Copies of all listening sockets of all workers.
    ///
    /// # Errors
    /// When there are no descriptors, or a worker does not answer in time.
    pub(super) fn lend(&self, deadline: Instant) -> io::Result<Vec<LentListener>> {
        let mut all = Vec::new();
        for of_worker in self.gather(WorkerMail::Lend, deadline)? {
            all.extend(of_worker?);
        }
        Ok(all)
    }

    /// Copies the sockets and the facts of relays, which go on meanwhile; `each` gets them a piece at a time.
    ///
    /// # Errors
    /// `TimedOut` when a worker does not answer in time; what `each` says.
    pub(super) fn copy_ahead(
        &self,
        version: u16,
        deadline: Instant,
        mut each: impl FnMut(CopiedAhead) -> io::Result<()>,
    ) -> io::Result<()> {
        let (reply, pieces) = mpsc::channel();
        let ask = |worker: usize, from: u32| {
            let request = CopyAhead { worker, from, version, reply: reply.clone() };
            self.workers[worker].send(WorkerMail::CopyAhead(request));
        };
        (0..self.workers.len()).for_each(|worker| ask(worker, 0));
        let mut outstanding = self.workers.len();
        while outstanding > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = pieces.recv_timeout(left).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            // It makes the next one while this one is sent.
            match piece.next {
                Some(from) => ask(piece.worker, from),
                None => outstanding -= 1,
            }
            each(piece)?;
        }
        Ok(())
    }

    /// Has each worker stand ready for connections that another process serves; done when all do.
    pub(super) fn expect(&self, sessions: Vec<Vec<MovedSession>>, done: &mpsc::Sender<()>) {
        for (worker, sessions) in self.workers.iter().zip(sessions) {
            if !sessions.is_empty() {
                worker.send(WorkerMail::Expect(Parcel::new(Arrivals::new(sessions, done.clone()))));
            }
        }
    }

    /// Lets go of all connections that stand still, but for those with these numbers, which go on; done when that is. What a
    /// worker that does not answer in time has left, it lets go of when it is told to leave.
    pub(super) fn let_go(&self, keep: BTreeSet<u64>) {
        let_go(&self.workers, &Arc::new(keep), LET_GO);
    }

    /// Brings all workers to rest. Gives those that are by then: all, unless one does not answer in time.
    pub(super) fn rest(&self, deadline: Instant) -> Vec<Rested> {
        let (reply, answers) = mpsc::channel();
        self.tell_workers(&WorkerMail::Rest(reply));
        let mut rested = Vec::with_capacity(self.workers.len());
        while rested.len() < self.workers.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(one) = answers.recv_timeout(left) else { break };
            rested.push(one);
        }
        rested
    }

    /// Has workers that came to rest go on, each with its connections.
    pub(super) fn resume(&self, sessions: Vec<(u32, Vec<MovedSession>)>) {
        self.put_in(sessions);
        self.tell_workers(&WorkerMail::Resume);
    }

    /// Ends connections of which nobody knows how far they went, each in its worker; and those that stand still.
    pub(super) fn cut(&self, sessions: Vec<(u32, Vec<MovedSession>)>) {
        self.tell_workers(&WorkerMail::CutHeld);
        for (worker, sessions) in sessions {
            if let Some(worker) = self.workers.get(worker as usize) {
                worker.send(WorkerMail::Cut(Parcel::new(Arrivals::new(sessions, ()))));
            }
        }
    }

    /// The other process that held the listening sockets has died. The kernel tells one waiter of a client, and the
    /// requests of a dead ring wait for a while longer than their process lives: so the queues are looked at again.
    pub(super) fn look_again(&self) {
        let workers = self.workers.clone();
        let look = move || {
            for pause in LOOK_AGAIN {
                std::thread::sleep(pause);
                workers.iter().for_each(|worker| worker.send(WorkerMail::LookAgain));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("look-again".to_owned()).spawn(look) {
            tracing::warn!(%error, "clients that came while the other process died may wait");
        }
    }

    /// Gives workers connections to carry on.
    pub(super) fn put_in(&self, sessions: Vec<(u32, Vec<MovedSession>)>) {
        for (worker, sessions) in sessions {
            if !sessions.is_empty()
                && let Some(worker) = self.workers.get(worker as usize)
            {
                worker.send(WorkerMail::PutIn(Parcel::new(Arrivals::new(sessions, ()))));
            }
        }
    }

    /// One answer of each worker.
    fn gather<T>(
        &self,
        mail: impl FnOnce(mpsc::Sender<T>) -> WorkerMail,
        deadline: Instant,
    ) -> io::Result<Vec<T>> {
        let (reply, answers) = mpsc::channel();
        self.tell_workers(&mail(reply));
        let answer = |_| {
            let left = deadline.saturating_duration_since(Instant::now());
            answers.recv_timeout(left).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
        };
        self.workers.iter().map(answer).collect()
    }

    /// Tells all threads to go on by this snapshot; done when each of them does.
    pub(super) async fn adopt(&self, snapshot: &Arc<Snapshot>) {
        let (done, mut heard) = unbounded_channel();
        let adoption = Adoption::new(Arc::clone(snapshot), move || {
            // Nobody counts any more once it took too long.
            let _ = done.send(());
        });
        let mut threads = self.workers.len();
        self.tell_workers(&WorkerMail::Adopt(adoption.clone()));
        match self.probe_by(snapshot) {
            Ok(Some(prober)) => {
                prober.send(ProbeMail::Adopt(adoption));
                threads += 1;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "backends are not checked"),
        }
        for _ in 0..threads {
            if heard.recv().await.is_none() {
                return;
            }
        }
    }

    /// A way to send mail to each worker.
    pub(super) fn mailers(&self) -> &[Mailer<WorkerMail>] {
        &self.workers
    }

    /// The same for all.
    pub(super) fn tell_workers(&self, mail: &WorkerMail) {
        for worker in &self.workers {
            worker.send(mail.clone());
        }
    }

    /// The thread that checks backends. One that is started by this, because there was none and checks are wanted, knows
    /// the snapshot already.
    fn probe_by(&self, snapshot: &Arc<Snapshot>) -> io::Result<Option<Mailer<ProbeMail>>> {
        let mut prober = self.prober();
        if prober.is_some() || snapshot.pools().all(|app| !app.model().health.check.is_active()) {
            return Ok(prober.clone());
        }
        let down = self.down.clone();
        let on_down = move |app: &AppState, endpoint: &Endpoint| {
            let backend = Some(endpoint.address().to_string());
            let selection = Selection { backend, ..Selection::of_pool(app.core()) };
            // Nobody reads any more when the process ends.
            let _ = down.send(selection);
        };
        let setup = ProbeSetup {
            on_down: Box::new(on_down),
            snapshot: Arc::clone(snapshot),
            congestion: self.congestion.clone(),
            // Processes that start together should not check together.
            seed: RandomState::new().hash_one(std::process::id()),
        };
        // Told to stop only once nobody reads these events any more: an end that is reported is a fault.
        let on_end = report_end("prober".to_owned(), &self.events);
        // Checks move no bytes: no pipes, and nothing to spin for.
        let engine = EngineConfig { spin: std::time::Duration::ZERO, pipes_max: 0, ..self.engine.clone() };
        *prober = Some(threads::spawn("prober", &engine, move |_| ProbeHandler::new(setup), on_end)?);
        Ok(None)
    }

    fn prober(&self) -> MutexGuard<'_, Option<Mailer<ProbeMail>>> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(prober) = &*self.prober() {
            prober.send(ProbeMail::Stop);
        }
    }
}

/// Asks all workers at once, and each again as often as it takes, until none has answered for so long.
fn let_go(workers: &[Mailer<WorkerMail>], keep: &Arc<BTreeSet<u64>>, patience: Duration) {
    let (reply, answers) = mpsc::channel();
    let ask = |worker: usize, keep: &Arc<BTreeSet<u64>>| {
        let request = LetGo { keep: Arc::clone(keep), worker, reply: reply.clone() };
        workers[worker].send(WorkerMail::LetGo(request));
    };
    (0..workers.len()).for_each(|worker| ask(worker, keep));
    let none = Arc::default();
    let mut outstanding = workers.len();
    while outstanding > 0 {
        let Ok((worker, left)) = answers.recv_timeout(patience) else { return };
        match left {
            0 => outstanding -= 1,
            _ => ask(worker, &none),
        }
    }
}

fn report_end(
    thread: String,
    events: &UnboundedSender<Event>,
) -> impl FnOnce(io::Result<()>) + Send + 'static {
    let events = events.clone();
    move |result| {
        // Nobody reads any more when the process ends.
        let _ = events.send(Event::Ended { thread, result });
    }
}

impl Beating for Crew {
    fn workers(&self) -> usize {
        self.workers.len()
    }

    fn ask(&self, count: &Arc<std::sync::atomic::AtomicUsize>) {
        self.tell_workers(&WorkerMail::Beat(Arc::clone(count)));
    }
}

impl Fleet for Crew {
    fn workers(&self) -> usize {
        self.workers.len()
    }

    fn publish(&self, app: usize) {
        self.tell_workers(&WorkerMail::Endpoints { app });
        if let Some(prober) = &*self.prober() {
            prober.send(ProbeMail::Endpoints { app });
        }
    }

    fn drain(&self) {
        self.tell_workers(&WorkerMail::Drain);
    }

    fn leave(&self) {
        self.tell_workers(&WorkerMail::Leave);
    }

    fn close_now(&self) {
        self.admission.end();
        self.tell_workers(&WorkerMail::CloseNow);
    }

    fn open(&self) -> u64 {
        u64::from(self.admission.open())
    }

    fn ended(&self) -> (u64, u64) {
        self.metrics.ended()
    }
}

#[cfg(test)]
mod tests {
    use ringway::{ConnectionId, EventHandler, ListenerId, Operations, SocketAddress, Token};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A worker that has so many pieces of connections to let go of.
    struct Stub {
        pieces: usize,
        /// Hears each time how many are to be kept.
        kept: mpsc::Sender<usize>,
        /// It does not turn before that.
        stuck: Option<mpsc::Receiver<()>>,
        /// Told at the second piece.
        frees: Option<mpsc::Sender<()>>,
    }

    impl EventHandler for Stub {
        type Mail = WorkerMail;

        fn on_accept(
            &mut self,
            _: &mut Operations<'_>,
            _: ListenerId,
            _: Token,
            _: ConnectionId,
            _: SocketAddress,
        ) {
        }

        fn on_read(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, _: &mut [u8]) {}

        fn on_mail(&mut self, _: &mut Operations<'_>, mail: WorkerMail) {
            let WorkerMail::LetGo(request) = mail else { return };
            if let Some(stuck) = self.stuck.take() {
                stuck.recv_timeout(PATIENCE).expect("it goes on");
            }
            if request.keep.is_empty()
                && let Some(frees) = self.frees.take()
            {
                frees.send(()).expect("it waits");
            }
            self.pieces -= 1;
            self.kept.send(request.keep.len()).expect("the test listens");
            let _ = request.reply.send((request.worker, self.pieces));
        }

        fn is_finished(&self) -> bool {
            self.pieces == 0
        }
    }

    fn spawn(name: &str, stub: Stub) -> Mailer<WorkerMail> {
        threads::spawn(name, &EngineConfig::default(), move |_| stub, drop).expect("an engine")
    }

    #[test]
    fn each_worker_is_asked_until_nothing_is_left_whatever_another_one_takes() {
        let (kept, named) = mpsc::channel();
        let (frees, stuck) = mpsc::channel();
        let workers = [
            spawn("stub-0", Stub { pieces: 2, kept: kept.clone(), stuck: Some(stuck), frees: None }),
            spawn("stub-1", Stub { pieces: 40, kept: kept.clone(), stuck: None, frees: Some(frees) }),
            spawn("stub-2", Stub { pieces: 30, kept, stuck: None, frees: None }),
        ];
        let_go(&workers, &Arc::new([7].into()), PATIENCE * 2);
        let named: Vec<usize> = named.try_iter().collect();
        assert_eq!((named.len(), named.iter().sum::<usize>()), (72, 3), "each is told once what is kept");
    }

    #[test]
    fn worker_that_does_not_answer_is_waited_for_no_more_and_answers_nobody() {
        let (kept, named) = mpsc::channel();
        let (frees, stuck) = mpsc::channel();
        let worker = spawn("stub", Stub { pieces: 1, kept, stuck: Some(stuck), frees: None });
        let_go(&[worker], &Arc::default(), Duration::from_millis(1));
        assert_eq!(named.try_iter().count(), 0);
        frees.send(()).expect("it waits");
        assert_eq!(named.recv_timeout(PATIENCE), Ok(0));
    }
}

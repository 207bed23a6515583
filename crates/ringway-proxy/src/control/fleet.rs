//! The threads that carry connections: the workers, and the prober beside them.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use ringway::{EngineConfig, Mailer};
use tokio::sync::mpsc::UnboundedSender;

use super::access_log::AccessLog;
use super::lifecycle::{Event, Fleet};
use super::threads;
use crate::admission::Admission;
use crate::endpoint::{AppState, EndpointSet};
use crate::metrics::Metrics;
use crate::model::{Check, Server};
use crate::prober::{ProbeHandler, ProbeMail, ProbeSetup};
use crate::session::CloseReason;
use crate::worker::{ProxyHandler, WorkerMail, WorkerSetup};

/// What the threads share.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) apps: Vec<Arc<AppState>>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: AccessLog,
}

/// The running threads.
pub(super) struct Crew {
    workers: Vec<Mailer<WorkerMail>>,
    /// None if no app wants its backends checked.
    prober: Option<Mailer<ProbeMail>>,
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
    ) -> io::Result<Self> {
        let mut mailers = Vec::with_capacity(workers);
        for index in 0..workers {
            let thread = format!("worker-{index}");
            let on_end = report_end(thread.clone(), events);
            let setup = WorkerSetup {
                worker: index as u32,
                workers: workers as u32,
                apps: parts.apps.clone(),
                admission: Arc::clone(&parts.admission),
                metrics: parts.metrics.worker(index),
                recorder: Box::new(parts.access_log.clone()),
                congestion: parts.server.congestion.clone(),
                // Processes and workers should not all choose the same at the same time.
                seed: RandomState::new().hash_one(index),
            };
            mailers.push(threads::spawn(&thread, engine, move || ProxyHandler::new(setup), on_end)?);
        }
        let prober = start_prober(&parts, workers, engine, events)?;
        let Parts { admission, metrics, .. } = parts;
        Ok(Self { workers: mailers, prober, admission, metrics })
    }

    /// A way to send mail to each worker.
    pub(super) fn mailers(&self) -> &[Mailer<WorkerMail>] {
        &self.workers
    }

    fn tell_workers(&self, mail: &WorkerMail) {
        for worker in &self.workers {
            worker.send(mail.clone());
        }
    }
}

/// Starts the thread that checks backends, if any are to be checked.
fn start_prober(
    parts: &Parts,
    workers: usize,
    engine: &EngineConfig,
    events: &UnboundedSender<Event>,
) -> io::Result<Option<Mailer<ProbeMail>>> {
    if parts.apps.iter().all(|app| app.model().health.check == Check::None) {
        return Ok(None);
    }
    let setup = ProbeSetup {
        apps: parts.apps.clone(),
        // The block after those of the workers.
        metrics: parts.metrics.worker(workers),
        congestion: parts.server.congestion.clone(),
        // Processes that start together should not check together.
        seed: RandomState::new().hash_one(std::process::id()),
    };
    // Told to stop only once nobody reads these events any more: an end that is reported is a fault.
    let on_end = report_end("prober".to_owned(), events);
    // Checks move no bytes: no pipes, and nothing to spin for.
    let engine = EngineConfig { spin: std::time::Duration::ZERO, pipes_max: 0, ..engine.clone() };
    threads::spawn("prober", &engine, move || ProbeHandler::new(setup), on_end).map(Some)
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(prober) = &self.prober {
            prober.send(ProbeMail::Stop);
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

impl Fleet for Crew {
    fn workers(&self) -> usize {
        self.workers.len()
    }

    fn publish(&self, app: usize, set: &Arc<EndpointSet>) {
        self.tell_workers(&WorkerMail::Endpoints { app, set: Arc::clone(set) });
        if let Some(prober) = &self.prober {
            prober.send(ProbeMail::Endpoints { app, set: Arc::clone(set) });
        }
    }

    fn drain(&self) {
        self.tell_workers(&WorkerMail::Drain);
    }

    fn close_now(&self) {
        self.tell_workers(&WorkerMail::CloseNow);
    }

    fn open(&self) -> u64 {
        u64::from(self.admission.open())
    }

    fn ended(&self) -> (u64, u64) {
        let apps = 0..self.metrics.apps().len();
        let (mut ended, mut cut) = (0, 0);
        for app in apps {
            for reason in CloseReason::ALL {
                let count = self.metrics.closed_total(app, reason.index());
                ended += count;
                if reason.cause() == "shutdown" {
                    cut += count;
                }
            }
        }
        (ended, cut)
    }
}

//! Has workers that hold many connections give idle ones to workers that hold few.

use std::sync::Arc;
use std::time::Duration;

use ringway::Mailer;
use tokio::sync::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::operator::Gate;
use crate::evening_out::plan;
use crate::metrics::Metrics;
use crate::snapshot::Lineage;
use crate::worker::{TakeOut, Which, WorkerMail};

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// A connection that has not moved a byte for so long is idle: a move of it delays nobody.
const SILENCE: Duration = Duration::from_secs(1);
/// A round takes milliseconds. One that takes longer than this is a stuck worker's, and not waited for.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// What the rounds need.
pub(super) struct EveningOut {
    pub(super) workers: Vec<Mailer<WorkerMail>>,
    pub(super) metrics: Arc<Metrics>,
    /// Says whether it is wanted, by `server.even_workers`.
    pub(super) lineage: Arc<Lineage>,
    /// Held while connections are between workers, so that nobody who looks through all of them misses one.
    pub(super) gate: Arc<Mutex<Gate>>,
}

impl EveningOut {
    /// One round after the other, for ever.
    pub(super) async fn run(self) {
        if self.workers.len() < 2 {
            return;
        }
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if self.lineage.current().settings().server.even_workers {
                self.round().await;
            }
        }
    }

    async fn round(&self) {
        if plan(&self.metrics.open_by_worker()).is_empty() {
            return;
        }
        let _closed = self.gate.lock().await;
        let (done, mut all_done) = unbounded_channel::<()>();
        // What was counted before the gate closed may be old.
        for transfer in plan(&self.metrics.open_by_worker()) {
            let which = Which::Idle {
                count_max: u32::try_from(transfer.count).unwrap_or(u32::MAX),
                silence: SILENCE,
            };
            let request = TakeOut::to_worker(which, self.workers[transfer.to].clone(), done.clone());
            self.workers[transfer.from].send(WorkerMail::TakeOut(request));
        }
        drop(done);
        // Nothing is ever said: the channel closes when the last connection has arrived.
        if timeout(ROUND_MAX, all_done.recv()).await.is_err() {
            tracing::debug!("a worker takes long to hand connections over");
        }
    }
}

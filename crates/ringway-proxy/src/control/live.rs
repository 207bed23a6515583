//! What of `[server]` changes while the process runs: the level of its log, the access log, the limit on connections.

use std::sync::Arc;

use super::access_log::AccessLog;
use super::limits;
use super::process_log::LevelSwitch;
use crate::admission::Admission;
use crate::model::Config;

/// The switches.
pub(super) struct Live {
    pub(super) level: LevelSwitch,
    pub(super) access_log: AccessLog,
    pub(super) admission: Arc<Admission>,
    /// As they were when the process started: what a connection costs goes by them.
    pub(super) workers: usize,
    pub(super) descriptors: u64,
}

impl Live {
    /// Sets them as a configuration says; gives what does not work.
    pub(super) fn apply(&self, config: &Config) -> Option<String> {
        self.level.set(config.server.log_level);
        self.access_log.set_on(config.server.access_log);
        // More addresses to listen at leave fewer descriptors to connections.
        let limits = match limits::derive(config, self.workers, self.descriptors) {
            Ok(limits) => limits,
            Err(error) => return Some(format!("the limit on connections stays as it is: {error}")),
        };
        let before = self.admission.set_connections_max(limits.connections);
        if before != limits.connections {
            tracing::info!(connections = limits.connections, before, "connection limit");
        }
        let wanted = config.server.max_connections?;
        let fits = limits.connections as usize;
        (wanted > fits).then(|| format!("server.max_connections: {fits} fit the descriptor limit"))
    }
}

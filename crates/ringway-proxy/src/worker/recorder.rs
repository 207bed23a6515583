//! Where the records of ended connections go.

use crate::control::access_log::{AccessLog, AccessRecord};

/// Takes the record of each connection that ended. Must not wait.
pub trait Recorder: Send {
    /// Whether records are wanted at all: making one costs a little.
    fn is_on(&self) -> bool;

    /// Takes one.
    fn record(&mut self, record: AccessRecord);
}

impl Recorder for AccessLog {
    fn is_on(&self) -> bool {
        AccessLog::is_on(self)
    }

    fn record(&mut self, record: AccessRecord) {
        self.log(record);
    }
}

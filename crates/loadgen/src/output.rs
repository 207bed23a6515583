//! Where a run's events go: lines of JSON for a program, a progress bar and a summary for a person.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::RunEvent;

/// The way a run speaks.
pub(crate) enum Output {
    /// One JSON object a line on standard output.
    Json,
    /// Progress on standard error if that is a terminal; the caller prints the report.
    Human(Option<ProgressBar>),
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        Self::Human(io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    pub(crate) fn event(&self, event: &RunEvent) {
        match self {
            Self::Json => {
                let line = serde_json::to_string(event).expect("events are plain data");
                let mut out = io::stdout().lock();
                // Whoever led this run is gone if this fails; its end of standard input says so too.
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            }
            Self::Human(bar) => {
                if let (Some(bar), RunEvent::Result(_)) = (bar, event) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    pub(crate) fn progress(&self, what: &'static str, done: usize, of: usize) {
        if let Self::Human(Some(bar)) = self {
            bar.set_message(what);
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        }
    }
}

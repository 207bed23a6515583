//! The process log: `tracing` events, human or JSON, through a bounded queue to standard error.
//!
//! A blocked standard error costs lines (`ringway_log_lines_dropped_total{log="process"}`), never time.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use super::line_queue::{self, LineQueue, LineWriter};
use crate::metrics::{ProcessCounter, ProcessMetrics};
use crate::model::{LogFormat, LogLevel};

/// Lines that wait for the writer at most.
const LINES_MAX: usize = 4096;

/// The writing side; ends the log in order.
pub struct ProcessLogWriter {
    writer: LineWriter<Vec<u8>>,
}

impl ProcessLogWriter {
    /// Writes what is queued, for at most `wait`, and ends the log.
    pub fn finish(self, wait: Duration) {
        self.writer.finish(wait);
    }
}

/// Changes which lines are logged.
#[derive(Clone, Debug)]
pub struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// Logs by this level from now on.
    pub fn set(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and with it every line.
        let _ = self.0.reload(targets(level));
    }
}

/// Libraries tell their own story at `debug`; it matters only if something is wrong.
fn targets(level: LogLevel) -> Targets {
    Targets::new().with_default(filter(level).min(LevelFilter::WARN)).with_target("ringway", filter(level))
}

/// A subscriber for `tracing` that writes to `output` by a thread of its own.
///
/// # Errors
/// When the system makes no more threads.
pub fn subscriber(
    output: impl Write + Send + 'static,
    level: LogLevel,
    format: LogFormat,
    metrics: Arc<ProcessMetrics>,
) -> io::Result<(Box<dyn Subscriber + Send + Sync>, LevelSwitch, ProcessLogWriter)> {
    let text = |line: &Vec<u8>, out: &mut Vec<u8>| out.extend_from_slice(line);
    let dropped = ProcessCounter::ProcessLogDropped;
    let (queue, writer) = line_queue::start("process-log", LINES_MAX, output, text, metrics, dropped)?;
    let (targets, switch) = reload::Layer::new(targets(level));
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(LineMaker { queue });
    let registry = tracing_subscriber::registry().with(targets);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        LogFormat::Human => Box::new(registry.with(layer.with_ansi(false))),
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    };
    Ok((subscriber, LevelSwitch(switch), ProcessLogWriter { writer }))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

struct LineMaker {
    queue: LineQueue<Vec<u8>>,
}

/// Gathers the pieces of one line and queues it when done.
struct Line {
    bytes: Vec<u8>,
    queue: LineQueue<Vec<u8>>,
}

impl<'a> MakeWriter<'a> for LineMaker {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new(), queue: self.queue.clone() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn logged(level: LogLevel, format: LogFormat, events: impl FnOnce()) -> String {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let (subscriber, _, end) = subscriber(writer, level, format, Arc::default()).expect("a thread");
        tracing::subscriber::with_default(subscriber, events);
        end.finish(Duration::from_secs(10));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    }

    #[test]
    fn lines_below_the_level_are_left_out() {
        let text = logged(LogLevel::Warn, LogFormat::Human, || {
            tracing::info!("quiet");
            tracing::warn!(port = 80, "loud");
        });
        assert!(!text.contains("quiet"), "{text}");
        assert!(text.contains("loud port=80"), "{text}");
    }

    #[test]
    fn level_changes_while_lines_are_logged() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let (subscriber, switch, end) =
            subscriber(writer, LogLevel::Off, LogFormat::Human, Arc::default()).expect("a thread");
        tracing::subscriber::with_default(subscriber, || {
            for (level, heard) in
                [(None, "first"), (Some(LogLevel::Debug), "second"), (Some(LogLevel::Warn), "third")]
            {
                level.into_iter().for_each(|level| switch.set(level));
                tracing::debug!(heard);
            }
        });
        end.finish(Duration::from_secs(10));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        assert!(text.contains("second") && !text.contains("first") && !text.contains("third"), "{text}");
    }

    #[test]
    fn libraries_are_quiet_below_warnings() {
        let text = logged(LogLevel::Trace, LogFormat::Human, || {
            tracing::info!(target: "hyper::proto", "chatter");
            tracing::trace!("own");
        });
        assert!(text.contains("own") && !text.contains("chatter"), "{text}");
    }

    #[test]
    fn json_lines_are_objects() {
        let text = logged(LogLevel::Info, LogFormat::Json, || tracing::info!(port = 80, "ready"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("an object");
        assert_eq!(line["message"], "ready");
        assert_eq!(line["port"], 80);
    }

    #[test]
    fn a_level_of_off_logs_nothing() {
        assert_eq!(logged(LogLevel::Off, LogFormat::Human, || tracing::error!("unheard")), "");
    }
}

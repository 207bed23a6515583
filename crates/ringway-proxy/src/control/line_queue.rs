//! A bounded queue of log lines with a thread that writes them.
//!
//! Whoever logs never waits: a full queue drops the line and counts it. Only the writer thread blocks when the
//! reader of the log is slow.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::metrics::{ProcessCounter, ProcessMetrics};

/// How long the writer lets lines gather before it writes them: a busy worker then wakes it 200 times a second
/// and not for each line.
const GATHER: Duration = Duration::from_millis(5);
/// How long the writer waits before it tries again to write to a pipe that is full and does not block.
const RETRY: Duration = Duration::from_millis(10);
/// Text is written in pieces of about this size.
const CHUNK_BYTES: usize = 64 << 10;

/// The sending side; cheap to clone, usable from any thread.
pub(crate) struct LineQueue<T> {
    shared: Arc<Shared<T>>,
}

/// Ends the writer when asked.
pub(crate) struct LineWriter<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    lines_max: usize,
    metrics: Arc<ProcessMetrics>,
    dropped: ProcessCounter,
}

struct State<T> {
    lines: VecDeque<T>,
    /// Lines that the writer took and has not written yet.
    in_hand: usize,
    /// The writer waits for a first line and wants to be woken.
    idle: bool,
    closing: bool,
    finished: bool,
}

impl<T> Clone for LineQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Makes a queue of at most `lines_max` lines and a named thread that turns each into text with `format` and
/// writes it to `output`. Lines that do not fit, or cannot be written, are counted under `dropped`.
///
/// # Errors
/// When the system makes no more threads.
pub(crate) fn start<T: Send + 'static>(
    thread_name: &str,
    lines_max: usize,
    output: impl Write + Send + 'static,
    format: impl FnMut(&T, &mut Vec<u8>) + Send + 'static,
    metrics: Arc<ProcessMetrics>,
    dropped: ProcessCounter,
) -> io::Result<(LineQueue<T>, LineWriter<T>)> {
    let state = State { lines: VecDeque::new(), in_hand: 0, idle: false, closing: false, finished: false };
    let shared =
        Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), lines_max, metrics, dropped });
    let for_thread = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name(thread_name.to_owned())
        .spawn(move || for_thread.write_all(output, format))?;
    Ok((LineQueue { shared: Arc::clone(&shared) }, LineWriter { shared, thread: Some(thread) }))
}

impl<T> LineQueue<T> {
    /// Queues a line, or drops and counts it. Never waits for the writer.
    pub(crate) fn push(&self, line: T) {
        let mut state = self.shared.lock();
        if state.closing || state.lines.len() >= self.shared.lines_max {
            drop(state);
            self.shared.metrics.add(self.shared.dropped, 1);
            return;
        }
        state.lines.push_back(line);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.shared.changed.notify_all();
        }
    }
}

impl<T> LineWriter<T> {
    /// Writes what is queued and ends the thread; gives up after `wait`, for the reader may be stuck.
    /// Lines that come later are dropped.
    pub(crate) fn finish(mut self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        while !state.finished {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The write that is stuck may still succeed in part: then some lines count as dropped and are not.
                let unwritten = state.lines.len() + state.in_hand;
                self.shared.metrics.add(self.shared.dropped, unwritten as u64);
                return;
            }
            state = self.shared.wait(state, left);
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>, most: Duration) -> MutexGuard<'a, State<T>> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// The writer's thread.
    fn write_all(&self, mut output: impl Write, mut format: impl FnMut(&T, &mut Vec<u8>)) {
        let mut batch = VecDeque::new();
        let mut text = Vec::new();
        while self.take(&mut batch) {
            let mut lines_in_text = 0;
            while let Some(line) = batch.pop_front() {
                format(&line, &mut text);
                lines_in_text += 1;
                if text.len() >= CHUNK_BYTES || batch.is_empty() {
                    if write_patiently(&mut output, &text, || self.lock().closing).is_err() {
                        self.metrics.add(self.dropped, lines_in_text as u64);
                    }
                    self.lock().in_hand -= lines_in_text;
                    text.clear();
                    lines_in_text = 0;
                }
            }
            // One huge burst must not hold its memory for ever.
            text.shrink_to(CHUNK_BYTES);
        }
        self.lock().finished = true;
        self.changed.notify_all();
    }

    /// Waits for lines and takes them all; `false` when there will be no more.
    fn take(&self, batch: &mut VecDeque<T>) -> bool {
        let mut state = self.lock();
        while state.lines.is_empty() && !state.closing {
            state.idle = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let deadline = Instant::now() + GATHER;
        while !state.closing && state.lines.len() < self.lines_max / 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wait(state, left);
        }
        std::mem::swap(&mut state.lines, batch);
        state.in_hand = batch.len();
        !batch.is_empty()
    }
}

/// Writes everything, also to a pipe that somebody set to not block. Gives up on errors, and on a full pipe
/// once `is_closing`.
fn write_patiently(
    output: &mut impl Write,
    mut bytes: &[u8],
    is_closing: impl Fn() -> bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_closing() => {
                std::thread::sleep(RETRY);
            }
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(line: &String, out: &mut Vec<u8>) {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }

    fn start_for_test(
        lines_max: usize,
        output: impl Write + Send + 'static,
        metrics: &Arc<ProcessMetrics>,
    ) -> (LineQueue<String>, LineWriter<String>) {
        start("log", lines_max, output, text, Arc::clone(metrics), ProcessCounter::AccessLogDropped)
            .expect("a thread starts")
    }

    #[test]
    fn lines_are_written_in_order_and_all_before_finish_returns() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(100, writer, &metrics);
        for number in 0..50 {
            queue.push(format!("line {number}"));
        }
        lines.finish(Duration::from_secs(10));
        let mut written = String::new();
        reader.read_to_string(&mut written).expect("text");
        let wanted: String = (0..50).map(|number| format!("line {number}\n")).collect();
        assert_eq!(written, wanted);
        assert_eq!(metrics.get(ProcessCounter::AccessLogDropped), 0);
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_never_time() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(16, writer, &metrics);
        // Far more than a pipe (64 KiB) and the queue hold; would hang here if a push could block.
        for _ in 0..2000 {
            queue.push("x".repeat(1000));
        }
        assert!(metrics.get(ProcessCounter::AccessLogDropped) > 1000);
        lines.finish(Duration::from_millis(20));
    }

    #[test]
    fn every_line_of_many_threads_is_written_or_counted_and_none_twice() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(64, writer, &metrics);
        let reading = std::thread::spawn(move || {
            let mut written = String::new();
            reader.read_to_string(&mut written).expect("text");
            written
        });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let queue = queue.clone();
                scope.spawn(move || (0..2000).for_each(|number| queue.push(format!("{thread} {number}"))));
            }
        });
        lines.finish(Duration::from_secs(10));
        let written = reading.join().expect("no panic");
        let mut last = [-1; 4];
        for line in written.lines() {
            let (thread, number) = line.split_once(' ').expect("two numbers");
            let thread: usize = thread.parse().expect("a number");
            let number: i32 = number.parse().expect("a number");
            assert!(number > last[thread], "{line} after {}", last[thread]);
            last[thread] = number;
        }
        let dropped = metrics.get(ProcessCounter::AccessLogDropped);
        assert_eq!(written.lines().count() as u64 + dropped, 8000);
    }

    #[test]
    fn lines_that_a_stuck_reader_kept_from_being_written_are_counted_at_the_end() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(1000, writer, &metrics);
        // One line fills the pipe; the rest can never be written.
        queue.push("x".repeat(1 << 20));
        for _ in 0..9 {
            queue.push("unheard".to_owned());
        }
        lines.finish(Duration::from_millis(50));
        assert_eq!(metrics.get(ProcessCounter::AccessLogDropped), 10);
    }

    #[test]
    fn a_reader_that_left_costs_lines_only() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(16, writer, &metrics);
        queue.push("lost".to_owned());
        lines.finish(Duration::from_secs(10));
        assert_eq!(metrics.get(ProcessCounter::AccessLogDropped), 1);
    }

    #[test]
    fn lines_after_the_end_are_counted_as_dropped() {
        let metrics = Arc::default();
        let (queue, lines) = start_for_test(16, io::sink(), &metrics);
        lines.finish(Duration::from_secs(10));
        queue.push("late".to_owned());
        assert_eq!(metrics.get(ProcessCounter::AccessLogDropped), 1);
    }
}

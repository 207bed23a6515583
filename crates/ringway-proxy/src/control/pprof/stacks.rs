//! Call stacks with the number of times each was seen.

use std::io;
use std::time::{Duration, SystemTime};

use pprof::ProfilerGuardBuilder;

/// What was seen while a profile was taken.
pub(super) struct Stacks {
    pub(super) started: SystemTime,
    pub(super) duration: Duration,
    /// Processor time between two samples.
    pub(super) period: Duration,
    pub(super) stacks: Vec<Stack>,
}

/// A stack of calls.
pub(super) struct Stack {
    pub(super) thread: String,
    /// The innermost first.
    pub(super) frames: Vec<Frame>,
    pub(super) count: u64,
}

/// A call.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// Looks at what runs for so long, and gives what `write` makes of it. Looking ends early when this is dropped.
///
/// # Errors
/// When the timer cannot be set, or nothing can be written.
pub(super) async fn take<T: Send + 'static>(
    duration: Duration,
    frequency: u32,
    write: impl FnOnce(&Stacks) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let frequency = i32::try_from(frequency).map_err(io::Error::other)?;
    let started = SystemTime::now();
    // Stacks are not followed from inside of the unwinder and the loader, which may hold what following them needs.
    let guard = ProfilerGuardBuilder::default()
        .frequency(frequency)
        .blocklist(&["libgcc", "ld-linux", "vdso"])
        .build()
        .map_err(io::Error::other)?;
    tokio::time::sleep(duration).await;
    // Names are looked up in the debug information of the program: a second's work, and not for the control plane.
    let report = move || {
        let report = guard.report().build().map_err(io::Error::other)?;
        drop(guard);
        let period = Duration::from_secs(1) / frequency.unsigned_abs();
        write(&Stacks { started, duration, period, stacks: report.data.iter().map(stack).collect() })
    };
    tokio::task::spawn_blocking(report).await.map_err(io::Error::other)?
}

fn stack((frames, count): (&pprof::Frames, &isize)) -> Stack {
    // A frame is several calls where some were inlined.
    let symbols = frames.frames.iter().flatten();
    Stack {
        thread: frames.thread_name.clone(),
        frames: symbols
            .map(|symbol| Frame {
                function: symbol.name(),
                file: symbol.filename().into_owned(),
                line: symbol.lineno(),
            })
            .collect(),
        count: u64::try_from(*count).unwrap_or(0),
    }
}

//! A panic in any thread ends the process: it is never half a proxy.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::exit::Exit;

/// How long the last words may take: standard error may be a pipe that nobody reads.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// From now on a panic prints a message and ends the process with [`Exit::Panicked`].
pub(super) fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let text = message(thread::current().name(), info);
        let (done, wait) = mpsc::channel();
        // Written by another thread, so that a blocked standard error cannot keep this process half alive.
        let spawned = thread::Builder::new().spawn(move || {
            let _ = std::io::stderr().write_all(text.as_bytes());
            let _ = done.send(());
        });
        if spawned.is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS);
        }
        std::process::exit(i32::from(Exit::Panicked.code()));
    }));
}

fn message(thread: Option<&str>, info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    format!(
        "ringway: thread \"{}\" panicked at {place}: {text}\n\
         ringway: this is a bug; the process ends so that it is never half a proxy\n{}",
        thread.unwrap_or("unnamed"),
        backtrace()
    )
}

/// The backtrace, if the environment asks for one (`RUST_BACKTRACE`).
fn backtrace() -> String {
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("{backtrace}\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "RINGWAY_TEST_PANICS";

    /// Run in a process of its own by the test below; by itself it does nothing.
    #[test]
    fn child_that_panics_in_a_thread() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        end_process_on_panic();
        let thread = thread::Builder::new().name("worker-7".to_owned()).spawn(|| panic!("out of luck"));
        let _ = thread.expect("a thread starts").join();
        // Half a proxy would go on here.
        std::process::exit(0);
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_its_own_code_and_says_where() {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "control::panic::tests::child_that_panics_in_a_thread", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{text}");
        assert!(text.contains("thread \"worker-7\" panicked at ") && text.contains("out of luck"), "{text}");
    }
}

//! `ringway drain` and `ringway undrain`: the process, an app or a backend.

use std::thread::sleep;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::{DrainArguments, UndrainArguments};
use super::ask::Asker;
use super::print;
use super::units::{count, time};
use crate::control::drain::{DrainQuery, DrainStatus};
use crate::control::exit::Exit;

/// Between two looks at how it goes.
const PAUSE: Duration = Duration::from_millis(200);

/// Begins, waits and tells what was left.
pub(super) fn drain(arguments: &DrainArguments) -> Exit {
    let asker = match Asker::new("drain", &arguments.admin) {
        Ok(asker) => asker,
        Err(exit) => return exit,
    };
    let query = query_of(arguments.app.as_ref(), arguments.backend.as_deref(), arguments.timeout.clone());
    let begun = match asker.ask::<DrainStatus>("PUT", "/drain", &query, None) {
        Ok((status, _)) => status,
        Err(exit) => return exit,
    };
    // What is asked for again is how it goes, which has no timeout.
    let query = DrainQuery { timeout: None, ..query };
    let is_process = query.app.is_none();
    let end = if arguments.no_wait { begun } else { wait(&asker, &query, begun, is_process) };
    let cut = end.cut;
    if arguments.admin.json {
        // A status cannot be refused: it is numbers and words.
        print(&format!("{}\n", serde_json::to_string(&end).unwrap_or_default()));
    } else {
        print(&format!("{}\n", summary(&end, is_process)));
    }
    if cut > 0 { Exit::Cut } else { Exit::Finished }
}

/// Ends a drain.
pub(super) fn undrain(arguments: &UndrainArguments) -> Exit {
    let query = query_of(arguments.app.as_ref(), arguments.backend.as_deref(), None);
    match Asker::new("undrain", &arguments.admin) {
        Ok(asker) => asker.print("DELETE", "/drain", &query, |status: &DrainStatus| {
            format!("{}, {} open\n", status.state, count(status.connections.into(), "connection"))
        }),
        Err(exit) => exit,
    }
}

fn query_of(app: Option<&String>, backend: Option<&[String]>, timeout: Option<String>) -> DrainQuery {
    match backend {
        Some([app, backend]) => {
            DrainQuery { app: Some(app.clone()), backend: Some(backend.clone()), timeout }
        }
        _ => DrainQuery { app: app.cloned(), backend: None, timeout },
    }
}

/// Looks until nothing is open any more, or the process is gone; gives the last that was seen.
fn wait(asker: &Asker<'_>, query: &DrainQuery, begun: DrainStatus, is_process: bool) -> DrainStatus {
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let mut last = begun;
    loop {
        bar.set_message(progress(&last));
        bar.tick();
        if !is_process && last.state != "draining" {
            break;
        }
        sleep(PAUSE);
        match asker.look::<DrainStatus>("/drain", query) {
            // It knows of its apps and backends whether they drain; of itself it was just told.
            Ok(status) if is_process => last = DrainStatus { state: last.state, ..status },
            Ok(status) => last = status,
            Err(_) => {
                "ended".clone_into(&mut last.state);
                break;
            }
        }
    }
    bar.finish_and_clear();
    last
}

fn progress(status: &DrainStatus) -> String {
    let open = format!("{} open", count(status.connections.into(), "connection"));
    match status.seconds_left {
        Some(seconds) => format!("{open}, {} left", time(seconds)),
        None => open,
    }
}

fn summary(status: &DrainStatus, is_process: bool) -> String {
    let open = count(status.connections.into(), "connection");
    match (status.state.as_str(), status.cut) {
        // Whether they finished says the exit code of the process itself.
        _ if is_process => format!("{}, {open} open when last seen", status.state),
        (state, 0) => format!("{state}, {open} open"),
        (state, cut) => format!("{state}, {} closed because the time was over", count(cut, "connection")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_left() {
        let status = |state: &str, connections, cut| DrainStatus {
            state: state.to_owned(),
            connections,
            seconds_left: Some(12.5),
            cut,
        };
        assert_eq!(summary(&status("drained", 0, 0), false), "drained, 0 connections open");
        assert_eq!(summary(&status("draining", 1, 0), false), "draining, 1 connection open");
        assert_eq!(
            summary(&status("drained", 0, 2), false),
            "drained, 2 connections closed because the time was over"
        );
        assert_eq!(summary(&status("ended", 3, 0), true), "ended, 3 connections open when last seen");
        assert_eq!(progress(&status("draining", 3, 0)), "3 connections open, 12s left");
    }
}

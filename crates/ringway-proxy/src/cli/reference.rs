//! The reference page of the command line, `docs/reference/cli.md`, written from the definition of the arguments.

use std::fmt::Write;

use clap::CommandFactory;

use super::arguments::Arguments;
use crate::control::exit::Exit;

const HEAD: &str = "\
# The command line

Written from the program's own definitions; after a change of them,
`RINGWAY_UPDATE_DOCS=1 cargo test -p ringway-proxy command_line_page_is_current` writes this page anew.

";

const FOOT: &str = "\
## Signals

| signal | effect |
|---|---|
| SIGTERM, SIGINT | Stop accepting: what waits in the queues is served, and open connections may finish until `server.drain_timeout` is over; what is left then is cut. |
| SIGUSR2 | Have another process take over, as `ringway upgrade` does; the log tells what came of it. |
| SIGHUP | Read the configuration again and apply it, as `ringway reload` does; the log tells what came of it. |
| the second of these | Cut all connections and end now. |

`/healthz` of the admin interface answers 503 from the first of them on. The last line of the log tells how many
connections finished and how many were cut.

## Logs

The process log goes to standard error, the access log to standard output; `server.log_format` is the form of both.
Neither ever holds up a connection: a reader that is too slow costs lines, which are counted in
`ringway_log_lines_dropped_total`.

A line of the access log tells about one connection that ended, refused ones too:
[its fields, and every reason](access-log.md).

## The seed proxy's spellings

`-config FILE`, `-loglevel N` and `-pprof [ADDRESS]`, also with `=`, are taken for `--config`, `--log-level` and `--pprof`.
";

/// The page as Markdown.
pub fn write_reference() -> String {
    let mut page = HEAD.to_owned();
    let mut command = Arguments::command().term_width(100);
    command.build();
    // Writing to a string cannot fail.
    let _ = write!(page, "```text\n{}\n```\n\n", command.render_long_help().to_string().trim_end());
    for subcommand in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = subcommand.get_name().to_owned();
        // Lists of possible values are set apart by lines of blanks.
        let help = subcommand.render_long_help().to_string();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        let _ = write!(page, "## `ringway {name}`\n\n```text\n{}\n```\n\n", help.trim_end());
    }
    page.push_str("## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page.push('\n');
    page.push_str(FOOT);
    // The help of options has blanks where a line of it is empty.
    page.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");

    #[test]
    fn command_line_page_is_current() {
        let wanted = write_reference();
        if std::env::var_os("RINGWAY_UPDATE_DOCS").is_some() {
            std::fs::write(PATH, &wanted).expect("the page can be written");
        }
        let found = std::fs::read_to_string(PATH).expect("the page exists");
        assert!(found == wanted, "docs/reference/cli.md is stale: run this test with RINGWAY_UPDATE_DOCS=1");
    }
}

//! What can be written on the command line, and the spellings of the seed proxy.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ringway::SocketAddress;

use crate::config;
use crate::model::{EngineChoice, LogLevel};

/// A TCP load balancer.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, about, max_term_width = 100)]
#[command(override_usage = "ringway [run] [OPTIONS]\n       ringway <COMMAND>")]
#[command(after_help = "Without a command, `run` is meant.\n\n\
    Exit codes: 0 done, all connections finished; 1 failure; 2 wrong usage or configuration;\n\
    3 connections were cut; 70 a bug of Ringway ended it.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the load balancer until SIGTERM or SIGINT
    Run(RunArguments),
    /// Checks a configuration and prints every fault
    Check(CheckArguments),
    /// Prints what a running ringway does
    Status(StatusArguments),
    /// Has a running ringway read its configuration again; no connection is cut
    Reload(ReloadArguments),
    /// Prints what a reload would change, app by app, and how many live connections that touches
    Plan(PlanArguments),
    /// Lists the versions of the configuration of a running ringway
    Versions(VersionsArguments),
    /// Has a running ringway go back to an earlier version of its configuration
    Rollback(RollbackArguments),
    /// Has another process take over from a running ringway, with every connection
    Upgrade(UpgradeArguments),
    /// Lists connections of a running ringway
    Connections(ConnectionsArguments),
    /// Ends connections of a running ringway
    Kill(KillArguments),
    /// Prints the JSON Schema of configurations, for editors
    Schema,
    /// Prints the completions of a shell
    Completions(CompletionsArguments),
    /// Prints a man page
    Man(ManArguments),
    /// Shows a backend of a running ringway, or changes it
    Backend(BackendArguments),
    /// Keeps new connections away and waits until open ones have finished
    Drain(DrainArguments),
    /// Lets new connections come again
    Undrain(UndrainArguments),
    /// Says where a client would go, by which route and backend, and what keeps it from the other routes
    Explain(ExplainArguments),
    /// Reads a table of good, odd and malformed client hellos, and says whether each is understood on this machine
    Selftest,
    /// Drives connections at a proxy and measures it
    Bench(Box<loadgen::Options>),
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Configuration: TOML, YAML or JSON [default: ringway.toml, else config.json, else an embedded demo]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// trace, debug, info, warn, error, off, or 0 (debug) to 7 (off)
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    pub(super) log_level: Option<LogLevel>,
    /// Number of worker threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
    /// What the workers run on
    #[arg(long, value_enum)]
    pub(super) engine: Option<Engine>,
    /// Serves CPU profiles and flame graphs over HTTP [default address: 127.0.0.1:6060]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:6060",
        value_parser = pprof_address)]
    pub(super) pprof: Option<SocketAddr>,
    /// Keeps this process as a small parent that starts the server, and starts it again if it crashes; process 1
    /// does so in any case
    #[arg(long)]
    pub(super) supervise: bool,
}

/// `--engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Engine {
    /// What is best for a relay by the project's benchmark
    Auto,
    /// io_uring, or epoll where the system forbids it
    IoUring,
    /// epoll
    Epoll,
}

impl From<Engine> for EngineChoice {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::IoUring => Self::IoUring,
            Engine::Epoll => Self::Epoll,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Configuration: TOML, YAML or JSON [default: ringway.toml, else config.json]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// The new configuration [default: the file that the process runs with, as it is now]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The admin interface: 127.0.0.1:9900 or unix:/path [default: what the configuration says]
    #[arg(long, value_name = "ADDRESS", value_parser = admin_address)]
    pub(super) admin: Option<SocketAddress>,
    /// Prints the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VersionsArguments {
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The version to go back to, as `ringway versions` lists them [default: the one before the running one]
    #[arg(value_name = "VERSION")]
    pub(super) version: Option<u64>,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    /// The program [default: server.binary, else what the process was started by]
    #[arg(long, value_name = "PATH")]
    pub(super) binary: Option<PathBuf>,
    /// How long the new process may take until it is ready [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ConnectionsArguments {
    #[command(flatten)]
    pub(super) filter: FilterArguments,
    /// The most that are listed; all are counted
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct KillArguments {
    #[command(flatten)]
    pub(super) filter: FilterArguments,
    /// Ends all connections; needed where nothing else says which
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct DrainArguments {
    /// Only this app: its listeners are closed, once what waits in their queues is served
    #[arg(long, value_name = "NAME", conflicts_with = "backend")]
    pub(super) app: Option<String>,
    /// Only this backend of this app
    #[arg(long, num_args = 2, value_names = ["APP", "BACKEND"])]
    pub(super) backend: Option<Vec<String>>,
    /// How long open connections may take; what is left then is closed [default: 30s for a backend, none for an app;
    /// the process has server.drain_timeout]
    #[arg(long, value_name = "DURATION")]
    pub(super) timeout: Option<String>,
    /// Returns at once
    #[arg(long)]
    pub(super) no_wait: bool,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct UndrainArguments {
    /// This app
    #[arg(long, value_name = "NAME", group = "what")]
    pub(super) app: Option<String>,
    /// This backend of this app
    #[arg(long, num_args = 2, value_names = ["APP", "BACKEND"], group = "what")]
    pub(super) backend: Option<Vec<String>>,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct BackendArguments {
    /// Name of its app
    #[arg(value_name = "APP")]
    pub(super) app: String,
    /// Its name, as in the configuration
    #[arg(value_name = "BACKEND")]
    pub(super) backend: String,
    /// Its share of new connections from now on, 0 to 256; `configured` is that of the file again
    #[arg(long, value_name = "N")]
    pub(super) weight: Option<String>,
    /// No new connections from now on; those that are open stay
    #[arg(long, conflicts_with = "ready")]
    pub(super) maintenance: bool,
    /// New connections again
    #[arg(long)]
    pub(super) ready: bool,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// Name of the app that the client comes to
    #[arg(long, value_name = "NAME")]
    pub(super) app: String,
    /// The server name that it asks for in TLS
    #[arg(long, value_name = "NAME", conflicts_with = "host")]
    pub(super) sni: Option<String>,
    /// An application protocol that it offers in TLS, as h2; several with commas
    #[arg(long, value_name = "PROTOCOL")]
    pub(super) alpn: Option<String>,
    /// What it is called by its certificate
    #[arg(long, value_name = "NAME")]
    pub(super) client_name: Option<String>,
    /// The host that its HTTP/1 request asks for
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// The path of its HTTP/1 request
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// What it speaks [default: tls with --sni, --alpn or --client-name, http1 with --host or --path, else silent]
    #[arg(long, value_name = "WORD")]
    pub(super) protocol: Option<String>,
    /// The address that it comes from
    #[arg(long, value_name = "ADDRESS")]
    pub(super) source: Option<String>,
    /// The address and port that it connects to
    #[arg(long, value_name = "ADDRESS")]
    pub(super) destination: Option<String>,
    #[command(flatten)]
    pub(super) admin: AdminArguments,
}

/// Which connections are meant: those that fit everything that is named.
#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    /// Only those of this app
    #[arg(long, value_name = "NAME")]
    pub(super) app: Option<String>,
    /// Only those that took this route of the app
    #[arg(long, value_name = "NAME", requires = "app")]
    pub(super) route: Option<String>,
    /// Only those of this backend, by its name or the address of an endpoint
    #[arg(long, value_name = "NAME")]
    pub(super) backend: Option<String>,
    /// Only those of clients in this network, as 10.0.0.0/8, or at this address
    #[arg(long, value_name = "CIDR")]
    pub(super) source: Option<String>,
    /// Only those that were accepted so long ago, as 30s or 5m
    #[arg(long, value_name = "DURATION")]
    pub(super) older_than: Option<String>,
    /// Only the one with this number
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<u64>,
    /// Those that finish in old processes after an upgrade: `old`, or the generation of one of them
    #[arg(long, value_name = "GENERATION")]
    pub(super) generation: Option<String>,
}

/// Which ringway is meant, and how its answer is printed.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    /// Configuration that names the admin interface [default: ringway.toml, else config.json, else the demo's]
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    pub(super) config: Option<PathBuf>,
    /// The admin interface: 127.0.0.1:9900 or unix:/path
    #[arg(long, value_name = "ADDRESS", value_parser = admin_address)]
    pub(super) admin: Option<SocketAddress>,
    /// Prints the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The command that the page is about [default: all of ringway]
    pub(super) command: Option<String>,
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    config::log_level(text)
        .ok_or_else(|| "expected trace, debug, info, warn, error, off, or 0 to 7".to_owned())
}

fn pprof_address(text: &str) -> Result<SocketAddr, String> {
    let all = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let address = all.as_deref().unwrap_or(text);
    address.parse().map_err(|_| "expected an address as 127.0.0.1:6060, or :6060 for all".to_owned())
}

fn admin_address(text: &str) -> Result<SocketAddress, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(SocketAddress::unix(path));
    }
    text.parse()
        .map(SocketAddress::Inet)
        .map_err(|_| "expected an address as 127.0.0.1:9900 or unix:/path".to_owned())
}

/// Brings the arguments into the form that the parser knows: the seed proxy's spellings get their second dash
/// (`-config FILE`, `-config=FILE`), and `run` is put in where no command is named.
pub(super) fn translate(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.is_empty() {
        arguments.push("ringway".into());
    }
    for argument in arguments.iter_mut().skip(1).take_while(|argument| *argument != "--") {
        if let Some(translated) = argument.to_str().and_then(translate_one) {
            *argument = translated.into();
        }
    }
    let is_for_all = |option| ["-h", "--help", "-V", "--version"].contains(&option);
    let names_no_command = match arguments.get(1).map(|first| first.to_str()) {
        None => true,
        Some(Some(first)) => first.starts_with('-') && !is_for_all(first),
        // Not text: the parser refuses it in words.
        Some(None) => false,
    };
    if names_no_command {
        arguments.insert(1, "run".into());
    }
    arguments
}

fn translate_one(argument: &str) -> Option<String> {
    let name = argument.split('=').next()?;
    let rest = &argument[name.len()..];
    match name {
        "-config" => Some(format!("--config{rest}")),
        "-loglevel" | "--loglevel" => Some(format!("--log-level{rest}")),
        "-pprof" => Some(format!("--pprof{rest}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        let arguments = std::iter::once("ringway").chain(line.split_whitespace()).map(OsString::from);
        Arguments::try_parse_from(translate(arguments)).map(|arguments| arguments.command)
    }

    fn run(line: &str) -> RunArguments {
        match parsed(line) {
            Ok(Command::Run(run)) => run,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn run_is_meant_where_no_command_is_named() {
        assert!(run("").config.is_none());
        assert_eq!(run("--workers 3").workers, Some(3));
        assert_eq!(run("run --workers 3").workers, Some(3));
        assert!(matches!(parsed("check"), Ok(Command::Check(_))));
        let help = parsed("--help").expect_err("help is shown");
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }

    #[test]
    fn the_seed_proxys_spellings_are_taken() {
        for line in
            ["-config a.json -loglevel 3", "-loglevel=3 -config=a.json", "run -config a.json -loglevel 3"]
        {
            let run = run(line);
            assert_eq!(run.config, Some(PathBuf::from("a.json")), "{line}");
            assert_eq!(run.log_level, config::log_level("3"), "{line}");
        }
        assert_eq!(run("").pprof, None);
        assert_eq!(run("-pprof").pprof, "127.0.0.1:6060".parse().ok());
        assert_eq!(run("-pprof=:6061").pprof, "[::]:6061".parse().ok());
        assert_eq!(run("--pprof 127.0.0.1:0 --workers 2").pprof, "127.0.0.1:0".parse().ok());
        match parsed("check -config a.json") {
            Ok(Command::Check(check)) => assert_eq!(check.config, Some(PathBuf::from("a.json"))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn levels_engines_and_addresses_are_checked() {
        assert_eq!(run("--log-level warn").log_level, Some(LogLevel::Warn));
        assert_eq!(run("--engine io_uring").engine, Some(Engine::IoUring));
        for line in ["--log-level loud", "--engine kqueue", "--workers 0", "status --admin here", "nonsense"]
        {
            let error = parsed(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        match parsed("status --admin unix:/run/admin.sock --json") {
            Ok(Command::Status(status)) => {
                assert_eq!(status.admin.admin, Some(SocketAddress::unix("/run/admin.sock")))
            }
            other => panic!("{other:?}"),
        }
    }
}

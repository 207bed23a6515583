//! Wrong files, and the exact words about them.

use std::path::Path;

use ringway_proxy::config::{self, ConfigErrors, FaultKind, Format};

pub(super) fn refused(text: &str, format: Format) -> ConfigErrors {
    match config::parse(text, format, Path::new("/etc/ringway"), &|_| None) {
        Ok(config) => panic!("{text}\nis a good configuration: {config:?}"),
        Err(errors) => errors,
    }
}

fn assert_faults(text: &str, format: Format, expected: &[&str]) {
    let errors = refused(text, format);
    let found: Vec<String> = errors.faults().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "in:\n{text}");
}

#[test]
fn wrong_keys_of_an_app_are_named_with_what_would_be_right() {
    for (keys, expected) in KEYS_OF_AN_APP {
        let app = "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['10.0.0.2:80']\n";
        assert_faults(&format!("{app}{keys}\n"), Format::Toml, expected);
    }
}

#[test]
fn wrong_toml_files_are_refused_with_every_fault() {
    for (text, expected) in TOML_FILES {
        assert_faults(text, Format::Toml, expected);
    }
}

#[test]
fn wrong_json_files_are_refused_with_every_fault() {
    for (text, expected) in JSON_FILES {
        assert_faults(text, Format::Json, expected);
    }
}

#[test]
fn a_fault_tells_its_parts_to_programs() {
    let errors = refused(
        "[server]\nengine = 'io-uring'\n[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['b:80']\n",
        Format::Toml,
    );
    let [fault] = errors.faults() else { panic!("{errors}") };
    assert_eq!((fault.line, fault.column, fault.key.as_str()), (2, 10, "server.engine"));
    assert_eq!(fault.kind, FaultKind::WrongValue);
    assert_eq!(fault.found.as_deref(), Some("\"io-uring\""));
    assert_eq!(fault.expected, "\"auto\", \"io_uring\" or \"epoll\"");
    assert_eq!(fault.nearest.as_deref(), Some("io_uring"));
}

#[test]
fn faults_are_shown_with_their_lines_and_summed_up() {
    let text = "[[app]]\nname = 'a'\nlisten = [':80']\n\tbackends = ['b:80', 'ü:1']\nbalanse = 1\n";
    let expected = r#"4:22: app[0].backends[1]: found "ü:1", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; an international name is written in its "xn--" form
 4 | »backends = ['b:80', 'ü:1']
   | »                    ^^^^^
5:1: app[0].balanse: unknown key; did you mean "balance"?
 5 | balanse = 1
   | ^^^^^^^
2 faults, nothing was changed
"#;
    assert_eq!(config::render_faults(&refused(text, Format::Toml)).replace('\t', "»"), expected);
}

#[test]
fn a_value_from_the_environment_is_shown_with_its_variable() {
    let text = "[[app]]\nname = 'a'\nlisten = ['${LISTEN}']\nbackends = ['b:80']\n";
    let environment = |name: &str| (name == "LISTEN").then(|| "443".to_owned());
    let errors = config::parse(text, Format::Toml, Path::new("/"), &environment).unwrap_err();
    assert_eq!(
        errors.to_string(),
        r#"3:11: app[0].listen[0]: found "443" (from "${LISTEN}"), expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; a port of all addresses is written ":443""#
    );
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text = "{\"app\": [{\"name\": \"\u{1b}[31m\", \"listen\": [\":80\"], \"backends\": [\"b:80\"]}]}";
    let shown = config::render_faults(&refused(text, Format::Json));
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains(r#"found "\u{1b}[31m""#), "{shown}");
}

#[test]
fn more_frontends_than_a_session_can_name_are_one_fault() {
    let listen = vec!["\"127.0.0.1:0\""; (1 << 16) + 1].join(",");
    let text = format!("[[app]]\nname = \"a\"\nbackends = [\"127.0.0.1:1\"]\nlisten = [{listen}]\n");
    let faults = refused(&text, Format::Toml);
    assert_eq!(faults.faults().len(), 1);
    assert!(faults.faults()[0].to_string().contains("more than 65536 frontends"), "{}", faults.faults()[0]);

    let ranges: Vec<String> = (1..=200).map(|last| format!("\"127.0.1.{last}:1-10000\"")).collect();
    let text =
        format!("[[app]]\nname = \"a\"\nbackends = [\"127.0.0.1:1\"]\nlisten = [{}]\n", ranges.join(","));
    let faults = refused(&text, Format::Toml);
    assert_eq!(faults.faults().len(), 1);
    assert_eq!(faults.faults()[0].key, "app[0].listen[6]");
}

#[test]
fn a_file_that_cannot_be_taken_is_refused_by_name() {
    let directory = own_directory();
    let faults = |name: &str, content: Option<&[u8]>| {
        let path = directory.join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        config::load(&path).unwrap_err().to_string().replace(directory.to_str().unwrap(), "DIR")
    };
    assert_eq!(
        faults("gone.toml", None),
        "DIR/gone.toml: cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        faults("a.yml", Some(b"")),
        "DIR/a.yml:1:1: app: missing; expected at least one app, [[app]] in TOML"
    );
    assert_eq!(
        faults("a.conf", Some(b"")),
        "DIR/a.conf: the language goes by the extension: .toml, .yaml, .yml or .json"
    );
    assert_eq!(faults("a.toml", Some(b"# \xc3\xa9\nx = '\xff'")), "DIR/a.toml:2:6: not UTF-8 from here on");
    assert_eq!(
        faults("b.toml", Some(b"x = 1")),
        "DIR/b.toml:1:1: app: missing; expected at least one app, [[app]] in TOML\nDIR/b.toml:1:1: x: unknown key"
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A directory of this test's own.
fn own_directory() -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("ringway-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Lines at the end of an app of four lines, and what is said about them.
pub(super) const KEYS_OF_AN_APP: &[(&str, &[&str])] = &[
    ("balanse = 'round-robin'", &[r#"5:1: app[0].balanse: unknown key; did you mean "balance"?"#]),
    ("timeout = {}", &[r#"5:1: app[0].timeout: unknown key; did you mean "timeouts"?"#]),
    ("Protocol = 'tcp'", &[r#"5:1: app[0].Protocol: unknown key; did you mean "protocol"?"#]),
    ("quux = 1", &["5:1: app[0].quux: unknown key"]),
    (
        "tls = { mode = 'terminate', alpn = ['h2', ''] }",
        &[
            r#"5:16: app[0].tls.mode: this needs certificates, as certificates = [{ chain = "a.pem", key = "a.key" }]"#,
            r#"5:43: app[0].tls.alpn[1]: found "", expected a protocol of 1 to 255 bytes such as "h2""#,
        ],
    ),
    (
        "[app.tls]\n\
         mode = 'terminate'\n\
         certificates = [{ chain = '/none/a.pem', key = '/none/a.key' }, { directory = '/none' }, { chain = 'b', directory = '/none' }, { key = 'a' }, 'a.pem', { directory = '/dev', key = 'a' }]\n\
         min_version = '1.1'\n\
         ticket_lifetime = '8d'\n\
         client_auth = 'required'\n\
         client_crl = '/none/crl'",
        &[
            r#"7:27: app[0].tls.certificates[0].chain: the file cannot be read: No such file or directory (os error 2)"#,
            r#"7:48: app[0].tls.certificates[0].key: the file cannot be read: No such file or directory (os error 2)"#,
            r#"7:79: app[0].tls.certificates[1].directory: the directory cannot be read: No such file or directory (os error 2)"#,
            r#"7:117: app[0].tls.certificates[2].directory: this is a certificate by its chain already"#,
            r#"7:128: app[0].tls.certificates[3].chain: missing; expected the path of a file with a certificate"#,
            r#"7:143: app[0].tls.certificates[4]: found "a.pem", expected a table, as { chain = "a.pem", key = "a.key" } or { directory = "certificates" }"#,
            r#"7:166: app[0].tls.certificates[5].directory: there is no certificate in this directory"#,
            r#"7:180: app[0].tls.certificates[5].key: this goes with chain: a directory has keys and staples in it"#,
            r#"8:15: app[0].tls.min_version: found "1.1", expected "1.2" or "1.3"; did you mean "1.2"?"#,
            r#"9:19: app[0].tls.ticket_lifetime: found "8d", expected a duration from "1s" to "7d""#,
            r#"10:15: app[0].tls.client_auth: nobody is asked for a certificate: there is no client_ca"#,
            r#"11:14: app[0].tls.client_crl: nobody is asked for a certificate: there is no client_ca"#,
        ],
    ),
    (
        "[[app.route]]\n\
         client_names = ['alice', '', '~(']\n\
         protocols = ['ssh']\n\
         backends = ['127.0.0.1:81']",
        &[
            r#"6:16: app[0].route[0].client_names: none of the route's protocols has this; tls does"#,
            r#"6:26: app[0].route[0].client_names[1]: found "", expected a name such as "alice", or "~" and a regular expression"#,
            r#"6:30: app[0].route[0].client_names[2]: found "~(", expected a regular expression after "~": unclosed group"#,
        ],
    ),
    (
        "[[app.route]]\n\
         client_names = ['alice']\n\
         backends = ['127.0.0.1:81']",
        &[
            r#"6:16: app[0].route[0].client_names: nobody is asked for a certificate: there is no tls.client_ca"#,
        ],
    ),
    (
        "tls = { mode = 'passthrough', client_ca = 'ca.pem', alpn = ['h2'] }",
        &[
            r#"5:43: app[0].tls.client_ca: this goes with mode = "terminate": here the backends end TLS"#,
            r#"5:60: app[0].tls.alpn: this goes with mode = "terminate": here the backends end TLS"#,
        ],
    ),
    (
        "tls = { mode = 'passthrough' }\nbackend_tls = { verify = false, ca = 'gone.pem', server_name = 'a b' }",
        &[
            r#"6:15: app[0].backend_tls: clients speak TLS with backends already, as it is passed on; leave it out, or end TLS of clients with tls.mode = "terminate""#,
            "6:38: app[0].backend_tls.ca: the file cannot be read: No such file or directory (os error 2)",
            "6:38: app[0].backend_tls.ca: nobody is believed by it, as nothing is verified",
            r#"6:64: app[0].backend_tls.server_name: found "a b", expected a host name or an IP address"#,
        ],
    ),
    (
        "tls = { mode = 'terminat', alpm = ['h2'], min_version = '1.1' }",
        &[
            r#"5:16: app[0].tls.mode: found "terminat", expected "terminate" or "passthrough"; did you mean "terminate"?"#,
            r#"5:28: app[0].tls.alpm: unknown key; did you mean "alpn"?"#,
            r#"5:57: app[0].tls.min_version: found "1.1", expected "1.2" or "1.3"; did you mean "1.2"?"#,
        ],
    ),
    (
        "tls = { unreadable = 'allow', certificates = [] }",
        &[
            r#"5:7: app[0].tls.mode: missing; expected "terminate" or "passthrough""#,
            r#"5:22: app[0].tls.unreadable: found "allow", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; the port is missing"#,
            "5:46: app[0].tls.certificates: this is empty, expected at least one element",
        ],
    ),
    (
        "[[app.route]]\n\
         name = 'r'\n\
         protocols = ['tsl', 'ssh']\n\
         server_names = ['a..b', '192.0.2.1', 'bücher.example', 'a.*.b', 'a:443', '~(']\n\
         alpn = ['']\n\
         paths = ['chat', '/a?b']\n\
         source = ['10.0.0.1/8']\n\
         destination_ports = [0, '9-8']\n\
         backends = ['127.0.0.1:80', 'b:1', 'b:1']\n\
         timeouts = { sniff = '1s' }\n\
         listen = [':1']",
        &[
            r#"7:14: app[0].route[0].protocols[0]: found "tsl", expected "tls", "http1", "http2", "ssh", "postgresql", "websocket", "silent" or "other"; did you mean "tls"?"#,
            r#"8:17: app[0].route[0].server_names[0]: found "a..b", expected a host name such as "www.example.com" or "*.example.com", or "~" and a regular expression"#,
            r#"8:25: app[0].route[0].server_names[1]: found "192.0.2.1", expected a host name such as "www.example.com" or "*.example.com", or "~" and a regular expression; clients ask for no IP address: name it in `destination`"#,
            r#"8:38: app[0].route[0].server_names[2]: found "bücher.example", expected a host name such as "www.example.com" or "*.example.com", or "~" and a regular expression; write the name as DNS has it, as "xn--bcher-kva.example""#,
            r#"8:56: app[0].route[0].server_names[3]: found "a.*.b", expected a host name such as "www.example.com" or "*.example.com", or "~" and a regular expression; a wildcard is the whole first label; for others write "~" and a regular expression"#,
            r#"8:65: app[0].route[0].server_names[4]: found "a:443", expected a host name such as "www.example.com" or "*.example.com", or "~" and a regular expression; leave out the port, and name it in `destination_ports`"#,
            r#"8:74: app[0].route[0].server_names[5]: found "~(", expected a regular expression after "~": unclosed group"#,
            "9:8: app[0].route[0].alpn: none of the route's protocols has this; tls does",
            r#"9:9: app[0].route[0].alpn[0]: found "", expected a protocol of 1 to 255 bytes such as "h2""#,
            "10:9: app[0].route[0].paths: none of the route's protocols has this; http1 does",
            r#"10:10: app[0].route[0].paths[0]: found "chat", expected a path such as "/chat" or "/chat/*""#,
            r#"10:18: app[0].route[0].paths[1]: found "/a?b", expected a path such as "/chat" or "/chat/*"; a query is not looked at, and `*` stands at the end"#,
            r#"11:11: app[0].route[0].source[0]: found "10.0.0.1/8", expected a network such as "10.0.0.0/8", or an IP address; the network of that address is "10.0.0.0/8""#,
            r#"12:22: app[0].route[0].destination_ports[0]: found 0, expected a range such as "8000-8010", or a whole number from 1 to 65535"#,
            r#"12:25: app[0].route[0].destination_ports[1]: found "9-8", expected a port such as 443, or a range such as "8000-8010""#,
            r#"13:13: app[0].route[0].backends[0]: the app would connect to itself: it listens on ":80""#,
            "13:36: app[0].route[0].backends[2]: this is the same backend as app[0].route[0].backends[1]; to give it more connections, raise its weight",
            "14:14: app[0].route[0].timeouts.sniff: unknown key",
            "15:1: app[0].route[0].listen: unknown key",
        ],
    ),
    (
        "route = [\n\
         { name = 'a', backends = ['b:1'] },\n\
         { name = 'a', server_names = ['x'], backends = ['b:1'] },\n\
         { name = 'unreadable', server_names = ['y'] },\n\
         ]",
        &[
            "7:1: app[0].route[1]: app[0].route[0] asks for nothing and takes every client, so that this one gets none; move the route that takes the rest to the end",
            r#"7:10: app[0].route[1].name: "a" is the name of app[0].route[0] too"#,
            r#"8:1: app[0].route[2].backends: missing; expected an array of addresses, as ["10.0.0.1:443"]"#,
            "8:1: app[0].route[2]: app[0].route[0] asks for nothing and takes every client, so that this one gets none; move the route that takes the rest to the end",
            r#"8:10: app[0].route[2].name: "unreadable" is the name of clients that cannot be read too"#,
        ],
    ),
    (
        "[app.limits]\n\
             connections = 0\n\
             connections_per_second = 2_000_000\n\
             source_prefix_v6 = 129\n\
             allow = []\n\
             deny = ['10.0.0.1/8', 5, { file = 'gone.txt' }, { fil = 'a' }]\n\
             queue = 5\n\
             queue_timeout = '2h'\n\
             conections = 5",
        &[
            "6:15: app[0].limits.connections: found 0, expected a whole number from 1 to 4294967294",
            "7:26: app[0].limits.connections_per_second: found 2000000, expected a whole number from 1 to 1000000",
            "8:20: app[0].limits.source_prefix_v6: found 129, expected a whole number from 1 to 128",
            "9:9: app[0].limits.allow: this is empty: nobody could come",
            r#"10:9: app[0].limits.deny[0]: found "10.0.0.1/8", expected a network such as "10.0.0.0/8", an IP address, or a table as { file = "networks.txt" }; the network of that address is "10.0.0.0/8""#,
            r#"10:23: app[0].limits.deny[1]: found 5, expected a network such as "10.0.0.0/8", an IP address, or a table as { file = "networks.txt" }"#,
            "10:35: app[0].limits.deny[2].file: the file cannot be read: No such file or directory (os error 2)",
            r#"10:49: app[0].limits.deny[3].file: missing; expected the path of a file of networks, one a line"#,
            r#"10:51: app[0].limits.deny[3].fil: unknown key; did you mean "file"?"#,
            "11:9: app[0].limits.queue: nobody would ever wait: no backend has max_connections",
            r#"12:17: app[0].limits.queue_timeout: found "2h", expected a duration from "1ms" to "1h""#,
            r#"13:1: app[0].limits.conections: unknown key; did you mean "connections"?"#,
        ],
    ),
    (
        "[app.limits]\nqueue_timeout = '5s'\nbandwidth = 5\nbandwidth_per_connection = '0B'",
        &[
            "6:17: app[0].limits.queue_timeout: nobody would ever wait: there is no queue",
            r#"7:13: app[0].limits.bandwidth: found 5, expected a size such as "64KiB" or "1MiB", at most "1000GiB"; a unit is missing, as in "5B""#,
            r#"8:28: app[0].limits.bandwidth_per_connection: found "0B", expected a size such as "64KiB" or "1MiB", at most "1000GiB""#,
        ],
    ),
    ("limts = 3", &[r#"5:1: app[0].limts: unknown key; did you mean "limits"?"#]),
    ("protocol = 'udp'", &[r#"5:12: app[0].protocol: "udp" is not supported yet"#]),
    ("protocol = 'sctp'", &[r#"5:12: app[0].protocol: found "sctp", expected "tcp""#]),
    (
        "balance = 'maglef'",
        &[concat!(
            r#"5:11: app[0].balance: found "maglef", expected "least-connections", "round-robin", "random", "#,
            r#""two-choices", "source-hash" or "maglev"; did you mean "maglev"?"#
        )],
    ),
    (
        "slow_start = '0s'",
        &[
            r#"5:14: app[0].slow_start: found "0s", expected a duration from "1ms" to "1d"; leave the key out"#,
        ],
    ),
    (
        "balance = 'maglev'\nslow_start = '30s'",
        &[concat!(
            "6:14: app[0].slow_start: a backend that is chosen by the client's address gets its clients at once; ",
            "leave the key out, or choose another balance"
        )],
    ),
    (
        "[app.health]\npanic_threshold = 50",
        &["6:19: app[0].health.panic_threshold: found 50, expected a number from 0 to 1"],
    ),
    (
        "balance = 'leastconn'",
        &[
            r#"5:11: app[0].balance: found "leastconn", expected "least-connections", "round-robin", "random", "two-choices", "source-hash" or "maglev""#,
        ],
    ),
    (
        "balance = 'least_connections'",
        &[
            r#"5:11: app[0].balance: found "least_connections", expected "least-connections", "round-robin", "random", "two-choices", "source-hash" or "maglev"; did you mean "least-connections"?"#,
        ],
    ),
    (
        "balance = 3",
        &[
            r#"5:11: app[0].balance: found 3, expected "least-connections", "round-robin", "random", "two-choices", "source-hash" or "maglev""#,
        ],
    ),
    (
        "connect_attempts = 0",
        &["5:20: app[0].connect_attempts: found 0, expected a whole number from 1 to 100"],
    ),
    (
        "connect_attempts = 1.5",
        &["5:20: app[0].connect_attempts: found 1.5, expected a whole number from 1 to 100"],
    ),
    (
        "connect_attempts = 99999999999999999999",
        &[
            "5:20: app[0].connect_attempts: found a number that is out of range, expected a whole number from 1 to 100",
        ],
    ),
    (
        "user_timeout = '0s'",
        &[r#"5:16: app[0].user_timeout: found "0s", expected a duration from "1ms" to "24d""#],
    ),
    (
        "user_timeout = '60d'",
        &[r#"5:16: app[0].user_timeout: found "60d", expected a duration from "1ms" to "24d""#],
    ),
    (
        "keep_alive = 'yes'",
        &[
            r#"5:14: app[0].keep_alive: found "yes", expected false, true, or a table such as { idle = "2m", interval = "30s", count = 4 }"#,
        ],
    ),
    (
        "keep_alive = { idle = '1500ms', count = 0, intervall = '3s' }",
        &[
            r#"5:23: app[0].keep_alive.idle: found "1500ms", expected whole seconds: the kernel counts in them"#,
            "5:41: app[0].keep_alive.count: found 0, expected a whole number from 1 to 127",
            r#"5:44: app[0].keep_alive.intervall: unknown key; did you mean "interval"?"#,
        ],
    ),
    (
        "source = '10.0.0.1'",
        &[r#"5:10: app[0].source: found "10.0.0.1", expected an array of local IP addresses"#],
    ),
    (
        "source = ['10.0.0.1', '10.0.0.1:80', '::1', '0.0.0.0', 'eth0', '10.0.0.1', 5]",
        &[
            r#"5:23: app[0].source[1]: found "10.0.0.1:80", expected a local IP address such as "10.0.0.8"; leave out the port"#,
            "5:38: app[0].source[2]: no backend can be reached from ::1: none is IPv6",
            r#"5:45: app[0].source[3]: found "0.0.0.0", expected a local IP address such as "10.0.0.8""#,
            r#"5:56: app[0].source[4]: found "eth0", expected a local IP address such as "10.0.0.8""#,
            "5:64: app[0].source[5]: 10.0.0.1 is given twice",
            r#"5:76: app[0].source[6]: found 5, expected a local IP address such as "10.0.0.8""#,
        ],
    ),
    (
        "proxy_protocol = { accept = 'maybe', send = 'v3', trusted = ['10.0.0.1/8', '10.0.0.1:5', 'unix', 4], tlv = 1 }",
        &[
            r#"5:29: app[0].proxy_protocol.accept: found "maybe", expected true, false or "optional""#,
            r#"5:45: app[0].proxy_protocol.send: found "v3", expected "none", "v1" or "v2"; did you mean "v1"?"#,
            r#"5:62: app[0].proxy_protocol.trusted[0]: found "10.0.0.1/8", expected a network such as "10.0.0.0/8", an IP address, or "unix"; the network of that address is "10.0.0.0/8""#,
            r#"5:76: app[0].proxy_protocol.trusted[1]: found "10.0.0.1:5", expected a network such as "10.0.0.0/8", an IP address, or "unix"; leave out the port"#,
            r#"5:98: app[0].proxy_protocol.trusted[3]: found 4, expected a network such as "10.0.0.0/8", an IP address, or "unix""#,
            "5:102: app[0].proxy_protocol.tlv: unknown key",
        ],
    ),
    (
        "proxy_protocol = { accept = true }",
        &[
            r#"5:29: app[0].proxy_protocol.accept: there is no `trusted`, so that nobody would be believed; name the proxies in front, as trusted = ["10.0.0.0/8"]: anybody else could say any address"#,
        ],
    ),
    (
        "proxy_protocol = { trusted = ['10.0.0.0/8'] }",
        &["5:30: app[0].proxy_protocol.trusted: nobody is listened to: accept is false"],
    ),
    ("timeouts = 5", &["5:12: app[0].timeouts: found 5, expected a table, [app.timeouts] in TOML"]),
    (
        "timeouts.idle = '0s'\n\
             timeouts.connect = 5\n\
             timeouts.half_close = 'never'\n\
             timeouts.handshake = 'none'\n\
             timeouts.lifetime = '9999d'",
        &[
            r#"5:17: app[0].timeouts.idle: found "0s", expected a duration from "1ms" to "365d"; "none" is no limit"#,
            r#"6:20: app[0].timeouts.connect: found 5, expected a duration such as "250ms", "5s" or "1m30s"; a unit is missing, as in "5s""#,
            r#"7:23: app[0].timeouts.half_close: found "never", expected a duration such as "250ms", "5s" or "1m30s""#,
            r#"8:22: app[0].timeouts.handshake: found "none", expected a duration such as "250ms", "5s" or "1m30s""#,
            r#"9:21: app[0].timeouts.lifetime: found "9999d", expected a duration from "1ms" to "365d""#,
        ],
    ),
    (
        "[app.health]\n\
             check = 'tls'\n\
             interval = '0s'\n\
             timeout = 'soon'\n\
             rise = 0\n\
             fall = -1\n\
             jitter = 1.5\n\
             port = 3",
        &[
            r#"7:12: app[0].health.interval: found "0s", expected a duration from "1ms" to "365d"; check = "none" is no checks"#,
            r#"8:11: app[0].health.timeout: found "soon", expected a duration such as "250ms", "5s" or "1m30s""#,
            "9:8: app[0].health.rise: found 0, expected a whole number from 1 to 1000",
            "10:8: app[0].health.fall: found -1, expected a whole number from 1 to 1000",
            "11:10: app[0].health.jitter: found 1.5, expected a number from 0 to 1",
            "12:1: app[0].health.port: unknown key",
        ],
    ),
    (
        "[app.health]\n\
             interval = '1s'\n\
             timeout = '2s'\n\
             check = 'tpc'",
        &[
            r#"7:11: app[0].health.timeout: a check of "2s" is longer than the interval between checks"#,
            r#"8:9: app[0].health.check: found "tpc", expected "none", "tcp", "tls", "http" or "send-expect"; did you mean "tcp"?"#,
        ],
    ),
    ("name = 'b'", &["5:1: app[0].name: this key is given twice; the first is in line 2"]),
    ("x = 5s", &["5:1: app[0].x: unknown key", "5:5: not valid TOML: a string must be quoted"]),
    ("[app", &["5:5: not valid TOML: unclosed table, expected `]`"]),
    ("x = ", &["5:5: not valid TOML: a value is missing"]),
    ("x = 1979-05-27", &["5:1: app[0].x: unknown key"]),
    (
        "balance = '${NOWHERE}'",
        &[
            r#"5:11: app[0].balance: the environment has no variable NOWHERE; set it, or write "${NOWHERE:-default}""#,
        ],
    ),
    (
        "balance = '${A'",
        &[r#"5:11: app[0].balance: "${" is never closed; write "$${" for the two characters themselves"#],
    ),
    (
        "balance = '${A-b}'",
        &[
            r#"5:11: app[0].balance: "A-b" is not the name of a variable; write "${NAME}" or "${NAME:-default}", with letters, digits and "_" in the name"#,
        ],
    ),
];

pub(super) const TOML_FILES: &[(&str, &[&str])] = &[
    ("", &["1:1: app: missing; expected at least one app, [[app]] in TOML"]),
    ("app = 3", &["1:7: app: found 3, expected an array of tables, [[app]] in TOML"]),
    ("app = []", &["1:7: app: found an array, expected at least one app"]),
    (
        "[app]\n\
             name='a'",
        &["1:1: app: found a table, expected an array of tables, [[app]] in TOML"],
    ),
    (
        "apps = 1",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"1:1: apps: unknown key; did you mean "app"?"#,
        ],
    ),
    (
        "include = ['conf.d/*/a.toml', 5, '', 'gone.toml']",
        &[
            r#"1:12: include[0]: found "conf.d/*/a.toml", expected a path with "*" and "?" in its last part only, as "conf.d/*.toml""#,
            r#"1:31: include[1]: found 5, expected the path of a file, or of several as "conf.d/*.toml", or an array of those"#,
            r#"1:34: include[2]: found "", expected a path with "*" and "?" in its last part only, as "conf.d/*.toml""#,
            "1:38: include[3]: gone.toml cannot be read: No such file or directory (os error 2)",
        ],
    ),
    (
        "[[app]]",
        &[
            "1:1: app[0].name: missing; expected a name that no other app has",
            r#"1:1: app[0].listen: missing; expected an array of addresses, as [":443"]"#,
            r#"1:1: app[0].backends: missing; expected an array of addresses, as ["10.0.0.1:5432"]"#,
        ],
    ),
    (
        "[[app]]\n\
             name = ''\n\
             listen = []\n\
             backends = []",
        &[
            r#"2:8: app[0].name: found "", expected a name of 1 to 64 bytes without control characters"#,
            "3:10: app[0].listen: this is empty, expected at least one element",
            "4:12: app[0].backends: this is empty, expected at least one element",
        ],
    ),
    (
        "[[app]]\n\
             name = 3\n\
             listen = ':80'\n\
             backends = 'b:80'",
        &[
            "2:8: app[0].name: found 3, expected a name of 1 to 64 bytes without control characters",
            r#"3:10: app[0].listen: found ":80", expected an array of addresses, as [":443"]; write [":80"]"#,
            r#"4:12: app[0].backends: found "b:80", expected an array of addresses, as ["10.0.0.1:5432"]; write ["b:80"]"#,
        ],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [80, 'localhost:80', ':7010-7000', '[::1]:99999', '::1:80']\n\
             backends = ['b', 'b:0', 'http://b:80', '10.0.0.256:80', 80, {weight = 1}]",
        &[
            "3:11: app[0].listen[0]: found 80, expected an address, or a table with one",
            r#"3:15: app[0].listen[1]: found "localhost:80", expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; a frontend listens on an IP address and not on a name"#,
            r#"3:31: app[0].listen[2]: found ":7010-7000", expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; a range of ports goes from 1 or more up, as ":7000-7010""#,
            r#"3:45: app[0].listen[3]: found "[::1]:99999", expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; a port is a number up to 65535"#,
            r#"3:60: app[0].listen[4]: found "::1:80", expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; an IPv6 address stands in brackets, as "[::1]:443""#,
            r#"4:13: app[0].backends[0]: found "b", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; the port is missing"#,
            r#"4:18: app[0].backends[1]: found "b:0", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; a backend has a port from 1 to 65535"#,
            r#"4:25: app[0].backends[2]: found "http://b:80", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; leave out what stands before the host"#,
            r#"4:40: app[0].backends[3]: found "10.0.0.256:80", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; this is neither an IPv4 address nor a name"#,
            "4:57: app[0].backends[4]: found 80, expected an address, or a table with one",
            r#"4:61: app[0].backends[5].address: missing; expected an address such as "10.0.0.1:5432""#,
        ],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [{address = ':80', mode = '0660', backlog = 0, freebnd = true}, {address = 'unix:a', mode = 660, freebind = false}]\n\
             backends = [{address = 'b:1', weight = 257, max_connections = 3, backup = 'no'}]",
        &[
            "3:36: app[0].listen[0].mode: only a Unix socket has permission bits",
            "3:54: app[0].listen[0].backlog: found 0, expected a whole number from 1 to 1048576",
            r#"3:57: app[0].listen[0].freebnd: unknown key; did you mean "freebind"?"#,
            r#"3:102: app[0].listen[1].mode: found 660, expected permission bits in octal between quotes, as "0660""#,
            "3:118: app[0].listen[1].freebind: a Unix socket has no free bind",
            "4:40: app[0].backends[0].weight: found 257, expected a whole number from 0 to 256",
            r#"4:75: app[0].backends[0].backup: found "no", expected true or false"#,
        ],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [':80']\n\
             backends = [{address = 'b:1', backup = true}]",
        &["4:12: app[0].backends: there are only backups, expected a backend that is none"],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [':80']\n\
             backends = [{address = 'b:1', weight = 0}]",
        &["4:12: app[0].backends: every backend has weight 0, so that none would get a connection"],
    ),
    // Each is held against all that came before, those included that collide themselves.
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = ['[::]:80', ':80', '0.0.0.0:80']\n\
             backends = ['b:1']",
        &[
            "3:22: app[0].listen[1]: app[0].listen[0] listens here already",
            "3:29: app[0].listen[2]: app[0].listen[1] listens here already",
        ],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [':80', '0.0.0.0:80', '127.0.0.1:80', '127.0.0.1:80']\n\
             backends = ['b:1', 'b.:1', '127.0.0.1:80']\n\
             source=['::1']",
        &[
            "3:18: app[0].listen[1]: app[0].listen[0] listens here already",
            "3:48: app[0].listen[3]: app[0].listen[2] listens here already",
            "4:20: app[0].backends[1]: this is the same backend as app[0].backends[0]; to give it more connections, raise its weight",
            r#"4:28: app[0].backends[2]: the app would connect to itself: it listens on ":80""#,
        ],
    ),
    (
        "[[app]]\n\
             name = 'a'\n\
             listen = [':80']\n\
             backends = ['b:1']\n\
             [[app]]\n\
             name = 'a'\n\
             listen = [':80', 'unix:a', 'unix:/etc/ringway/a']\n\
             backends = ['b:1']\n\
             [admin]\n\
             listen = '127.0.0.1:80'",
        &[
            r#"6:8: app[1].name: "a" is the name of app[0].name too"#,
            "7:11: app[1].listen[0]: app[0].listen[0] listens here already",
            "7:28: app[1].listen[2]: app[1].listen[1] listens here already",
            "10:10: admin.listen: app[0].listen[0] listens here already",
        ],
    ),
    (
        "[admin]\n\
             listen = '0.0.0.0:9900'",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"2:10: admin.listen: found "0.0.0.0:9900", expected a loopback address such as "127.0.0.1:9900", or "unix:/path"; whoever reaches it controls the proxy, so it is never open to the network"#,
        ],
    ),
    (
        "[admin]",
        &[
            r#"1:1: admin.listen: missing; expected an address such as "127.0.0.1:9900" or "unix:/path""#,
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
        ],
    ),
    (
        "admin = 'x'",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"1:9: admin: found "x", expected a table, [admin] in TOML"#,
        ],
    ),
    (
        "[server]\n\
             workers = 0\n\
             engine = 'io-uring'\n\
             log_level = 8\n\
             log_format = 'xml'\n\
             drain_timeout = '30'\n\
             access_log = 'on'\n\
             max_connections = 'many'\n\
             spin = '1s'\n\
             congestion = 'a b'\n\
             bulk_low_water = 65536\n\
             resolvers = ['10.0.0.2', 'dns.internal:53', '10.0.0.2:53', '10.0.0.2:0']\n\
             resolve_timeout = '0s'\n\
             group = 'a b'\n\
             binary = 'bin/ringway'\n\
             worker = 3\n\
             even_workers = 'yes'",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"2:11: server.workers: found 0, expected "auto" or a whole number from 1 to 1024"#,
            r#"3:10: server.engine: found "io-uring", expected "auto", "io_uring" or "epoll"; did you mean "io_uring"?"#,
            r#"4:13: server.log_level: found 8, expected the name of a level, as "info", or a number from 0 (debug) to 7 (disabled)"#,
            r#"5:14: server.log_format: found "xml", expected "human" or "json""#,
            r#"6:17: server.drain_timeout: found "30", expected a duration such as "250ms", "5s" or "1m30s"; a unit is missing, as in "30s""#,
            r#"7:14: server.access_log: found "on", expected true or false"#,
            r#"8:19: server.max_connections: found "many", expected "auto" or a whole number from 1 to 4294967295"#,
            r#"9:8: server.spin: found "1s", expected a duration from "0s" to "10ms""#,
            r#"10:14: server.congestion: found "a b", expected the name of a congestion control, as "reno" or "cubic""#,
            r#"11:18: server.bulk_low_water: found 65536, expected a size such as "64KiB" or "1MiB", at most "1GiB"; a unit is missing, as in "65536B""#,
            r#"12:14: server.resolvers[0]: found "10.0.0.2", expected the IP address of a name server with its port, as "10.0.0.2:53"; the port is missing"#,
            r#"12:26: server.resolvers[1]: found "dns.internal:53", expected the IP address of a name server with its port, as "10.0.0.2:53""#,
            r#"12:60: server.resolvers[3]: found "10.0.0.2:0", expected the IP address of a name server with its port, as "10.0.0.2:53""#,
            r#"13:19: server.resolve_timeout: found "0s", expected a duration from "10ms" to "1m""#,
            r#"14:9: server.group: found "a b", expected a group's name or number, as "ringway""#,
            r#"14:9: server.group: a group is only given to a user that is named; add server.user"#,
            r#"15:10: server.binary: found "bin/ringway", expected an absolute path, as "/usr/local/bin/ringway""#,
            r#"16:1: server.worker: unknown key; did you mean "workers"?"#,
            r#"17:16: server.even_workers: found "yes", expected true or false"#,
        ],
    ),
    (
        "[server]\n\
             user = ''\n\
             group = 5",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"2:8: server.user: found "", expected a user's name or number, as "ringway""#,
            r#"3:9: server.group: found 5, expected a group's name or number, as "ringway""#,
        ],
    ),
    (
        "[server]\n\
             log_level = 'warning'\n\
             bulk_low_water = '4GiB'\n\
             [server]",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"2:13: server.log_level: found "warning", expected "trace", "debug", "info", "warn", "error" or "off""#,
            r#"3:18: server.bulk_low_water: found "4GiB", expected a size such as "64KiB" or "1MiB", at most "1GiB""#,
            "4:2: server: this key is given twice",
        ],
    ),
    (
        "[server]\n\
             wrokers = 3\n\
             x = [\n\
             [[app]\n\
             name = 'a'",
        &[
            r#"2:1: server.wrokers: unknown key; did you mean "workers"?"#,
            "3:1: server.x: unknown key",
            "4:3: not valid TOML: a string must be quoted",
            "5:1: not valid TOML: missing comma between array elements, expected `,`",
        ],
    ),
];

/// Ranges of ports that meet.
#[test]
fn a_range_meets_other_frontends_in_any_of_its_ports() {
    assert_faults(
        "[[app]]\nname = 'a'\nlisten = [':7000-7010', '10.0.0.1:7000-7010', '0.0.0.0:7010']\nbackends = ['127.0.0.1:7005']\n\
         [[app]]\nname = 'b'\nlisten = [{ address = ':7008-7020' }]\nbackends = ['b:1']\n",
        Format::Toml,
        &[
            "3:47: app[0].listen[2]: app[0].listen[0] listens here already",
            r#"4:13: app[0].backends[0]: the app would connect to itself: it listens on ":7005""#,
            "7:11: app[1].listen[0]: app[0].listen[0] listens here already",
        ],
    );
}

const JSON_FILES: &[(&str, &[&str])] = &[
    ("", &["1:1: not valid JSON: the file is empty"]),
    ("{", &["1:1: not valid JSON: unterminated object"]),
    ("[]", &["1:1: found an array, expected a table"]),
    (
        r#"{"app": [{"name": "a", "name": 3, "listen": null}]}"#,
        &[
            r#"1:10: app[0].backends: missing; expected an array of addresses, as ["10.0.0.1:5432"]"#,
            "1:24: app[0].name: this key is given twice",
            r#"1:45: app[0].listen: found null, expected an array of addresses, as [":443"]"#,
        ],
    ),
    (
        r#"{"Apps":[{"Name":"a","Ports":[0,"80"],"Targets":["x"],"ports":1},3]}"#,
        &[
            "1:31: Apps[0].Ports[0]: found 0, expected a port, a whole number from 1 to 65535",
            r#"1:33: Apps[0].Ports[1]: found "80", expected a port, a whole number from 1 to 65535"#,
            r#"1:50: Apps[0].Targets[0]: found "x", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path"; the port is missing"#,
            r#"1:55: Apps[0].ports: unknown key; did you mean "Ports"?"#,
            r#"1:66: Apps[1]: found 3, expected an app, as {"Name": …, "Ports": …, "Targets": …}"#,
        ],
    ),
    (r#"{"Apps":[]}"#, &["1:9: Apps: this is empty, expected at least one element"]),
    (r#"{"app": [1,]}"#, &["1:11: not valid JSON: trailing commas are not allowed"]),
];

#[test]
fn a_service_is_a_name_and_nothing_else() {
    for (backend, expected) in [
        (
            "{ srv = '_pg._tcp.db.internal:5432' }",
            "4:21: app[0].backends[0].srv: found \"_pg._tcp.db.internal:5432\", expected the name of a service such as \
             \"_pg._tcp.db.internal\"; its records say which ports it has",
        ),
        (
            "{ srv = '_pg..internal' }",
            "4:21: app[0].backends[0].srv: found \"_pg..internal\", expected the name of a service such as \
             \"_pg._tcp.db.internal\"",
        ),
        (
            "{ srv = '_pg._tcp.db', address = 'db:1' }",
            "4:46: app[0].backends[0].address: a backend is at an address or is a service, and not both",
        ),
        (
            "{ weight = 2 }",
            "4:13: app[0].backends[0].address: missing; expected an address such as \"10.0.0.1:5432\"",
        ),
    ] {
        let text = format!("[[app]]\nname = 'a'\nlisten = [':80']\nbackends = [{backend}]\n");
        let errors = refused(&text, Format::Toml);
        let found: Vec<String> = errors.faults().iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected], "in:\n{text}");
    }
}

#[test]
fn rebalancing_that_makes_no_sense_is_refused_with_the_reason() {
    for (lines, expected) in [
        (
            "balance = 'maglev'\nrebalance = {}",
            "6:13: app[0].rebalance: a client that is sent by its address comes back to the same backend; leave the table out, or \
             choose another balance",
        ),
        (
            "rebalance = { share = 0 }",
            "5:23: app[0].rebalance.share: nothing would ever be closed; leave the table out",
        ),
        (
            "rebalance = { interval = '10ms' }",
            "5:26: app[0].rebalance.interval: found \"10ms\", expected a duration from \"100ms\" to \"1h\"",
        ),
        (
            "rebalance = { max_close = 3 }",
            "5:15: app[0].rebalance.max_close: unknown key; did you mean \"max_closed\"?",
        ),
    ] {
        let text = format!("[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['b:1']\n{lines}\n");
        let errors = refused(&text, Format::Toml);
        let found: Vec<String> = errors.faults().iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected], "in:\n{text}");
    }
}

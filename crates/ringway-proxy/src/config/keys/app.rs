//! `[[app]]` and the tables in it.

use super::{
    DIRECTORY_NAME, Default, FILE_NAME, Key, Kind, duration, key, number, required, table, text, value, words,
};

/// Where to listen.
const FRONTEND: Kind =
    text("address", r"^(([0-9.]+|\[[0-9A-Fa-f:.%]+\]|):[0-9]{1,5}(-[0-9]{1,5})?|unix:[^@].*)$");
/// Where to connect to.
const BACKEND: Kind = text(
    "address or host name with port",
    r"^([0-9A-Za-z._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.%]+\]:[0-9]{1,5}|unix:[^@].*)$",
);
const ADDRESS_OR_SERVICE: Default = Default::OneOf(&["address", "srv"]);
const NAME: Kind = Kind::Text { name: "string of 1–64 bytes", pattern: "^.+$", length_max: 64 };
const NETWORK: Kind = text("network or IP address", r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$");
const NETWORKS: Kind = Kind::Array { of: &Kind::AnyOf(&[NETWORK, Kind::Table]), min: 0 };
/// What goes beyond that no machine carries.
const BANDWIDTH: Kind = Kind::Size { max: "1000GiB" };
const FILE: Kind = text(FILE_NAME, "^.+$");
const DIRECTORY: Kind = text(DIRECTORY_NAME, "^.+$");
const CHAIN_OR_DIRECTORY: Default = Default::OneOf(&["chain", "directory"]);
/// A timeout that can be switched off.
const OR_NONE: Kind = Kind::AnyOf(&[duration("1ms", "365d"), words(&["none"])]);

/// One HTTP status, or some in a row.
const STATUS: Kind =
    Kind::AnyOf(&[number(100, 599), text("range of statuses", "^[1-5][0-9]{2}-[1-5][0-9]{2}$")]);
/// A port, or some in a row.
const PORTS: Kind = Kind::AnyOf(&[number(1, 65_535), text("range of ports", "^[0-9]{1,5}-[0-9]{1,5}$")]);
const HEX: Kind = text("bytes in hexadecimal", r"^\s*([0-9A-Fa-f]\s*[0-9A-Fa-f]\s*)+$");

/// Limits that the checker reads too are asserted there against these.
pub(super) const KEYS: &[Key] = &[
    required(
        "app",
        Kind::Array { of: &Kind::Table, min: 1 },
        "The apps: where each listens and where its connections go. At least one.",
    ),
    required("app.name", NAME, "In logs, metrics and `ringway status`. No two apps have the same."),
    key(
        "app.protocol",
        Kind::Choice { words: &["tcp"], later: &["udp"] },
        value("\"tcp\""),
        "What is carried.",
    ),
    required(
        "app.listen",
        Kind::Array { of: &Kind::AnyOf(&[FRONTEND, Kind::Table]), min: 1 },
        "Frontends: addresses, or tables with one and more about it.",
    ),
    required("app.listen.address", FRONTEND, "Where to listen, a range of ports too."),
    key(
        "app.listen.backlog",
        number(1, 1 << 20),
        value("4096"),
        "Length of the kernel's queue of connections that wait to be accepted; the kernel caps it at \
         `net.core.somaxconn`.",
    ),
    key(
        "app.listen.freebind",
        Kind::Boolean,
        value("false"),
        "`IP_FREEBIND`: listen on an address that the machine does not have (yet). Not for Unix sockets.",
    ),
    key(
        "app.listen.mode",
        text("string, octal", "^0?[0-7]{3}$"),
        Default::Words("by umask"),
        "Permission bits of a Unix socket, as `\"0660\"`. Only for Unix sockets.",
    ),
    key(
        "app.backends",
        Kind::Array { of: &Kind::AnyOf(&[BACKEND, Kind::Table]), min: 1 },
        Default::OneOf(&["backends", "route"]),
        "Backends: addresses, or tables with one and more about it. In an app with routes, those of clients that fit none; \
         without any, such clients are refused.",
    ),
    key("app.backends.address", BACKEND, ADDRESS_OR_SERVICE, "Where to connect to."),
    key(
        "app.backends.srv",
        text("name of a service", "^[0-9A-Za-z._-]+$"),
        ADDRESS_OR_SERVICE,
        "In the place of `address`: a service, by the SRV records of this name. They say which targets it has, their ports, \
         weights and priorities.",
    ),
    key(
        "app.backends.weight",
        number(0, 256),
        value("1"),
        "Share of the connections compared with the other backends. `0`: no new connections.",
    ),
    key(
        "app.backends.backup",
        Kind::Boolean,
        value("false"),
        "Used only while no other backend is available.",
    ),
    key(
        "app.backends.max_connections",
        number(1, u32::MAX - 1),
        Default::Words("no limit"),
        "The most connections at once to each address of the backend, over all workers. A backup does not stand in for a \
         backend that is full.",
    ),
    key(
        "app.balance",
        words(&["least-connections", "round-robin", "random", "two-choices", "source-hash", "maglev"]),
        value("\"least-connections\""),
        "How a backend is chosen. `\"least-connections\"`: the one with the fewest open connections for its weight. \
         `\"round-robin\"`: each in turn, as often as its weight says. Both are exact over all workers. \
         `\"random\"`: by chance, as likely as its weight says. `\"two-choices\"`: of two by chance the one with fewer \
         connections for its weight. `\"source-hash\"`: by the client's IP address (IPv6: the whole of it), on a ring: \
         when a backend leaves or joins, nobody else's clients move. `\"maglev\"`: by the client's IP address, in a \
         table: shares within a percent of the weights, and a percent or two of the others' clients move.",
    ),
    key(
        "app.slow_start",
        duration("1ms", "1d"),
        Default::Words("none"),
        "A backend that comes up, or joins while the app runs, begins with a tenth of its weight, which grows to all of \
         it in this time. Not for `\"source-hash\"` and `\"maglev\"`.",
    ),
    table(
        "app.rebalance",
        "If it is there, open connections spread to a backend that joins or comes up: those of backends that have too many are \
         closed, a few at a time, and clients connect anew. Not for `\"source-hash\"` and `\"maglev\"`.",
    ),
    key(
        "app.rebalance.share",
        Kind::Share,
        value("0.1"),
        "Share of what a backend has above its fair part that is closed at each turn, at least one connection.",
    ),
    key("app.rebalance.interval", duration("100ms", "1h"), value("\"10s\""), "Time between turns."),
    key(
        "app.rebalance.jitter",
        Kind::Share,
        value("0.2"),
        "Share of `interval` by which each turn is moved at random.",
    ),
    key(
        "app.rebalance.min_age",
        duration("1ms", "365d"),
        value("\"1m\""),
        "Connections are closed that are at least so old.",
    ),
    key(
        "app.rebalance.max_closed",
        number(1, 1_000_000),
        value("100"),
        "At each turn at most so many connections are closed, over all backends of the app.",
    ),
    key(
        "app.rebalance.tolerance",
        Kind::Share,
        value("0.1"),
        "Share above its fair part from which a backend has too many.",
    ),
    key(
        "app.rebalance.within",
        duration("1s", "1d"),
        value("\"10m\""),
        "So long after a backend joined it ends, whether connections are spread by then or not.",
    ),
    key(
        "app.source",
        Kind::Array { of: &text("IP address", r"^([0-9.]+|[0-9A-Fa-f:.]+)$"), min: 0 },
        value("[]"),
        "Local addresses to connect to backends from, taken in turn. Empty: the system chooses. Many connections to few \
         backends need several, as each address has some 28,000 ports for one backend.",
    ),
    key(
        "app.keep_alive",
        Kind::AnyOf(&[Kind::Table, Kind::Boolean]),
        value(r#"{ "idle": "2m", "interval": "30s", "count": 4 }"#),
        "TCP keep-alive towards clients and backends. What is left out of the table has its default; `true` is all \
         defaults, `false` is no probes.",
    ),
    key(
        "app.keep_alive.idle",
        duration("1s", "32767s"),
        value("\"2m\""),
        "The first probe follows so long after the last byte. Whole seconds.",
    ),
    key(
        "app.keep_alive.interval",
        duration("1s", "32767s"),
        value("\"30s\""),
        "Between probes. Whole seconds.",
    ),
    key(
        "app.keep_alive.count",
        number(1, 127),
        value("4"),
        "After so many probes without an answer the connection is closed.",
    ),
    key(
        "app.user_timeout",
        duration("1ms", "24d"),
        Default::Words("the system's"),
        "`TCP_USER_TIMEOUT` towards clients and backends: how long sent data may stay unacknowledged.",
    ),
    key(
        "app.connect_attempts",
        number(1, 100),
        value("3"),
        "How many backends are tried for one connection, the first included, while no byte has been sent.",
    ),
    key(
        "app.removed_backends",
        Kind::AnyOf(&[words(&["keep", "close"]), duration("1ms", "365d")]),
        value("\"keep\""),
        "What becomes of the connections of a backend that a reload removes, and of those of the app if it is removed: \
         they go on until they end, are closed at once, or are closed after this time.",
    ),
    table("app.timeouts", "How long things may take."),
    key(
        "app.timeouts.connect",
        duration("1ms", "365d"),
        value("\"5s\""),
        "For connecting to one backend; then another one is tried.",
    ),
    key(
        "app.timeouts.idle",
        OR_NONE,
        value("\"1h\""),
        "A connection without a byte in either direction for so long is closed.",
    ),
    key("app.timeouts.half_close", OR_NONE, value("\"1m\""), "The same after one direction has ended."),
    key("app.timeouts.lifetime", OR_NONE, value("\"none\""), "For the whole connection, whatever it does."),
    key(
        "app.timeouts.handshake",
        duration("1ms", "365d"),
        value("\"5s\""),
        "For a PROXY header to arrive, from the moment the connection is admitted; and then for what tells the route: a hello \
         of TLS, or the head of a request; and then for a handshake of TLS that ends here.",
    ),
    key(
        "app.timeouts.sniff",
        duration("1ms", "365d"),
        value("\"1s\""),
        "Where routes go by a client's first bytes: one that has not sent any for so long waits for the server to speak \
         first, and is `\"silent\"`.",
    ),
    table("app.health", "How backends are checked."),
    key(
        "app.health.check",
        words(&["none", "tcp", "tls", "http", "send-expect"]),
        value("\"tcp\""),
        "`\"tcp\"`: a connection can be opened. `\"tls\"`: and a handshake of TLS made on it, by the rules of `backend_tls` where that is \
         given, else without asking who answers. `\"http\"`: a request is answered as expected. `\"send-expect\"`: bytes \
         are answered as expected. `\"none\"`: no checks, a backend counts as healthy.",
    ),
    key(
        "app.health.method",
        words(&["GET", "HEAD", "OPTIONS"]),
        value("\"GET\""),
        "For `\"http\"`: the method of the request.",
    ),
    key(
        "app.health.path",
        text("path", "^/[!-~]*$"),
        value("\"/\""),
        "For `\"http\"`: the path, with its query.",
    ),
    key(
        "app.health.host",
        text("host", "^[!-~]+$"),
        Default::Words("the backend's address"),
        "For `\"http\"`: the `Host` header.",
    ),
    key(
        "app.health.status",
        Kind::AnyOf(&[STATUS, Kind::Array { of: &STATUS, min: 1 }]),
        value("\"200-399\""),
        "For `\"http\"`: which status is good, as `200`, `\"200-299\"` or `[200, \"300-399\"]`.",
    ),
    key(
        "app.health.body",
        text("string of 1–1024 bytes", r"^[\s\S]+$"),
        Default::Words("none"),
        "For `\"http\"`: a text that the first 64 KiB of the body must contain.",
    ),
    key(
        "app.health.body_regex",
        text("regular expression", "^.+$"),
        Default::Words("none"),
        "For `\"http\"`: a regular expression that the first 64 KiB of the body must match somewhere.",
    ),
    key(
        "app.health.preset",
        words(&["redis", "postgresql", "smtp"]),
        Default::Words("none"),
        "For `\"send-expect\"`: what to send and expect. `\"redis\"`: a `PING`, answered by `+PONG` or `-NOAUTH`. \
         `\"postgresql\"`: an SSLRequest, answered by `S` or `N`. `\"smtp\"`: a greeting with 220.",
    ),
    key(
        "app.health.send",
        text("string of 1–1024 bytes", r"^[\s\S]+$"),
        Default::Words("nothing"),
        "For `\"send-expect\"`: what is sent when the connection is open, as `\"PING\\\\r\\\\n\"`.",
    ),
    key(
        "app.health.send_hex",
        HEX,
        Default::Words("nothing"),
        "For `\"send-expect\"`: the same in hexadecimal, as `\"50 49 4e 47 0d 0a\"`.",
    ),
    key(
        "app.health.expect",
        text("string of 1–1024 bytes", r"^[\s\S]+$"),
        Default::Words("none"),
        "For `\"send-expect\"`: what the answer must begin with.",
    ),
    key(
        "app.health.expect_hex",
        HEX,
        Default::Words("none"),
        "For `\"send-expect\"`: the same in hexadecimal.",
    ),
    key(
        "app.health.expect_regex",
        text("regular expression", "^.+$"),
        Default::Words("none"),
        "For `\"send-expect\"`: a regular expression that the first 4 KiB of the answer must match somewhere.",
    ),
    key(
        "app.health.interval",
        duration("1ms", "365d"),
        value("\"2s\""),
        "Time between the starts of two checks of a backend.",
    ),
    key(
        "app.health.timeout",
        duration("1ms", "365d"),
        value("\"1s\""),
        "For one check: at most `interval`, which is the default where it is shorter than `\"1s\"`.",
    ),
    key("app.health.rise", number(1, 1_000), value("2"), "Good checks in a row that take a backend back."),
    key(
        "app.health.fall",
        number(1, 1_000),
        value("3"),
        "Failed checks in a row that leave a backend out. The first check after start decides alone.",
    ),
    key(
        "app.health.jitter",
        Kind::Share,
        value("0.1"),
        "Share of `interval` by which each check is moved at random, so that checks do not come all at once.",
    ),
    key(
        "app.health.on_down",
        words(&["keep", "close"]),
        value("\"keep\""),
        "What happens to the connections of a backend that checks find down. `\"keep\"`: they go on as long as they can. \
         `\"close\"`: they are closed, so that clients connect anew, to another backend.",
    ),
    key(
        "app.health.panic_threshold",
        Kind::Share,
        value("0"),
        "While fewer than this share of the backends (without backups) are healthy, and no backup is, health is not asked \
         for and all are used: the few that are left would be overrun. `0`: never.",
    ),
    table(
        "app.health.ejection",
        "If it is there, a backend is left out for a time when too many of its connections fail.",
    ),
    key(
        "app.health.ejection.failure_ratio",
        Kind::Share,
        value("0.5"),
        "Share of an endpoint's connections that fail from which it is left out.",
    ),
    key(
        "app.health.ejection.window",
        duration("100ms", "1h"),
        value("\"30s\""),
        "Connections of so much time, up to now, are judged; it moves on in eighths.",
    ),
    key(
        "app.health.ejection.min_connections",
        number(1, 1_000_000),
        value("20"),
        "Fewer connections than these, in that time and over all workers, are not judged.",
    ),
    key(
        "app.health.ejection.early_close",
        Kind::Boolean,
        value("false"),
        "A connection fails if it cannot be opened. `true`: also if the backend ends or resets it, or is lost, before it \
         has sent a byte, and the client did not end it first.",
    ),
    key(
        "app.health.ejection.time",
        duration("1ms", "365d"),
        value("\"30s\""),
        "For how long an endpoint is left out. Doubles each time, and halves again for each such time that it does well.",
    ),
    key(
        "app.health.ejection.max_time",
        duration("1ms", "365d"),
        value("\"5m\""),
        "For how long at most: at least `time`, which is the default where it is longer than `\"5m\"`.",
    ),
    key(
        "app.health.ejection.max_share",
        Kind::Share,
        value("0.5"),
        "Share of the app's endpoints that are left out like this at once, at most; rounded down, so that one of two may \
         be and the only one never is.",
    ),
    key(
        "app.health.ejection.until",
        words(&["time", "check", "both"]),
        value("\"time\""),
        "What takes it back. `\"time\"`: the time is over. `\"check\"`: that, or the next good check. `\"both\"`: the first \
         good check after the time is over.",
    ),
    table("app.tls", "Clients speak TLS."),
    required(
        "app.tls.mode",
        words(&["terminate", "passthrough"]),
        "`\"terminate\"`: TLS ends here, and backends get what is in it. `\"passthrough\"`: backends end TLS. The hello is read \
         to find the route, and passed on as it came.",
    ),
    key(
        "app.tls.unreadable",
        Kind::AnyOf(&[words(&["refuse"]), BACKEND]),
        value("\"refuse\""),
        "What becomes of a client that does not begin with a hello that can be read, unless a route names its protocol. \
         `\"refuse\"`: it is closed. An address: it goes to this backend.",
    ),
    key(
        "app.tls.certificates",
        Kind::Array { of: &Kind::Table, min: 1 },
        Default::Words("must be given with `\"terminate\"`"),
        "For `\"terminate\"`: certificates by their files, or whole directories of them. A client gets the one for the server name \
         that it asks for: by its own name first, then by one with `*` for its first label; of several the first whose key it \
         can use. Without a name, or with one that none is for, it gets the first of all.",
    ),
    key(
        "app.tls.certificates.chain",
        FILE,
        CHAIN_OR_DIRECTORY,
        "The certificate, and those between it and a root, in this order, in PEM.",
    ),
    key(
        "app.tls.certificates.key",
        FILE,
        Default::Words("in the file of `chain`"),
        "Its private key, in PEM, not encrypted.",
    ),
    key(
        "app.tls.certificates.ocsp",
        FILE,
        Default::Words("none"),
        "An answer of the issuer's OCSP server, in DER, that clients get with the certificate.",
    ),
    key(
        "app.tls.certificates.directory",
        DIRECTORY,
        CHAIN_OR_DIRECTORY,
        "All certificates of a directory, by the names of their files: `NAME.pem` or `NAME.crt`, with the key in `NAME.key` or in \
         the same file, and a staple in `NAME.ocsp`. Also its directories with `fullchain.pem` and `privkey.pem`, or `tls.crt` \
         and `tls.key`.",
    ),
    key(
        "app.tls.alpn",
        Kind::Array { of: &text("protocol", "^.{1,255}$"), min: 1 },
        Default::Words("none is agreed on"),
        "For `\"terminate\"`: application protocols that backends speak, as `[\"h2\", \"http/1.1\"]`; the first that the client offers \
         is agreed on. A client that offers others only is refused.",
    ),
    key(
        "app.tls.min_version",
        words(&["1.2", "1.3"]),
        value("\"1.2\""),
        "For `\"terminate\"`: the oldest version of TLS.",
    ),
    key(
        "app.tls.client_ca",
        FILE,
        Default::Words("none: clients are not asked"),
        "For `\"terminate\"`: mutual TLS. The certificates of authorities, in PEM, one of which must have issued a client's \
         certificate.",
    ),
    key(
        "app.tls.client_auth",
        words(&["required", "optional"]),
        value("\"required\""),
        "With `client_ca`: whether a client may come without a certificate. One that it brings must be good in any case.",
    ),
    key(
        "app.tls.client_crl",
        Kind::AnyOf(&[FILE, Kind::Array { of: &FILE, min: 1 }]),
        Default::Words("none: nothing is revoked"),
        "With `client_ca`: files of what authorities revoked (PEM, or DER with one list each). Each authority between a client and \
         a root must have a list in them: a client whose authority has none is refused.",
    ),
    key(
        "app.tls.ticket_keys",
        FILE,
        Default::Words("keys of the process"),
        "For `\"terminate\"`: a file of keys that session tickets are sealed with, for several machines that take each other's: 64 \
         hexadecimal digits a line, as `openssl rand -hex 32` prints them, at most 16. The first seals, all open. `#` begins a \
         comment. Without it the process makes keys of its own, and new ones as time passes.",
    ),
    key(
        "app.tls.ticket_lifetime",
        Kind::AnyOf(&[duration("1s", "7d"), words(&["none"])]),
        value("\"6h\""),
        "For `\"terminate\"`: how long a client may go on with a session of earlier by its ticket. `\"none\"`: it cannot.",
    ),
    table(
        "app.backend_tls",
        "Backends speak TLS: Ringway begins it with them, whether clients speak TLS or not.",
    ),
    key(
        "app.backend_tls.verify",
        Kind::Boolean,
        value("true"),
        "Whether a backend has to have a certificate for its name that an authority has signed. `false` protects from nobody who \
         can get between.",
    ),
    key(
        "app.backend_tls.ca",
        FILE,
        Default::Words("the authorities of the system"),
        "A file of authorities in PEM: nobody else is believed.",
    ),
    key(
        "app.backend_tls.server_name",
        text("host name or IP address", "^.+$"),
        Default::Words("the backend's own, as it stands in `backends`"),
        "The name that backends are asked for, and that their certificates must have.",
    ),
    key(
        "app.backend_tls.certificate",
        Kind::Table,
        Default::Words("none"),
        "Who Ringway is to backends that ask for a certificate.",
    ),
    required(
        "app.backend_tls.certificate.chain",
        FILE,
        "A file with the certificate and then its intermediates, in PEM.",
    ),
    required("app.backend_tls.certificate.key", FILE, "A file with the private key, in PEM."),
    key(
        "app.backend_tls.alpn",
        Kind::Array { of: &text("protocol", "^.{1,255}$"), min: 1 },
        Default::Words("none is offered"),
        "Application protocols that are offered to backends, the preferred one first, as `[\"h2\"]`.",
    ),
    key(
        "app.route",
        Kind::Array { of: &Kind::Table, min: 0 },
        value("[]"),
        "Where clients go by what they say of themselves. The first route that fits is taken; all that it asks for must fit.",
    ),
    key(
        "app.route.name",
        NAME,
        Default::Words("made of what it asks for"),
        "In logs, metrics and `ringway status`. No two routes of an app have the same.",
    ),
    key(
        "app.route.protocols",
        Kind::Array {
            of: &words(&["tls", "http1", "http2", "ssh", "postgresql", "websocket", "silent", "other"]),
            min: 1,
        },
        Default::Words("any; in an app with `tls`, `\"tls\"`"),
        "What the client speaks. `\"http1\"` has `\"websocket\"` in it; `\"http2\"` is without TLS; `\"postgresql\"` with its \
         request for TLS or without. `\"silent\"`: it waits for the server to speak first. `\"other\"`: something else.",
    ),
    key(
        "app.route.server_names",
        Kind::Array { of: &text("host name or pattern", "^.+$"), min: 1 },
        Default::Words("any, or none"),
        "Hosts that the client asks for, by the server name of TLS or the host of an HTTP/1 request: `\"www.example.com\"`; \
         `\"*.example.com\"`, which stands for a label or more before it and not for `example.com`; `\"~\"` and a regular \
         expression for the whole name. In lower case or not.",
    ),
    key(
        "app.route.client_names",
        Kind::Array { of: &text("name or pattern", "^.+$"), min: 1 },
        Default::Words("any, or none"),
        "What the client is called by its certificate, where TLS ends here and `tls.client_ca` asks for one: its common name, or else \
         the first of its other names. `\"~\"` and a regular expression for the whole name.",
    ),
    key(
        "app.route.alpn",
        Kind::Array { of: &text("protocol", "^.{1,255}$"), min: 1 },
        Default::Words("any, or none"),
        "The client offers one of these protocols within TLS, as `\"h2\"`; where TLS ends here, it is the one that was agreed on.",
    ),
    key(
        "app.route.paths",
        Kind::Array { of: &text("path", r"^/[!-~]*$"), min: 1 },
        Default::Words("any"),
        "The path of an HTTP/1 request, as it was sent and without its query: `\"/chat\"`, or `\"/chat/*\"` for those that begin \
         like this.",
    ),
    key(
        "app.route.source",
        Kind::Array { of: &NETWORK, min: 1 },
        Default::Words("any"),
        "Networks that the client comes from. With a PROXY header, the client that it names.",
    ),
    key(
        "app.route.destination",
        Kind::Array { of: &NETWORK, min: 1 },
        Default::Words("any"),
        "Networks of the address that the client connected to. With a PROXY header, the one that it names.",
    ),
    key(
        "app.route.destination_ports",
        Kind::Array { of: &PORTS, min: 1 },
        Default::Words("any"),
        "Ports that the client connected to, as `443` or `\"8000-8010\"`. With a PROXY header, the one that it names.",
    ),
    table("app.limits", "Who may come, how many, and how fast; exact over all workers."),
    key(
        "app.limits.connections",
        number(1, u32::MAX - 1),
        Default::Words("no limit"),
        "Connections at once. Further ones are closed at once.",
    ),
    key(
        "app.limits.connections_per_source",
        number(1, u32::MAX - 1),
        Default::Words("no limit"),
        "Connections at once from one source: an IPv4 address, or an IPv6 network.",
    ),
    key(
        "app.limits.connections_per_second",
        number(1, 1_000_000),
        Default::Words("no limit"),
        "New connections a second; after a quiet second so many may come at once.",
    ),
    key(
        "app.limits.connections_per_second_per_source",
        number(1, 1_000_000),
        Default::Words("no limit"),
        "The same for each source.",
    ),
    key(
        "app.limits.handshakes",
        number(1, u32::MAX - 1),
        Default::Words("no limit"),
        "Clients at once whose first bytes, or handshake of TLS, are waited for, to find their route. Further ones are closed at once; those that \
         have said where they go stay.",
    ),
    key(
        "app.limits.handshakes_per_source",
        number(1, u32::MAX - 1),
        Default::Words("no limit"),
        "The same for each source.",
    ),
    key(
        "app.limits.source_prefix_v6",
        number(1, 128),
        value("64"),
        "Leading bits of an IPv6 address that name a source.",
    ),
    key(
        "app.limits.queue",
        number(1, u32::MAX - 1),
        Default::Words("none: they are closed"),
        "Connections that wait while all available backends have as many as their `max_connections` allows, in the order in \
         which they came. Further ones are closed at once. Needs a backend with `max_connections`.",
    ),
    key(
        "app.limits.queue_timeout",
        duration("1ms", "1h"),
        value("\"10s\""),
        "How long a connection may wait in that queue; then it is closed.",
    ),
    key(
        "app.limits.bandwidth",
        BANDWIDTH,
        Default::Words("no limit"),
        "Bytes a second, as `\"10MiB\"`, of all connections together: so many from clients to backends, and as many from \
         backends to clients.",
    ),
    key(
        "app.limits.bandwidth_per_connection",
        BANDWIDTH,
        Default::Words("no limit"),
        "The same for each connection.",
    ),
    key(
        "app.limits.allow",
        NETWORKS,
        Default::Words("everybody"),
        "Only clients from these networks may come. `{ file = \"networks.txt\" }` is a file with one a line; what follows \
         `#` is a comment.",
    ),
    key("app.limits.allow.file", FILE, Default::Required, "A file of networks, one a line."),
    key(
        "app.limits.deny",
        NETWORKS,
        value("[]"),
        "Clients from these networks may not come, allowed or not.",
    ),
    key("app.limits.deny.file", FILE, Default::Required, "A file of networks, one a line."),
    table("app.proxy_protocol", "PROXY headers (versions 1 and 2): from clients, and to backends."),
    key(
        "app.proxy_protocol.accept",
        Kind::AnyOf(&[Kind::Boolean, words(&["optional"])]),
        value("false"),
        "Whether connections begin with a PROXY header of either version. `true`: they must, and must come from \
         `trusted`. `\"optional\"`: those from `trusted` may; those of others are relayed as they are.",
    ),
    key(
        "app.proxy_protocol.trusted",
        Kind::Array {
            of: &text("network, IP address, or `\"unix\"`", r"^([0-9A-Fa-f:.]+(/[0-9]{1,3})?|unix)$"),
            min: 0,
        },
        value("[]"),
        "Whose headers are believed: networks as `\"10.0.0.0/8\"`; `\"unix\"` is whoever may connect to a frontend that is \
         a Unix socket. Must be given with `accept`.",
    ),
    key(
        "app.proxy_protocol.send",
        words(&["none", "v1", "v2"]),
        value("\"none\""),
        "Which header backends are sent at the start of each connection, health checks included.",
    ),
];

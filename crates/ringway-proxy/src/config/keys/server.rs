//! `[server]`, `[admin]` and `include`.

use super::{Default, Key, Kind, duration, key, number, required, table, text, value, words};

/// What names users and groups.
const ACCOUNT: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$";

/// Limits that the checker reads too are asserted there against these.
pub(super) const KEYS: &[Key] = &[
    table("server", "The process."),
    key(
        "server.workers",
        Kind::AnyOf(&[number(1, 1_024), words(&["auto"])]),
        value("\"auto\""),
        "Number of worker threads. `\"auto\"`: one for each processor that the process may use.",
    ),
    key(
        "server.engine",
        words(&["auto", "io_uring", "epoll"]),
        value("\"auto\""),
        "How sockets are driven. `\"auto\"` is io_uring, which the benchmark page shows to cost the least for a relay. \
         Where io_uring is forbidden, epoll is used and the log says so.",
    ),
    key(
        "server.log_level",
        Kind::AnyOf(&[
            words(&["trace", "debug", "info", "warn", "error", "off"]),
            number(0, 7),
            text("number as text", "^[0-7]$"),
        ]),
        value("\"info\""),
        "What is logged, by name, or by the number that the seed proxy gave it.",
    ),
    key(
        "server.log_format",
        words(&["human", "json"]),
        value("\"human\""),
        "Lines for people, or one JSON object a line.",
    ),
    key(
        "server.drain_timeout",
        duration("0s", "7d"),
        value("\"30s\""),
        "How long connections may take to finish after SIGTERM or SIGINT, before they are closed. `\"0s\"`: closed at \
         once.",
    ),
    key(
        "server.watch",
        Kind::Boolean,
        value("false"),
        "Whether the configuration is read again when a file of it changes: this one, those that it includes, and those that \
         either names.",
    ),
    key("server.access_log", Kind::Boolean, value("true"), "Whether each connection is logged when it ends."),
    key(
        "server.max_connections",
        Kind::AnyOf(&[number(1, u32::MAX), words(&["auto"])]),
        value("\"auto\""),
        "The most connections of clients at once, over all apps. `\"auto\"`: what the descriptor limit carries, which \
         the log says at start.",
    ),
    key(
        "server.spin",
        duration("0s", "10ms"),
        value("\"0s\""),
        "How long a worker polls before it parks, while work comes in quick succession. `\"20us\"` to `\"50us\"` halve \
         the latency of one request at a time and cost processor time.",
    ),
    key(
        "server.congestion",
        Kind::Text { name: "string", pattern: "^[A-Za-z0-9_-]+$", length_max: 15 },
        Default::Words("the system's"),
        "Congestion control (`TCP_CONGESTION`) of all TCP sockets, as `\"reno\"` or `\"cubic\"`. \
         `net.ipv4.tcp_allowed_congestion_control` lists those that a process without privileges may choose.",
    ),
    key(
        "server.bulk_low_water",
        Kind::Size { max: "1GiB" },
        Default::Words("none"),
        "`SO_RCVLOWAT` of a connection that sends in bulk: the kernel wakes the worker for no less than this. Saves \
         processor time for bulk data; a timer takes what stays below the mark.",
    ),
    key(
        "server.even_workers",
        Kind::Boolean,
        value("true"),
        "Whether idle connections go from workers that hold many to workers that hold few. Differences of a few are left \
         alone.",
    ),
    key(
        "server.resolvers",
        Kind::Array {
            of: &text("IP address with port", r"^([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}$"),
            min: 0,
        },
        value("[]"),
        "Name servers for names of backends, as `\"10.0.0.2:53\"`, asked by UDP, and by TCP for long answers. Empty: those \
         of `/etc/resolv.conf`. `/etc/hosts` goes before either; search domains are the system's only.",
    ),
    key(
        "server.resolve_timeout",
        duration("10ms", "1m"),
        value("\"2s\""),
        "How long a name server may take to answer. It is asked twice, then the next one is.",
    ),
    key(
        "server.user",
        Kind::Text { name: "user", pattern: ACCOUNT, length_max: 256 },
        Default::Words("who starts it"),
        "Who the process becomes for good, by name or number, once it listens at all its ports and before it serves. Only \
         root can become somebody else. Unix sockets are made by that user.",
    ),
    key(
        "server.group",
        Kind::Text { name: "group", pattern: ACCOUNT, length_max: 256 },
        Default::Words("that of the user"),
        "The group that the process gets with `user`, by name or number. Its other groups are those of the user.",
    ),
    key(
        "server.binary",
        Kind::Text { name: "absolute path", pattern: "^/", length_max: 4_095 },
        Default::Words("the path that the process was started by"),
        "The program that `ringway upgrade` and SIGUSR2 start. It is looked up when that happens, so a link may point to \
         the version that is wanted.",
    ),
    table(
        "admin",
        "The admin interface: `/healthz`, `/status`, `/metrics`, and what `ringway status` talks to. Without this table \
         there is none.",
    ),
    required(
        "admin.listen",
        // No schema can tell loopback addresses of IPv6 in all their spellings.
        text("address", r"^(127\.[0-9.]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}|unix:[^@].*)$"),
        "A loopback address, as `\"127.0.0.1:9900\"`, or a Unix socket, as `\"unix:/run/ringway/admin.sock\"`, which is \
         made with mode 0600. Everything else is refused: whoever reaches it controls the proxy.",
    ),
    key(
        "include",
        Kind::AnyOf(&[
            text("path or pattern", "^.+$"),
            Kind::Array { of: &text("path or pattern", "^.+$"), min: 0 },
        ]),
        value("[]"),
        "Files with more apps: paths from the directory of this file, or patterns as `\"conf.d/*.toml\"` (`*` is any text, \
         `?` any character of a file's name that does not begin with a dot). They are read in the order of their paths; \
         their extension says whether they are TOML, YAML or JSON.",
    ),
];

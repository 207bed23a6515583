//! The access log: one line for each connection that ended, refused ones too.
//!
//! Workers hand over plain records; a thread of its own turns them into text. A reader that is too slow costs
//! lines (`ringway_log_lines_dropped_total{log="access"}`), never time of a worker.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ringway::{Clock, SocketAddress, Time};
use serde::Serialize;

use super::line_queue::{self, LineQueue, LineWriter};
use super::timestamp::Timestamp;
use crate::metrics::{ProcessCounter, ProcessMetrics};
use crate::model::{Client, LogFormat};

/// Lines that wait for the writer at most; some 2 MB when a reader is stuck.
const LINES_MAX: usize = 8192;

/// What is known of a connection when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessRecord {
    /// When it ended.
    pub ended: Time,
    /// Number of the connection, unique in the process.
    pub connection: u64,
    /// The worker that served it.
    pub worker: u32,
    /// Name of the app.
    pub app: Arc<str>,
    /// Name of the route that it took.
    pub route: Option<Arc<str>>,
    /// What the client asked for, where its first bytes were looked at.
    pub asked: Option<Arc<Asked>>,
    /// Name of the frontend, as in the configuration.
    pub frontend: Arc<str>,
    /// The client's address.
    pub client: SocketAddress,
    /// Who opened the connection, where a PROXY header named another client.
    pub via: Option<SocketAddress>,
    /// Name of the backend, as in the configuration; none if none was chosen.
    pub backend: Option<Arc<str>>,
    /// The backend's resolved address.
    pub endpoint: Option<SocketAddress>,
    /// Bytes handed on: `[client to backend, backend to client]`.
    pub bytes: [u64; 2],
    /// From the accept to the first dial.
    pub queue: Duration,
    /// From the first dial to the established connection; none if there was none.
    pub connect: Option<Duration>,
    /// From the accept to the end.
    pub total: Duration,
    /// Who ended it: `client`, `backend`, `ringway` or `system`.
    pub initiator: &'static str,
    /// How far it had come: `accept`, `connect` or `relay`.
    pub phase: &'static str,
    /// Why it ended, in one word.
    pub reason: &'static str,
}

/// What a client asked for with its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it speaks.
    pub protocol: Client,
    /// Host that it asks for: by the server name of TLS, or of a request of HTTP/1.
    pub name: Option<Box<str>>,
    /// The application protocols within TLS, with commas between them.
    pub alpn: Option<Box<str>>,
    /// What came of its TLS, where that ends here.
    pub secured: Option<Secured>,
}

/// What came of the handshake with a client whose TLS ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secured {
    /// The two ends agreed on this.
    Agreed {
        /// `"1.2"` or `"1.3"`.
        version: &'static str,
        /// The cipher suite by the name that IANA gave it.
        cipher: &'static str,
        /// The application protocol.
        alpn: Option<Box<str>>,
        /// They went on with a session of earlier.
        is_resumed: bool,
        /// What the client is called by its certificate, which was verified; empty: it has one without a name.
        client: Option<Box<str>>,
    },
    /// It failed for this reason.
    Failed(&'static str),
}

impl Asked {
    /// A client that speaks this, and of which nothing else is known.
    pub fn new(protocol: Client) -> Self {
        Self { protocol, name: None, alpn: None, secured: None }
    }

    /// What the client is called by its verified certificate; empty: it has one without a name.
    pub fn verified_client(&self) -> Option<&str> {
        match &self.secured {
            Some(Secured::Agreed { client, .. }) => client.as_deref(),
            Some(Secured::Failed(_)) | None => None,
        }
    }

    /// The server name of TLS.
    pub fn sni(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.protocol == Client::Tls)
    }

    /// The host of a request.
    pub fn host(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.protocol != Client::Tls)
    }
}

/// The sending side of the access log; cheap to clone. Off: records go nowhere.
#[derive(Clone)]
pub struct AccessLog {
    queue: Option<LineQueue<AccessRecord>>,
    is_on: Arc<AtomicBool>,
}

/// The writing side; ends the log in order.
pub struct AccessLogWriter {
    writer: LineWriter<AccessRecord>,
}

impl AccessLog {
    /// A log that is switched off.
    pub fn off() -> Self {
        Self { queue: None, is_on: Arc::default() }
    }

    /// A log that is written to `output` by a thread of its own.
    ///
    /// # Errors
    /// When the system makes no more threads.
    pub fn start(
        output: impl Write + Send + 'static,
        format: LogFormat,
        metrics: Arc<ProcessMetrics>,
    ) -> io::Result<(Self, AccessLogWriter)> {
        let clock = Clock::process();
        let format = move |record: &AccessRecord, out: &mut Vec<u8>| {
            let time = Timestamp(SystemTime::now() - clock.now().since(record.ended));
            match format {
                LogFormat::Human => write_human(record, time, out),
                LogFormat::Json => write_json(record, time, out),
            }
        };
        let dropped = ProcessCounter::AccessLogDropped;
        let (queue, writer) = line_queue::start("access-log", LINES_MAX, output, format, metrics, dropped)?;
        Ok((Self { queue: Some(queue), is_on: Arc::new(AtomicBool::new(true)) }, AccessLogWriter { writer }))
    }

    /// Whether records are wanted at all: making one costs a little.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Switches a log that was started on or off, for all who hold it.
    pub fn set_on(&self, on: bool) {
        self.is_on.store(on && self.queue.is_some(), Ordering::Relaxed);
    }

    /// Logs a connection. Never waits: if the writer is behind, the record is dropped and counted.
    pub fn log(&self, record: AccessRecord) {
        if let Some(queue) = &self.queue {
            queue.push(record);
        }
    }
}

impl AccessLogWriter {
    /// Writes what is queued, for at most `wait`, and ends the log.
    pub fn finish(self, wait: Duration) {
        self.writer.finish(wait);
    }
}

/// One line of `key=value` after the time; what is unknown is left out.
fn write_human(record: &AccessRecord, time: Timestamp, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = write!(line, "{time} app={}", Word(&record.app));
    let _ = write!(line, " frontend={} client={}", Word(&record.frontend), record.client);
    if let Some(via) = &record.via {
        let _ = write!(line, " via={via}");
    }
    if let Some(asked) = &record.asked {
        let _ = write!(line, " protocol={}", asked.protocol.as_str());
        let alpn = asked.alpn.as_deref();
        for (key, value) in [("sni", asked.sni()), ("host", asked.host()), ("alpn", alpn)] {
            if let Some(value) = value {
                let _ = write!(line, " {key}={}", Word(value));
            }
        }
    }
    match record.asked.as_ref().and_then(|asked| asked.secured.as_ref()) {
        Some(Secured::Agreed { version, cipher, alpn, is_resumed, client }) => {
            let _ = write!(line, " tls={version} cipher={cipher}");
            if let Some(alpn) = alpn {
                let _ = write!(line, " tls_alpn={}", Word(alpn));
            }
            if *is_resumed {
                line.push_str(" tls_resumed=true");
            }
            if let Some(client) = client {
                let _ = write!(line, " tls_client={}", Word(client));
            }
        }
        Some(Secured::Failed(reason)) => _ = write!(line, " tls_failure={reason}"),
        None => {}
    }
    if let Some(route) = &record.route {
        let _ = write!(line, " route={}", Word(route));
    }
    if let Some(backend) = &record.backend {
        let _ = write!(line, " backend={}", Word(backend));
    }
    if let Some(endpoint) = &record.endpoint {
        let _ = write!(line, " endpoint={endpoint}");
    }
    let [sent, received] = record.bytes;
    let _ = write!(line, " sent={sent} received={received} queue={}", Milliseconds(record.queue));
    if let Some(connect) = record.connect {
        let _ = write!(line, " connect={}", Milliseconds(connect));
    }
    let _ = writeln!(
        line,
        " total={} by={} in={} why={} connection={} worker={}",
        Milliseconds(record.total),
        record.initiator,
        record.phase,
        record.reason,
        record.connection,
        record.worker
    );
    out.extend_from_slice(line.as_bytes());
}

/// One JSON object; what is unknown is `null`.
fn write_json(record: &AccessRecord, time: Timestamp, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        app: &'a str,
        frontend: &'a str,
        client: String,
        via: Option<String>,
        protocol: Option<&'a str>,
        sni: Option<&'a str>,
        host: Option<&'a str>,
        alpn: Option<&'a str>,
        tls_version: Option<&'a str>,
        tls_cipher: Option<&'a str>,
        tls_alpn: Option<&'a str>,
        tls_resumed: Option<bool>,
        tls_client: Option<&'a str>,
        tls_failure: Option<&'a str>,
        route: Option<&'a str>,
        backend: Option<&'a str>,
        endpoint: Option<String>,
        bytes_sent: u64,
        bytes_received: u64,
        queue_ms: f64,
        connect_ms: Option<f64>,
        total_ms: f64,
        initiator: &'a str,
        phase: &'a str,
        reason: &'a str,
        connection: u64,
        worker: u32,
    }
    let asked = record.asked.as_deref();
    let (mut agreed, mut failure) = (None, None);
    match asked.and_then(|asked| asked.secured.as_ref()) {
        Some(Secured::Agreed { version, cipher, alpn, is_resumed, client }) => {
            agreed = Some((*version, *cipher, alpn.as_deref(), *is_resumed, client.as_deref()));
        }
        Some(Secured::Failed(reason)) => failure = Some(*reason),
        None => {}
    }
    let line = Line {
        timestamp: time.to_string(),
        app: &record.app,
        frontend: &record.frontend,
        client: record.client.to_string(),
        via: record.via.as_ref().map(ToString::to_string),
        protocol: asked.map(|asked| asked.protocol.as_str()),
        sni: asked.and_then(Asked::sni),
        host: asked.and_then(Asked::host),
        alpn: asked.and_then(|asked| asked.alpn.as_deref()),
        tls_version: agreed.map(|agreed| agreed.0),
        tls_cipher: agreed.map(|agreed| agreed.1),
        tls_alpn: agreed.and_then(|agreed| agreed.2),
        tls_resumed: agreed.map(|agreed| agreed.3),
        tls_client: agreed.and_then(|agreed| agreed.4),
        tls_failure: failure,
        route: record.route.as_deref(),
        backend: record.backend.as_deref(),
        endpoint: record.endpoint.as_ref().map(ToString::to_string),
        bytes_sent: record.bytes[0],
        bytes_received: record.bytes[1],
        queue_ms: milliseconds(record.queue),
        connect_ms: record.connect.map(milliseconds),
        total_ms: milliseconds(record.total),
        initiator: record.initiator,
        phase: record.phase,
        reason: record.reason,
        connection: record.connection,
        worker: record.worker,
    };
    // Neither memory nor these types can refuse.
    let _ = serde_json::to_writer(&mut *out, &line);
    out.push(b'\n');
}

/// Whole microseconds, as milliseconds.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}ms", milliseconds(self.0))
    }
}

/// A name as it is, or quoted if a reader could not tell where it ends.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=';
        if self.0.is_empty() || self.0.contains(odd) {
            fmt::Debug::fmt(self.0, f)
        } else {
            f.write_str(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn record() -> AccessRecord {
        AccessRecord {
            ended: Time::ZERO,
            connection: 7,
            worker: 1,
            app: "my app".into(),
            route: None,
            asked: None,
            frontend: ":80".into(),
            client: SocketAddress::Inet("192.0.2.1:5000".parse().expect("address")),
            via: None,
            backend: Some("localhost:3000".into()),
            endpoint: Some(SocketAddress::Inet("127.0.0.1:3000".parse().expect("address"))),
            bytes: [12, 3456],
            queue: Duration::from_micros(10),
            connect: Some(Duration::from_micros(1500)),
            total: Duration::from_secs(2),
            initiator: "client",
            phase: "relay",
            reason: "finished",
        }
    }

    fn refused() -> AccessRecord {
        AccessRecord {
            backend: None,
            endpoint: None,
            connect: None,
            bytes: [0, 0],
            initiator: "ringway",
            phase: "accept",
            reason: "no_backend",
            ..record()
        }
    }

    const TIME: Timestamp = Timestamp(SystemTime::UNIX_EPOCH);

    fn human(record: &AccessRecord) -> String {
        let mut out = Vec::new();
        write_human(record, TIME, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_human_line_holds_everything_that_is_known() {
        assert_eq!(
            human(&record()),
            "1970-01-01T00:00:00.000Z app=\"my app\" frontend=:80 client=192.0.2.1:5000 backend=localhost:3000 \
             endpoint=127.0.0.1:3000 sent=12 received=3456 queue=0.010ms connect=1.500ms total=2000.000ms \
             by=client in=relay why=finished connection=7 worker=1\n"
        );
    }

    #[test]
    fn a_client_that_a_proxy_named_stands_beside_the_proxy() {
        let via = SocketAddress::Inet("10.0.0.1:9".parse().expect("address"));
        let line = human(&AccessRecord { via: Some(via), ..record() });
        assert!(line.contains(" client=192.0.2.1:5000 via=10.0.0.1:9 backend="), "{line}");
    }

    #[test]
    fn what_a_client_asked_for_and_the_route_that_it_took_stand_before_the_backend() {
        let tls = Asked {
            protocol: Client::Tls,
            name: Some("a.example.com".into()),
            alpn: Some("h2,http/1.1".into()),
            secured: None,
        };
        let line = human(&AccessRecord {
            asked: Some(Arc::new(tls.clone())),
            route: Some("api".into()),
            ..record()
        });
        let part = " protocol=tls sni=a.example.com alpn=h2,http/1.1 route=api backend=";
        assert!(line.contains(part), "{line}");
        let http = Asked { protocol: Client::Http1, alpn: None, ..tls };
        let line = human(&AccessRecord { asked: Some(Arc::new(http)), ..record() });
        assert!(line.contains(" protocol=http1 host=a.example.com backend="), "{line}");
    }

    #[test]
    fn a_refused_connection_names_no_backend() {
        let line = human(&refused());
        assert!(!line.contains("backend=") && !line.contains("connect="), "{line}");
        assert!(line.contains("by=ringway in=accept why=no_backend"), "{line}");
    }

    #[test]
    fn a_json_line_is_one_object_with_the_same_values() {
        let mut out = Vec::new();
        write_json(&record(), TIME, &mut out);
        write_json(&refused(), TIME, &mut out);
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(lines[0]["app"], "my app");
        assert_eq!(lines[0]["bytes_received"], 3456);
        assert_eq!(lines[0]["connect_ms"], 1.5);
        assert!(lines[1]["endpoint"].is_null());
        assert_eq!(lines[1]["reason"], "no_backend");
    }

    #[test]
    fn a_line_bears_the_time_of_the_end_and_not_of_the_writing() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let (log, end) = AccessLog::start(writer, LogFormat::Json, Arc::default()).expect("a thread");
        let before = Timestamp(SystemTime::now() - Duration::from_secs(3600)).to_string();
        let ended = Clock::process().now() - Duration::from_secs(3600);
        // A process younger than an hour has no such moment: then it counts from its beginning.
        log.log(AccessRecord { ended, ..record() });
        end.finish(Duration::from_secs(10));
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let line: serde_json::Value = serde_json::from_str(&text).expect("an object");
        let time = line["timestamp"].as_str().expect("a time").to_owned();
        assert!(time >= before, "{time} is before {before}");
        assert!(time <= Timestamp(SystemTime::now()).to_string());
    }

    #[test]
    fn log_is_switched_off_and_on_for_all_who_hold_it() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let (log, end) = AccessLog::start(writer, LogFormat::Json, Arc::default()).expect("a thread");
        let other = log.clone();
        for on in [false, true, false] {
            log.set_on(on);
            assert_eq!(other.is_on(), on);
        }
        let never = AccessLog::off();
        never.set_on(true);
        assert!(!never.is_on(), "it has no writer");
        end.finish(Duration::from_secs(10));
    }

    #[test]
    fn a_log_that_is_off_takes_records_and_forgets_them() {
        let log = AccessLog::off();
        assert!(!log.is_on());
        log.log(record());
    }
}

//! `--pprof`: profiles under load, as other programs read them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use prost::Message;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, app, ringway};

on_both_engines!(a_profile_under_load_shows_what_the_workers_do);

/// What is looked at of `profile.proto` of github.com/google/pprof.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

/// The status and the body.
fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = client::connect(address).expect("profiles are served");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: ringway\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is answered");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split_off(end))
}

/// Echoes through the frontend until told to stop.
fn load(frontend: SocketAddr, is_over: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut stream = client::connect(frontend).expect("the frontend listens");
        let mut echoed = 0;
        let mut buffer = [7; 4096];
        while !is_over.load(Ordering::Relaxed) {
            stream.write_all(&buffer).expect("it is read");
            stream.read_exact(&mut buffer).expect("it is echoed");
            assert!(buffer.iter().all(|byte| *byte == 7));
            echoed += 1;
        }
        echoed
    })
}

fn a_profile_under_load_shows_what_the_workers_do(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (frontend, profiles) = (free_address(), free_address());
    let _ringway = ringway(engine)
        .config(&app(frontend, &[backend.address()], NO_CHECKS))
        .argument("--pprof")
        .argument(profiles.to_string())
        .start();
    eventually("profiles are served", PATIENCE, || TcpStream::connect(profiles).ok());
    let is_over = Arc::new(AtomicBool::new(false));
    let load = load(frontend, Arc::clone(&is_over));

    // A busy machine may give the process no processor time in one second.
    let profile = eventually("a profile with samples of a worker", PATIENCE, || {
        let (status, body) = get(profiles, "/debug/pprof/profile?seconds=1&frequency=997");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let mut bytes = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut bytes).expect("it is gzipped");
        let profile = Profile::decode(&bytes[..]).expect("it is a profile");
        let text = |index: i64| profile.strings[usize::try_from(index).expect("an index")].as_str();
        let of_worker =
            |label: &Label| text(label.key) == "thread" && text(label.text).starts_with("worker-");
        profile.sample.iter().any(|sample| sample.label.iter().any(of_worker)).then_some(profile)
    });

    let text = |index: i64| profile.strings[usize::try_from(index).expect("an index")].as_str();
    assert_eq!(profile.strings[0], "");
    let types: Vec<_> = profile.sample_type.iter().map(|t| (text(t.kind), text(t.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!(profile.duration_nanos, 1_000_000_000);
    for sample in &profile.sample {
        assert!(sample.value.len() == 2 && sample.value.iter().all(|value| *value > 0), "{sample:?}");
        assert!(sample.location.iter().all(|id| profile.location.iter().any(|location| location.id == *id)));
    }
    let called = |line: &Line| profile.function.iter().find(|function| function.id == line.function);
    let names: Vec<&str> =
        profile.location.iter().flat_map(|l| &l.line).filter_map(called).map(|f| text(f.name)).collect();
    assert!(names.iter().any(|name| name.contains("ringway")), "no function of ours in {names:?}");

    let (status, picture) = get(profiles, "/debug/pprof/flamegraph?seconds=1");
    let picture = String::from_utf8(picture).expect("it is text");
    assert!(status == 200 && picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert_eq!(get(profiles, "/debug/pprof/profile?seconds=0").0, 400);
    assert!(String::from_utf8_lossy(&get(profiles, "/debug/pprof/").1).contains("flamegraph"));

    is_over.store(true, Ordering::Relaxed);
    assert!(load.join().expect("every byte came back") > 0);
}

//! Upgrades with somebody at the other end who is not what he should be: of another protocol, of another user, of a later
//! format, or who says what nobody says.
//!
//! The part of the other process is played by this very test program, started anew: see [`plays_its_part`].

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use ringway::Identity;
use ringway::handover::{Channel, ChannelListener, CommitWord, Decision, Interest, Line, Packet, wait};
use serde_json::{Value, json};
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Process, Ringway, client, eventually, free_address, skip};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, command, ringway, status};

on_both_engines!(
    process_of_another_protocol_or_that_is_not_understood_is_refused,
    process_of_another_user_is_hung_up_on,
    connections_stay_where_they_are_if_the_new_process_does_not_know_their_format,
    connection_that_the_new_process_refuses_goes_on_in_the_old_one,
    earlier_program_is_told_of_what_it_knows_and_the_rest_goes_on_in_the_old_one,
);

/// Kinds of messages: `docs/internals/upgrade.md`.
const HELLO: u16 = 1;
const CONFIGURE: u16 = 2;
const READY: u16 = 3;
const REFUSE: u16 = 4;
const LISTENERS: u16 = 5;
const STATE: u16 = 6;
const ARMED: u16 = 7;
const SESSIONS: u16 = 8;
const END: u16 = 9;
const PREPARED: u16 = 10;
const GO: u16 = 11;
const SERVING: u16 = 12;

/// `nobody` of Debian.
const USER: &str = "nobody";
const UID: u32 = 65_534;

/// Names the part, and where it is played.
const PART: &str = "RINGWAY_TEST_PART";
const PLACE: &str = "RINGWAY_UPGRADE";

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("there is procfs").uid() == 0
}

// --- who plays ------------------------------------------------------------------------------------------------

#[test]
#[ignore = "the other process of the tests here, which start it"]
fn plays_its_part() {
    let part = std::env::var(PART).expect("started by a test");
    let place = PathBuf::from(std::env::var_os(PLACE).expect("started by a process that upgrades"));
    match part.as_str() {
        "other-protocol" => {
            says_hello_and_waits(&place, HELLO, &json!({"protocol": 2, "program": "9", "sessions": [1]}))
        }
        "no-hello" => says_hello_and_waits(&place, HELLO, &json!("hello")),
        "unknown-kind" => says_hello_and_waits(&place, 99, &json!(null)),
        "out-of-turn" => says_hello_and_waits(&place, SERVING, &json!({"micros": 1})),
        "other-user" => dials_as_another_user(&place),
        "listens-as-another-user" => listens_as_another_user(&place),
        "later-format" => takes_over(&place, &json!([7]), &[]),
        "refuses-the-first" => takes_over(&place, &json!([1, 2]), &[0]),
        "earlier-format" => takes_over(&place, &json!([1]), &[1]),
        _ => panic!("there is no part {part}"),
    }
    std::process::exit(0);
}

fn says_hello_and_waits(place: &Path, kind: u16, hello: &Value) {
    let mut line = Line::new(Channel::connect(place).expect("it listens"));
    say(&mut line, kind, hello, &[]);
    // Killed, or hung up on.
    while line.receive(Instant::now() + PATIENCE).is_ok() {}
}

fn dials_as_another_user(place: &Path) {
    // Root lets everybody in, and becomes somebody.
    let directory = place.parent().expect("it lies somewhere");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).expect("it is root's");
    fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("it is root's");
    Identity::find(USER, None).and_then(|nobody| nobody.assume()).expect("root may");
    let mut line = Line::new(Channel::connect(place).expect("everybody may"));
    // Before or after it is hung up on.
    let hello = json!({"protocol": 1, "program": "9", "sessions": [1]});
    let _ = line.send(HELLO, &serde_json::to_vec(&hello).expect("JSON"), &[], Instant::now() + PATIENCE);
    let answer = line.receive(Instant::now() + PATIENCE).expect_err("no word for strangers");
    std::process::exit(if answer.kind() == std::io::ErrorKind::TimedOut { 8 } else { 9 });
}

fn listens_as_another_user(place: &Path) {
    Identity::find(USER, None).and_then(|nobody| nobody.assume()).expect("root may");
    let listener = ChannelListener::bind(place).expect("the directory is everybody's");
    println!("listens");
    wait([(listener.as_fd(), Interest::Read)], Some(PATIENCE)).expect("a socket can be waited for");
    let channel = listener.accept().expect("somebody dialled");
    let mut line = Line::new(channel);
    let heard = line.receive(Instant::now() + PATIENCE);
    println!("heard {:?}", heard.map(|packet| packet.kind).map_err(|error| error.kind()));
}

/// Follows the old process, as one would that knows these formats and cannot carry on those connections; then says `served
/// by another` to whoever comes.
fn takes_over(place: &Path, formats: &Value, refused: &[u64]) {
    let mut line = Line::new(Channel::connect(place).expect("it listens"));
    say(&mut line, HELLO, &json!({"protocol": 1, "program": "9", "sessions": formats}), &[]);
    let configure = hear(&mut line, CONFIGURE);
    let word = configure.descriptors.into_iter().next().expect("the commit word comes first");
    let word = CommitWord::from_descriptor(word).expect("it is one");
    say(&mut line, READY, &json!({"workers": 1, "engine": "another"}), &[]);
    let listeners = hear(&mut line, LISTENERS);
    hear(&mut line, STATE);
    say(&mut line, ARMED, &json!(null), &[]);
    let mut sockets = Vec::new();
    let end = loop {
        let Packet { kind, body, descriptors } = line.receive(Instant::now() + PATIENCE).expect("it goes on");
        sockets.extend(descriptors);
        if kind != SESSIONS {
            assert_eq!(kind, END);
            break body;
        }
    };
    let end: Value = serde_json::from_slice(&end).expect("JSON");
    let sessions = end["sessions"].as_u64().expect("a number");
    let refused: Vec<(u64, &str)> = refused.iter().map(|place| (*place, "it is too strange")).collect();
    let taken = sessions - refused.len() as u64;
    say(&mut line, PREPARED, &json!({"taken": taken, "refused": refused}), &[]);
    hear(&mut line, GO);
    assert_eq!(word.decide(Decision::New), Decision::New);
    let serve = |socket: std::os::fd::OwnedFd| {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(false).expect("a socket");
        thread::spawn(move || {
            for stream in listener.incoming() {
                use std::io::Write;
                // Whoever left does not hear it.
                let _ = stream.and_then(|mut stream| stream.write_all(b"served by another"));
            }
        })
    };
    // The last is the admin interface's.
    let mut listeners = listeners.descriptors;
    let _admin = listeners.pop().expect("there is one");
    let threads: Vec<_> = listeners.into_iter().map(serve).collect();
    say(&mut line, SERVING, &json!({"micros": 1}), &[]);
    println!("another serves, with {} sockets of {sessions} connections", sockets.len());
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

fn say(line: &mut Line, kind: u16, body: &Value, descriptors: &[BorrowedFd<'_>]) {
    let body = serde_json::to_vec(body).expect("JSON");
    line.send(kind, &body, descriptors, Instant::now() + PATIENCE).expect("it listens");
}

fn hear(line: &mut Line, kind: u16) -> Packet {
    let packet = line.receive(Instant::now() + PATIENCE).expect("it speaks");
    assert_eq!(packet.kind, kind, "{}", String::from_utf8_lossy(&packet.body));
    packet
}

// --- who watches ----------------------------------------------------------------------------------------------

/// This program, to play a part.
fn player(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args(["impostors::plays_its_part", "--exact", "--ignored", "--nocapture"]).env(PART, part);
    command
}

/// A binary for an upgrade that plays a part.
fn binary(ringway: &Ringway, part: &str) -> String {
    let path = ringway.directory().join(part);
    let command = player(part);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().expect("text"))).collect();
    let text = format!("#!/bin/sh\n{PART}={part} exec {}\n", words.join(" "));
    fs::write(&path, text).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("text").to_owned()
}

fn upgrade(ringway: &Ringway, part: &str) -> Output {
    let admin = ringway.admin_address().to_string();
    command(ringway, &["upgrade", "--admin", &admin, "--binary", &binary(ringway, part), "--timeout", "5s"])
}

fn says(stream: &mut TcpStream, text: &str) {
    use std::io::Write;
    stream.write_all(text.as_bytes()).expect("it takes bytes");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, text.as_bytes());
}

fn opened(frontend: std::net::SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    says(&mut stream, "hello");
    stream
}

/// That an upgrade to whoever plays this part does not come about, which is said so, and changes nothing.
fn assert_refused(engine: Engine, part: &str, why: &str) -> Ringway {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = ringway(engine).config(&app(frontend, &[backend.address()], NO_CHECKS)).start();
    let mut open = opened(frontend);
    let output = upgrade(&ringway, part);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{part}: {said}");
    assert!(said.contains(why), "{part}: no {why} in {said}");
    says(&mut open, "still here");
    drop(opened(frontend));
    assert_eq!(status(&ringway)["pid"], ringway.process().id());
    ringway
}

fn process_of_another_protocol_or_that_is_not_understood_is_refused(engine: Engine) {
    for (part, why) in [
        ("other-protocol", "it speaks version 2 of the protocol, and this process 1"),
        ("no-hello", "Hello"),
        ("unknown-kind", "unknown kind 99"),
        ("out-of-turn", "it said Serving in the place of Hello"),
    ] {
        assert_refused(engine, part, why);
    }
}

fn process_of_another_user_is_hung_up_on(engine: Engine) {
    if !is_root() {
        skip!("only root can become another user");
    }
    let ringway = assert_refused(engine, "other-user", "exit status: 9");
    ringway.process().wait_for_line("who it was", PATIENCE, |line| {
        line.contains("a stranger dialled") && line.contains(&format!("uid={UID}"))
    });
}

/// Upgrades to whoever plays this part and takes over.
fn follow(engine: Engine, part: &str) -> (Ringway, std::net::SocketAddr, Backend, TcpStream, String) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = ringway(engine).config(&app(frontend, &[backend.address()], NO_CHECKS)).start();
    let open = opened(frontend);
    let output = upgrade(&ringway, part);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eventually("newcomers are the other one's", PATIENCE, || {
        let mut stream = client::connect(frontend).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        (text == "served by another").then_some(())
    });
    (ringway, frontend, backend, open, said)
}

/// That a connection goes on in a process that ends with it.
fn assert_goes_on(mut ringway: Ringway, mut open: TcpStream) {
    says(&mut open, "still here");
    drop(open);
    ringway.process().wait_for_line("its end", PATIENCE, |line| line.contains(" why=finished "));
    eventually("the end with the last connection", PATIENCE, || ringway.process().has_ended().then_some(()));
    // The other one holds the same standard streams, and prints on.
    assert_eq!(ringway.wait(Duration::ZERO).code(), Some(0));
    let lines = ringway.process().lines();
    assert_eq!(lines.iter().filter(|line| line.contains(" why=finished ")).count(), 1, "{lines:?}");
}

fn connections_stay_where_they_are_if_the_new_process_does_not_know_their_format(engine: Engine) {
    let (ringway, _, _backend, open, said) = follow(engine, "later-format");
    assert!(said.contains("its program does not know such connections"), "{said}");
    ringway.process().wait_for_line("what it got", PATIENCE, |line| {
        line.contains("another serves, with 0 sockets of 0 connections")
    });
    assert_goes_on(ringway, open);
}

fn connection_that_the_new_process_refuses_goes_on_in_the_old_one(engine: Engine) {
    let (ringway, _, _backend, open, said) = follow(engine, "refuses-the-first");
    assert!(said.contains("it is too strange"), "{said}");
    ringway.process().wait_for_line("what it got", PATIENCE, |line| {
        line.contains("another serves, with 2 sockets of 1 connections")
    });
    assert_goes_on(ringway, open);
}

fn earlier_program_is_told_of_what_it_knows_and_the_rest_goes_on_in_the_old_one(engine: Engine) {
    use std::io::Write;
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let route =
        format!("[[app.route]]\nserver_names = [\"a.example\"]\nbackends = [\"{}\"]\n", backend.address());
    // One worker, so that connections are told of in the order in which they came.
    let ringway = Ringway::of(PROGRAM)
        .argument("--engine")
        .argument(engine.name())
        .argument("--workers")
        .argument("1")
        .config(&format!("{}{route}", app(frontend, &[backend.address()], NO_CHECKS)))
        .start();
    let relayed = || {
        let mut stream = client::connect(frontend).expect("the frontend listens");
        says(&mut stream, "\u{5}\u{1}\0");
        stream
    };
    let _moves = relayed();
    let mut unknown = client::connect(frontend).expect("the frontend listens");
    unknown.write_all(b"GET / HTTP/1.1\r\nHo").expect("it takes bytes");
    crate::support::wait_connections(&ringway, 2);
    let mut refused = relayed();
    let output = upgrade(&ringway, "earlier-format");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // The second that it was told of is the third.
    for (kind, counts) in [
        ("relaying", "1      0     0"),
        ("relaying: it is too strange", "0      0     1"),
        ("waiting: its program does not know such connections", "0      0     1"),
    ] {
        let line = said.lines().find(|line| line.starts_with(&format!("{kind}  ")));
        assert!(line.is_some_and(|line| line.ends_with(counts)), "{kind}: {said}");
    }
    assert!(said.contains("2 connections finish in process"), "{said}");
    says(&mut refused, "still here");
    unknown.write_all(b"st: a.example\r\n\r\n").expect("it takes bytes");
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut answer = vec![0; request.len()];
    unknown.read_exact(&mut answer).expect("its route is found");
    assert_eq!(answer, request);
}

// --- a new process with an impostor for an old one ----------------------------------------------------------------

/// A new process that finds this test at the place of the old one.
struct Newcomer {
    process: Process,
    line: Line,
    frontend: std::net::SocketAddr,
    word: CommitWord,
    _directory: tempfile::TempDir,
}

impl Newcomer {
    /// It said what it knows.
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let place = directory.path().join("socket");
        let listener = ChannelListener::bind(&place).expect("it is ours");
        let program = std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into());
        let mut command = Command::new(program);
        command.args(["run", "--workers", "1"]).env(PLACE, &place).env("NO_COLOR", "1");
        command.current_dir(directory.path());
        let process = Process::spawn(command).expect("it can be started");
        wait([(listener.as_fd(), Interest::Read)], Some(PATIENCE)).expect("a socket can be waited for");
        let mut line = Line::new(listener.accept().expect("it dialled"));
        let hello: Value = serde_json::from_slice(&hear(&mut line, HELLO).body).expect("JSON");
        assert_eq!(hello["protocol"], 1);
        let word = CommitWord::new().expect("memory");
        Self { process, line, frontend: free_address(), word, _directory: directory }
    }

    /// What runs.
    fn configure(&mut self) {
        let text = app(self.frontend, &[free_address()], NO_CHECKS);
        let time = json!({"secs_since_epoch": 1, "nanos_since_epoch": 0});
        let document = json!({"text": text, "format": "toml", "name": null, "fragments": null});
        let configure = json!({
            "clock_origin": 0,
            "file": "/nowhere/ringway.toml",
            "running": 1,
            "versions": [
                {"version": 1, "origin": "start", "time": time, "summary": "", "document": document}
            ],
            "binaries": [],
        });
        say(&mut self.line, CONFIGURE, &configure, &[self.word.as_fd()]);
    }

    /// It is ready, and has what goes ahead.
    fn arm(&mut self) {
        self.configure();
        hear(&mut self.line, READY);
        say(&mut self.line, LISTENERS, &json!({"frontends": [], "admin": false}), &[]);
        say(&mut self.line, STATE, &json!({"apps": []}), &[]);
        hear(&mut self.line, ARMED);
    }

    /// That it tells why it does not go on, ends, and has served nobody.
    fn assert_withdraws(mut self, why: &str) {
        let refuse: Value = serde_json::from_slice(&hear(&mut self.line, REFUSE).body).expect("JSON");
        let reason = refuse["reason"].as_str().expect("a text");
        assert!(reason.contains(why), "no {why} in {reason}");
        assert!(!self.process.wait(PATIENCE).success());
        assert_eq!(self.word.decision(), Decision::Undecided, "it leaves the decision to the old process");
        assert!(TcpStream::connect(self.frontend).is_err(), "it never listened");
    }
}

#[test]
fn new_process_that_is_told_what_it_does_not_understand_says_so_and_touches_nothing() {
    let mut newcomer = Newcomer::start();
    say(&mut newcomer.line, CONFIGURE, &json!({"clock_origin": "noon"}), &[newcomer.word.as_fd()]);
    newcomer.assert_withdraws("noon");

    let mut newcomer = Newcomer::start();
    newcomer.configure();
    hear(&mut newcomer.line, READY);
    say(&mut newcomer.line, 99, &json!(null), &[]);
    newcomer.assert_withdraws("unknown kind 99");

    let mut newcomer = Newcomer::start();
    newcomer.arm();
    say(&mut newcomer.line, GO, &json!(null), &[]);
    newcomer.assert_withdraws("Go");

    // A connection of version 99, with its two sockets.
    let mut newcomer = Newcomer::start();
    newcomer.arm();
    let (one, other) = std::os::unix::net::UnixStream::pair().expect("descriptors");
    let record = [&99_u16.to_le_bytes()[..], &4_u32.to_le_bytes(), b"what"].concat();
    let sockets = [one.as_fd(), other.as_fd()];
    newcomer.line.send(SESSIONS, &record, &sockets, Instant::now() + PATIENCE).expect("it listens");
    newcomer.assert_withdraws("a connection that cannot be read");

    let mut newcomer = Newcomer::start();
    newcomer.arm();
    say(&mut newcomer.line, END, &json!({"sessions": 3, "next_number": 0}), &[]);
    newcomer.assert_withdraws("not as many connections as were named");
}

#[test]
fn new_process_does_not_follow_one_of_another_user() {
    if !is_root() {
        skip!("only root can become another user");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let place = directory.path().join("socket");
    let mut command = player("listens-as-another-user");
    command.env(PLACE, &place);
    let other = Process::spawn(command).expect("it can be started");
    other.wait_for_line("it to listen", PATIENCE, |line| line.contains("listens"));
    let program = std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into());
    let output = Command::new(program).arg("run").env(PLACE, &place).output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("cannot take over from a process of user {UID}")), "{said}");
    other.wait_for_line("nothing to be said", PATIENCE, |line| line.contains("heard Err(UnexpectedEof)"));
}

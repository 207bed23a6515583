//! The example that survives its own replacement, replaced: on both engines, with other numbers of workers, and with
//! either process dying after each step.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use ringway::EngineKind;
use testkit::{PATIENCE, Process, client, skip};

/// Cargo builds examples together with tests, into a directory beside theirs.
fn example() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("it lies in target/PROFILE/deps").join("examples/successor")
}

/// The first process, and all that it and those after it print.
struct Successor {
    process: Process,
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl Successor {
    fn start(engine: &str, workers: usize, fault: Option<(&str, &str)>) -> Self {
        let address = testkit::free_address();
        let mut command = Command::new(example());
        command.args([&address.to_string(), engine, &workers.to_string()]);
        command.envs(fault);
        let mut input = None;
        let process = Process::spawn_with(command, |command| {
            let mut child = command.stdin(Stdio::piped()).spawn()?;
            input = child.stdin.take();
            Ok(child)
        })
        .expect("the example starts");
        let successor = Self { process, input, address };
        successor.wait_for("it to serve", 0, "serves on");
        successor
    }

    fn replace(&mut self, engine: &str, workers: usize) {
        let line = format!("replace {} {engine} {workers}\n", self.address);
        self.input.as_mut().expect("an input").write_all(line.as_bytes()).expect("it is read");
    }

    /// Waits for the first line with `words` after `skip` lines.
    fn wait_for(&self, what: &str, skip: usize, words: &str) -> String {
        self.process.wait_for_line_after(skip, what, PATIENCE, |line| line.contains(words))
    }

    fn clients(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::new(self.address)).collect()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Whoever serves by now has the same input, and ends with it.
        self.input = None;
    }
}

struct Client {
    stream: TcpStream,
    lines: u64,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { stream: client::connect(address).expect("somebody serves"), lines: 0 }
    }

    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// That this is the next line that it gets.
    fn hear(&mut self, words: &str) -> io::Result<()> {
        self.lines += 1;
        let expected = format!("{} {words}\n", self.lines);
        let mut got = vec![0; expected.len()];
        self.stream.read_exact(&mut got)?;
        assert_eq!(String::from_utf8_lossy(&got), expected);
        Ok(())
    }

    fn ask(&mut self, words: &str) -> io::Result<()> {
        self.say(format!("{words}\n").as_bytes())?;
        self.hear(words)
    }
}

/// A client that sends and reads all the time, until it is told to end: every line must come back, in order.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: [JoinHandle<u64>; 2],
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stream = client::connect(address).expect("somebody serves");
        let (mut writer, over) = (stream.try_clone().expect("a descriptor"), Arc::clone(&is_over));
        let write = move || {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                sent += 1;
                writer.write_all(line(sent).as_bytes()).expect("it is read");
            }
            writer.shutdown(Shutdown::Write).expect("a connection");
            sent
        };
        let read = move || {
            let mut read = 0;
            for got in BufReader::new(stream).lines() {
                read += 1;
                assert_eq!(got.expect("no reset"), format!("{read} {}", line(read).trim_end()));
            }
            read
        };
        Self { is_over, threads: [thread::spawn(write), thread::spawn(read)] }
    }

    /// Ends it; says how many lines went and came.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let [sent, read] = self.threads.map(|thread| thread.join().expect("every line came back"));
        assert_eq!(sent, read);
        sent
    }
}

/// The line of a number: of 20 to 2000 bytes, and no two after one another alike.
fn line(number: u64) -> String {
    format!("{number}:{}\n", "x".repeat((number * 37 % 1980) as usize + 10))
}

/// A client that comes again and again, each time on a new connection. Nobody may turn it away.
struct Newcomers {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Newcomers {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let come = move || {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                Client::new(address).ask("new").expect("it is answered");
                count += 1;
            }
            count
        };
        Self { is_over, thread: thread::spawn(come) }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("nobody was turned away")
    }
}

fn engines() -> Vec<&'static str> {
    let mut engines = vec!["epoll"];
    if EngineKind::IoUring.probe().is_ok() {
        engines.push("io_uring");
    }
    engines
}

#[test]
fn clients_live_through_one_replacement_after_another() {
    if !example().exists() {
        skip!("the examples are not built: cargo build --examples");
    }
    let engines = engines();
    let mut successor = Successor::start("epoll", 1, None);
    let mut clients = successor.clients(40);
    let load = Load::start(successor.address);
    let newcomers = Newcomers::start(successor.address);
    for (round, workers) in [2, 4, 1, 3, 2].into_iter().enumerate() {
        for client in &mut clients {
            client.ask("whole").expect("it is answered");
            client.say(b"be").expect("half a line");
        }
        let skip = successor.process.lines().len();
        successor.replace(engines[(round + 1) % engines.len()], workers);
        successor.wait_for("the report", skip, "goes on with");
        successor.wait_for("the next process", skip, "serves on");
        for client in &mut clients {
            client.say(b"gun\n").expect("the rest of the line");
            client.hear("begun").expect("it is answered");
        }
    }
    assert!(newcomers.end() > 0);
    assert!(load.end() > 0);
}

/// After each step: whether clients live on if the new process dies, and if the old one does.
const STEPS: [(&str, bool, bool); 14] = [
    ("new Say(Hello)", true, false),
    ("old Say(Welcome)", true, false),
    ("new Do(Start)", true, false),
    ("new Say(Ready)", true, false),
    ("old Do(SendAhead)", true, false),
    ("old Say(Ahead)", true, false),
    ("new Say(Armed)", true, false),
    ("old Do(Freeze)", true, false),
    ("old Do(SendState)", true, false),
    ("old Say(State)", true, true),
    ("new Do(Rebuild)", true, true),
    ("new Say(Prepared)", true, true),
    ("old Say(Go)", true, true),
    ("new Decide", false, true),
];

/// One process dies after one of its own steps; the other one serves, with or without the clients of before.
fn dies(engine: &str, next: &str, step: &str, do_clients_live: bool) {
    let mut successor = Successor::start(engine, 2, Some(("SUCCESSOR_DIES", step)));
    let mut clients = successor.clients(8);
    for client in &mut clients {
        client.ask("before").expect("it is answered");
        client.say(b"half ").expect("it is read");
    }
    let skip = successor.process.lines().len();
    successor.replace(next, 3);
    let who = if step.starts_with("old") { "serves on" } else { "still serves" };
    successor.wait_for(&format!("who is left after {step}"), skip, who);
    for client in &mut clients {
        let answer = client.say(b"a line\n").and_then(|()| client.hear("half a line"));
        assert_eq!(answer.is_ok(), do_clients_live, "{step}: {answer:?}");
    }
    Client::new(successor.address).ask("new").expect("somebody serves");
}

#[test]
fn whichever_process_dies_after_whichever_step_the_other_one_serves() {
    if !example().exists() {
        skip!("the examples are not built: cargo build --examples");
    }
    let engines = engines();
    for (number, (step, if_new_dies, if_old_dies)) in STEPS.into_iter().enumerate() {
        let (engine, next) = (engines[number % engines.len()], engines[(number + 1) % engines.len()]);
        let do_clients_live = if step.starts_with("old") { if_old_dies } else { if_new_dies };
        dies(engine, next, step, do_clients_live);
    }
}

#[test]
fn a_new_process_that_hangs_is_given_up_and_nobody_notices() {
    if !example().exists() {
        skip!("the examples are not built: cargo build --examples");
    }
    let mut successor = Successor::start("epoll", 2, Some(("SUCCESSOR_HANGS", "new Do(Rebuild)")));
    let mut clients = successor.clients(8);
    let load = Load::start(successor.address);
    let skip = successor.process.lines().len();
    successor.replace("epoll", 2);
    successor.wait_for("the reason", skip, "still serves: the new process did not answer in time");
    for client in &mut clients {
        client.ask("after").expect("it is answered");
    }
    assert!(load.end() > 0);
}

#[test]
fn a_program_that_is_no_successor_leaves_the_old_process_serving() {
    if !example().exists() {
        skip!("the examples are not built: cargo build --examples");
    }
    let mut successor = Successor::start("epoll", 2, None);
    let mut clients = successor.clients(3);
    let skip = successor.process.lines().len();
    // No number of workers: it ends before it says anything.
    successor
        .input
        .as_mut()
        .expect("an input")
        .write_all(b"replace 127.0.0.1:1 epoll many\n")
        .expect("it is read");
    successor.wait_for("the reason", skip, "still serves: the new process ended");
    for client in &mut clients {
        client.ask("after").expect("it is answered");
    }
}

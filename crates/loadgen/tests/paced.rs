//! Round trips by the clock, led over standard input as a soak leads them.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::Value;

/// A running load; killed when dropped.
struct Paced {
    child: Child,
    stdin: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Paced {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["pingpong", "--json", "--stdin", "--connections=4", "--warmup=0.02", "--seconds=600"])
            .arg("--backend=127.0.0.1:0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the load starts");
        let stdin = child.stdin.take().expect("it is piped");
        let events = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, stdin, events }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the load listens");
    }

    fn wait_for(&mut self, name: &str) -> Value {
        let events = self.events.by_ref().map_while(Result::ok);
        let mut events = events.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        events.find(|event| event["event"] == name).expect("the load says it before it ends")
    }

    /// Marks until so many round trips were made in all; the last mark.
    fn mark_after(&mut self, round_trips: u64) -> Value {
        let mut sum = 0;
        loop {
            self.tell("mark");
            let mark = self.wait_for("mark");
            sum += mark["units"].as_u64().expect("round trips are counted");
            if sum >= round_trips {
                return mark;
            }
        }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn replies_are_compared_and_every_second_client_dials_anew() {
    let mut load = Paced::start();
    let listening = load.wait_for("listening");
    let backend = listening["backends"][0].as_str().expect("it has an address").to_owned();
    load.tell("pace 10 2");
    load.tell(&format!("target {backend}"));
    load.wait_for("window-start");
    let mark = load.mark_after(40);
    assert_eq!((&mark["errors"], &mark["cut"], &mark["wrong_bytes"]), (&0.into(), &0.into(), &0.into()));
    assert!(mark["longest_wait_us"].as_f64().is_some());
}

#[test]
fn bytes_that_are_not_those_that_were_sent_are_counted() {
    let mut load = Paced::start();
    load.tell("pace 10 0");
    load.tell(&format!("target {}", inverting_server()));
    load.wait_for("window-start");
    let mark = load.mark_after(40);
    assert_eq!(mark["errors"], 0);
    assert!(mark["wrong_bytes"].as_u64().is_some_and(|wrong| wrong >= 40 * 64), "{mark}");
}

/// Sends back the inverse of each byte.
fn inverting_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    bytes[..count].iter_mut().for_each(|byte| *byte = !*byte);
                    if stream.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

//! The relay that is measured as the floor carries what it is given.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn small_and_bulk_come_back_through_bare_relays_as_they_were_sent() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = backend.local_addr().expect("a bound socket");
    thread::spawn(move || {
        for stream in backend.incoming().map_while(Result::ok) {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    let mut relay = Command::new(env!("CARGO_BIN_EXE_bare"))
        .args(["127.0.0.1:0", &address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .expect("to start");
    let output = relay.0.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("where it listens");
    for length in [64, 16 << 20] {
        let mut sender = TcpStream::connect(line.trim()).expect("to connect");
        sender.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut receiver = sender.try_clone().expect("a second handle");
        let sent: Vec<u8> =
            (0..length as u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut received = vec![0; length];
        thread::scope(|scope| {
            scope.spawn(|| sender.write_all(&sent).expect("to send"));
            receiver.read_exact(&mut received).expect("to receive");
        });
        assert!(sent == received, "{length} bytes came back differently");
        receiver.shutdown(Shutdown::Both).expect("to end");
    }
}

//! A server and a client of the framework talk to each other, on each engine that the machine allows.

use std::net::{Ipv4Addr, SocketAddr};

use ringway::{
    Client, ConnectionId, EngineKind, EventHandler, ListenerId, Operations, Server, SocketAddress, Token,
};

/// Echoes, and ends when it is told to.
struct Echo {
    is_over: bool,
}

impl EventHandler for Echo {
    type Mail = ();

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        token: Token,
        connection: ConnectionId,
        _peer: SocketAddress,
    ) {
        assert_eq!(token, Token(0), "the place of the address");
        ops.start_receive(connection);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        _token: Token,
        bytes: &mut [u8],
    ) {
        ops.send(connection, bytes).expect("a connection that was just read from");
    }

    fn on_mail(&mut self, _ops: &mut Operations<'_>, (): ()) {
        self.is_over = true;
    }

    fn is_finished(&self) -> bool {
        self.is_over
    }
}

/// Sends its number on each connection and waits for it to come back.
struct Asker {
    answers: Vec<Vec<u8>>,
    open: usize,
}

impl EventHandler for Asker {
    type Mail = ();

    fn on_accept(
        &mut self,
        _: &mut Operations<'_>,
        _: ListenerId,
        _: Token,
        _: ConnectionId,
        _: SocketAddress,
    ) {
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        ops.start_receive(connection);
        ops.send(connection, format!("I am {}", token.0).as_bytes()).expect("a fresh connection");
        ops.shut(connection);
    }

    fn on_read(
        &mut self,
        _ops: &mut Operations<'_>,
        _connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        self.answers[token.0 as usize].extend_from_slice(bytes);
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, _token: Token) {
        ops.close(connection);
        self.open -= 1;
    }

    fn is_finished(&self) -> bool {
        self.open == 0
    }
}

fn each_client_gets_its_own_bytes_back(kind: EngineKind) {
    if let Err(reason) = kind.probe() {
        println!("skipped: {reason}");
        return;
    }
    const CLIENTS: usize = 20;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::new()
        .listen(any_port)
        .workers(2)
        .engine(kind)
        .start(|_| Echo { is_over: false })
        .expect("to start");
    let asker = Asker { answers: vec![Vec::new(); CLIENTS], open: CLIENTS };
    let asker = Client::new(server.addresses()[0].clone())
        .connections(CLIENTS as u32)
        .engine(kind)
        .run(asker)
        .expect("a working kernel interface");
    for (number, answer) in asker.answers.iter().enumerate() {
        assert_eq!(answer, format!("I am {number}").as_bytes());
    }
    for mailer in server.mailers() {
        mailer.send(());
    }
    server.join().expect("a working kernel interface");
}

#[test]
fn each_client_gets_its_own_bytes_back_on_epoll() {
    each_client_gets_its_own_bytes_back(EngineKind::Epoll);
}

#[test]
fn each_client_gets_its_own_bytes_back_on_io_uring() {
    each_client_gets_its_own_bytes_back(EngineKind::IoUring);
}

#[test]
fn workers_share_the_queue_of_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("ringway-server-{}.sock", std::process::id()));
    let server = Server::new()
        .listen(SocketAddress::unix(&path))
        .workers(2)
        .start(|_| Echo { is_over: false })
        .expect("to start");
    let asker = Asker { answers: vec![Vec::new(); 6], open: 6 };
    let asker = Client::new(SocketAddress::unix(&path)).connections(6).run(asker).expect("a working kernel");
    assert_eq!(asker.answers[5], b"I am 5");
    for mailer in server.mailers() {
        mailer.send(());
    }
    server.join().expect("a working kernel interface");
    std::fs::remove_file(path).expect("the socket's file");
}

#[test]
fn a_port_that_is_taken_is_an_error_at_start() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("its address");
    let error = Server::new().listen(address).start(|_| Echo { is_over: false }).err().expect("an error");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

//! The clients of a simulation: all of them on one machine, each with its script.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringway::simulated::Random;
use ringway::{
    CloseReason, ConnectOptions, ConnectionId, EventHandler, ListenerId, Operations, SocketAddress, Time,
    TimerId, Token,
};

use crate::ledger::{ClientView, SharedLedger};
use crate::opening::Openings;
use crate::preamble::Preambles;
use crate::script::{ClientEnd, HEADER, Script, pattern};
use crate::tls::{BABBLE, Line, Speakers, is_refusal};

/// All clients.
pub(crate) struct Clients {
    ledger: SharedLedger,
    random: Random,
    frontends: Vec<SocketAddress>,
    preambles: Preambles,
    openings: Openings,
    /// What those share that speak TLS with the proxy.
    speakers: Option<Speakers>,
    clients: Vec<Client>,
}

struct Client {
    script: Script,
    connection: ConnectionId,
    /// What it speaks TLS by.
    line: Option<Box<Line>>,
    view: ClientView,
    sending: bool,
    /// It sends nothing before.
    silent_until: Time,
}

/// What a timer is for; the low bits of its token, the client's number above.
const DIAL: u32 = 0;
const SEND: u32 = 1;
const READ: u32 = 2;
const CLOSE: u32 = 3;
const KINDS: u32 = 4;

/// Between two pieces of what a client says first: few of these are shorter than the silence that speaks for itself.
const OPENING_PAUSE_MAX: Duration = Duration::from_millis(60);

/// The source address of a client, by which the proxy's record of it is found.
pub(crate) fn source(number: u32) -> IpAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, high, middle, low))
}

/// The number of the client with this address.
pub(crate) fn number_of(address: &SocketAddress) -> Option<u32> {
    match address.inet()?.ip() {
        IpAddr::V4(ip) => {
            let [first, high, middle, low] = ip.octets();
            // Its own, or what its PROXY header carries.
            matches!(first, 10 | 11).then_some(u32::from_be_bytes([0, high, middle, low]))
        }
        IpAddr::V6(_) => None,
    }
}

impl Clients {
    pub(crate) fn new(
        scripts: &[Script],
        frontends: Vec<SocketAddress>,
        preambles: Preambles,
        openings: Openings,
        ledger: SharedLedger,
        random: Random,
    ) -> Self {
        let clients = scripts.iter().map(|script| Client {
            script: *script,
            connection: ConnectionId::NONE,
            line: None,
            view: ClientView::default(),
            sending: true,
            silent_until: Time::ZERO,
        });
        let speakers = openings.iter().any(|opening| opening.tls.is_some()).then(Speakers::new);
        Self { clients: clients.collect(), ledger, random, frontends, preambles, openings, speakers }
    }

    pub(crate) fn all_done(&self) -> bool {
        self.clients.iter().all(|client| client.view.done)
    }

    /// Numbers of those that are not.
    pub(crate) fn not_done(&self) -> Vec<u32> {
        let waiting = self.clients.iter().filter(|client| !client.view.done);
        waiting.map(|client| client.script.number).collect()
    }

    fn note(&self, ops: &Operations<'_>, what: &str, number: usize, amount: u64) {
        self.ledger.borrow_mut().note(ops.now(), what, number as u32, amount);
    }

    /// Publishes what a client knows.
    fn publish(&self, number: usize) {
        self.ledger.borrow_mut().clients.insert(number as u32, self.clients[number].view.clone());
    }

    fn dial(&mut self, ops: &mut Operations<'_>, number: usize) {
        let frontend = self.random.index(self.frontends.len());
        let options = ConnectOptions { source: Some(source(number as u32)), ..ConnectOptions::default() };
        let token = Token(number as u32);
        self.clients[number].connection = ops.connect(&self.frontends[frontend], &options, token);
    }

    /// Sends the next pieces, until the connection takes no more, all is sent, or it is time for a pause.
    fn send(&mut self, ops: &mut Operations<'_>, number: usize) {
        if ops.now() < self.clients[number].silent_until || !self.shake(ops, number) {
            return;
        }
        let client = &mut self.clients[number];
        let (script, connection) = (client.script, client.connection);
        let opening = &self.openings[number];
        let before = opening.len();
        let total = before + HEADER as u64 + u64::from(script.request);
        let stop_at = match script.client_end {
            ClientEnd::Reset(at) => total.min(before + HEADER as u64 + u64::from(at)),
            _ => total,
        };
        let stop_at = opening.stops_at.map_or(stop_at, |at| at.min(stop_at));
        while client.sending && client.view.sent < stop_at {
            let start = client.view.sent;
            let is_opening = start < before;
            let most = if is_opening { opening.piece_max } else { 40_000 };
            let len = self.random.between(1, most).min(stop_at - start) as usize;
            let mut bytes = opening.bytes.get(start as usize..).unwrap_or_default().to_vec();
            bytes.truncate(len);
            let len_of_opening = bytes.len() as u64;
            let of_script = (start + len_of_opening).saturating_sub(before);
            bytes.extend(script.request_bytes(of_script, len - bytes.len()));
            client.view.spoke = true;
            let bytes = match &mut client.line {
                None => bytes,
                Some(line) => {
                    line.say(&bytes);
                    line.take(u64::MAX)
                }
            };
            match ops.send(connection, &bytes) {
                Ok(0) => client.view.sent += len as u64,
                Ok(_queued) => {
                    client.view.sent += len as u64;
                    return;
                }
                Err(_) => return,
            }
            let pause = if is_opening { script.pause.min(OPENING_PAUSE_MAX) } else { script.pause };
            if self.random.chance(0.1) && !script.pause.is_zero() {
                let at = ops.now() + self.random_pause(pause);
                ops.set_timer(at, Token(number as u32 * KINDS + SEND));
                return;
            }
        }
        if client.sending && client.view.sent == stop_at {
            self.on_all_sent(ops, number);
        }
    }

    /// It sends no more payload.
    fn on_all_sent(&mut self, ops: &mut Operations<'_>, number: usize) {
        let client = &mut self.clients[number];
        client.sending = false;
        match client.script.client_end {
            ClientEnd::Finish => self.finish(ops, number),
            ClientEnd::Reset(_) => {
                client.view.broken = true;
                ops.reset(client.connection);
            }
            _ => self.after_bytes(ops, number),
        }
    }

    /// Sends what TLS has to say itself, in pieces with pauses now and then. Says whether the client can speak.
    fn shake(&mut self, ops: &mut Operations<'_>, number: usize) -> bool {
        let piece_max = self.openings[number].piece_max;
        let client = &mut self.clients[number];
        let (script, connection) = (client.script, client.connection);
        let Some(line) = &mut client.line else { return true };
        if ops.queued_bytes(connection) > 0 {
            // It is told when they have left.
            return false;
        }
        loop {
            let piece = line.take(self.random.between(1, piece_max));
            if piece.is_empty() {
                break;
            }
            client.view.spoke = true;
            if !matches!(ops.send(connection, &piece), Ok(0)) {
                return false;
            }
            if self.random.chance(0.1) && !script.pause.is_zero() {
                let at = ops.now() + self.random_pause(script.pause.min(OPENING_PAUSE_MAX));
                ops.set_timer(at, Token(number as u32 * KINDS + SEND));
                return false;
            }
        }
        if line.is_cut() && client.sending {
            self.on_all_sent(ops, number);
            return false;
        }
        line.is_open()
    }

    /// Nothing more comes: TLS says so, if the client speaks it and is one that does.
    fn end_stream(&mut self, ops: &mut Operations<'_>, number: usize) {
        let client = &mut self.clients[number];
        client.sending = false;
        let Some(line) = &mut client.line else {
            client.view.shut = true;
            return;
        };
        let is_said = line.finish();
        // An error comes as an event, too.
        let _ = ops.send(client.connection, &line.take(u64::MAX));
        client.view.shut |= is_said;
        client.view.truncated |= !is_said;
    }

    fn random_pause(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.random.below(most.as_nanos() as u64))
    }

    fn finish(&mut self, ops: &mut Operations<'_>, number: usize) {
        self.end_stream(ops, number);
        let keeps_open = self.openings[number].tls.is_some_and(|manner| manner.keeps_open);
        let client = &mut self.clients[number];
        match client.view.ended {
            true => ops.close(client.connection),
            false if keeps_open && client.view.shut && client.line.is_some() => {}
            false => ops.shut(client.connection),
        }
    }

    fn after_bytes(&mut self, ops: &mut Operations<'_>, number: usize) {
        if self.openings[number].tls.is_some_and(|manner| manner.babbles) {
            // It waits for the end, to say something behind it.
            return;
        }
        let client = &mut self.clients[number];
        let complete = client.view.received == u64::from(client.script.response);
        if !complete || client.sending || client.view.shut {
            return;
        }
        match client.script.client_end {
            ClientEnd::FinishAfterResponse => self.finish(ops, number),
            ClientEnd::CloseAfterResponse => self.close(ops, number),
            _ => {}
        }
    }

    /// What is not sent by now is not part of the request.
    fn close(&mut self, ops: &mut Operations<'_>, number: usize) {
        self.end_stream(ops, number);
        ops.close(self.clients[number].connection);
    }

    /// The response is over.
    fn on_last_byte(&mut self, ops: &mut Operations<'_>, number: usize) {
        let babbles = self.openings[number].tls.is_some_and(|manner| manner.babbles);
        let client = &mut self.clients[number];
        client.view.ended = true;
        if babbles && client.line.is_some() && !client.view.shut {
            (client.sending, client.view.truncated) = (false, true);
            // An error comes as an event, too.
            let _ = ops.send(client.connection, &BABBLE);
            ops.close(client.connection);
            return;
        }
        match client.script.client_end {
            // They go on sending, or sit there.
            ClientEnd::Finish | ClientEnd::Reset(_) if client.sending => {}
            ClientEnd::Stay => {
                let at = ops.now() + Duration::from_secs(1) + self.random_pause(Duration::from_secs(10));
                ops.set_timer(at, Token(number as u32 * KINDS + CLOSE));
            }
            _ => self.close(ops, number),
        }
    }

    /// The server's part in TLS broke a rule, or it refused the client.
    fn on_failure(&mut self, ops: &mut Operations<'_>, number: usize, error: &rustls::Error) {
        if !is_refusal(error) {
            self.ledger.borrow_mut().fault(format!("client {number} got what is no TLS: {error}"));
        }
        let client = &mut self.clients[number];
        (client.sending, client.view.broken) = (false, true);
        ops.close(client.connection);
    }
}

impl EventHandler for Clients {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        for (number, client) in self.clients.iter().enumerate() {
            ops.set_timer(client.script.dial_at, Token(number as u32 * KINDS + DIAL));
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        _: Token,
        connection: ConnectionId,
        _: SocketAddress,
    ) {
        ops.reset(connection);
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, _: TimerId, token: Token) {
        let number = (token.0 / KINDS) as usize;
        if self.clients[number].view.done {
            return;
        }
        match token.0 % KINDS {
            DIAL => self.dial(ops, number),
            SEND => self.send(ops, number),
            CLOSE => self.close(ops, number),
            _ => ops.start_receive(self.clients[number].connection),
        }
        self.publish(number);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        let number = token.0 as usize;
        self.note(ops, "client connected", number, 0);
        self.clients[number].view.connected = true;
        let preamble = self.preambles.of_client(token.0);
        if !preamble.is_empty() {
            // An error comes as an event, too.
            let _ = ops.send(connection, &preamble);
        }
        match self.clients[number].script.client_end {
            ClientEnd::Leave => {
                self.clients[number].view.broken = true;
                ops.reset(connection);
            }
            ClientEnd::FinishAtOnce => {
                self.finish(ops, number);
                ops.start_receive(connection);
            }
            _ => {
                ops.start_receive(connection);
                let opening = &self.openings[number];
                let line = opening.tls.and_then(|manner| self.speakers.as_ref()?.begin(opening.says, manner));
                self.clients[number].line = line.map(Box::new);
                let silence = self.openings[number].silence;
                if !silence.is_zero() {
                    let until = ops.now() + silence;
                    self.clients[number].silent_until = until;
                    ops.set_timer(until, Token(token.0 * KINDS + SEND));
                }
                self.send(ops, number);
            }
        }
        self.publish(number);
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        _: ConnectionId,
        token: Token,
        error: std::io::Error,
    ) {
        let number = token.0 as usize;
        self.note(ops, "client refused", number, error.raw_os_error().unwrap_or(0) as u64);
        self.clients[number].view.done = true;
        self.publish(number);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        let number = token.0 as usize;
        self.note(ops, "client read", number, bytes.len() as u64);
        let client = &mut self.clients[number];
        let heard = client.line.as_mut().map(|line| line.hear(bytes));
        if let Some(line) = &client.line
            && client.view.accord.is_none()
        {
            client.view.accord = line.accord();
        }
        let (bytes, finished) = match &heard {
            None => (&*bytes, false),
            Some(heard) => (&heard.payload[..], heard.finished),
        };
        let view = &mut client.view;
        let start = view.received;
        view.received += bytes.len() as u64;
        if let Some(at) = (0..bytes.len()).find(|at| bytes[*at] != pattern(token.0, 1, start + *at as u64)) {
            let fault = format!("client {number} got a wrong byte at {}", start + at as u64);
            self.ledger.borrow_mut().fault(fault);
        }
        let pause = self.clients[number].script.pause;
        if self.random.chance(0.1) && !pause.is_zero() {
            ops.pause_receive(connection);
            let at = ops.now() + self.random_pause(pause);
            ops.set_timer(at, Token(token.0 * KINDS + READ));
        }
        self.after_bytes(ops, number);
        if let Some(error) = heard.as_ref().and_then(|heard| heard.error.as_ref()) {
            self.on_failure(ops, number, error);
        } else if heard.is_some() {
            if finished {
                self.on_last_byte(ops, number);
            }
            // All of the response may come with what ends the handshake.
            if !finished || self.clients[number].sending {
                self.send(ops, number);
            }
        }
        self.publish(number);
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        let number = token.0 as usize;
        self.note(ops, "client saw the end", number, 0);
        let client = &mut self.clients[number];
        match (&client.line, client.view.ended) {
            (None, _) => self.on_last_byte(ops, number),
            // TLS told of it.
            (Some(_), true) => {}
            (Some(line), false) => {
                client.view.cut_short = line.is_open();
                (client.sending, client.view.broken) = (false, true);
                ops.close(connection);
            }
        }
        self.publish(number);
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token) {
        let number = token.0 as usize;
        self.send(ops, number);
        self.publish(number);
    }

    fn on_close(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token, reason: CloseReason) {
        let number = token.0 as usize;
        self.note(ops, "client closed", number, u64::from(matches!(reason, CloseReason::Closed)));
        let view = &mut self.clients[number].view;
        view.broken |= !matches!(reason, CloseReason::Closed);
        view.done = true;
        self.publish(number);
    }
}

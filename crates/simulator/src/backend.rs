//! A backend of a simulation: one machine that does what each connection's header orders.

use std::net::SocketAddrV4;
use std::time::Duration;

use ringway::simulated::Random;
use ringway::{
    CloseReason, ConnectionId, EventHandler, ListenOptions, ListenerId, Operations, SocketAddress, TimerId,
    Token,
};
use ringway_proxy::model::SendHeader;

use crate::ledger::{BackendView, SharedLedger};
use crate::opening::Openings;
use crate::preamble::{Preamble, Preambles};
use crate::script::{BackendEnd, HEADER, Order, pattern};

/// One backend. It dies by being dropped.
pub(crate) struct Backend {
    index: usize,
    address: SocketAddress,
    preambles: Preambles,
    openings: Openings,
    ledger: SharedLedger,
    random: Random,
    /// By token; never used twice in the life of a backend.
    connections: Vec<Connection>,
}

struct Connection {
    id: ConnectionId,
    /// What came while the PROXY header is not complete.
    preamble: Vec<u8>,
    /// Whom it named, once it is.
    client: Option<Option<SocketAddrV4>>,
    /// What came while what the client says first is not complete.
    first: Vec<u8>,
    /// Whose it was, once it is, and how long.
    opening: Option<(u32, u64)>,
    header: Vec<u8>,
    order: Option<Order>,
    view: BackendView,
    sending: bool,
}

impl Backend {
    pub(crate) fn new(
        index: usize,
        address: SocketAddress,
        preambles: Preambles,
        openings: Openings,
        ledger: SharedLedger,
        random: Random,
    ) -> Self {
        Self { index, address, preambles, openings, ledger, random, connections: Vec::new() }
    }

    fn note(&self, ops: &Operations<'_>, what: &str, place: usize, amount: u64) {
        if let Some(order) = self.connections[place].order {
            self.ledger.borrow_mut().note(ops.now(), what, order.number, amount);
        }
    }

    fn publish(&self, place: usize) {
        let connection = &self.connections[place];
        if let Some(order) = connection.order {
            self.ledger.borrow_mut().backends.insert(order.number, connection.view.clone());
        }
    }

    fn fault(&self, fault: String) {
        self.ledger.borrow_mut().fault(fault);
    }

    /// Takes bytes that may begin with a PROXY header; gives back those behind it, if it is complete.
    fn read_preamble(&mut self, place: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let connection = &mut self.connections[place];
        if connection.client.is_some() {
            return Some(bytes.to_vec());
        }
        connection.preamble.extend_from_slice(bytes);
        match self.preambles.read(&connection.preamble) {
            Preamble::Incomplete => None,
            Preamble::Read(length, client) => {
                connection.client = Some(client);
                Some(std::mem::take(&mut connection.preamble).split_off(length))
            }
            Preamble::Wrong => {
                let fault = format!("backend {} got no PROXY header: {:?}", self.index, connection.preamble);
                connection.client = Some(None);
                self.fault(fault);
                None
            }
        }
    }

    /// Takes bytes that may begin with what a client says first; gives back those behind it, if it is complete.
    fn read_opening(&mut self, place: usize, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let is_any = self.openings.iter().any(|opening| !opening.bytes.is_empty());
        let connection = &mut self.connections[place];
        if !is_any || connection.opening.is_some() {
            return Some(bytes);
        }
        connection.first.extend_from_slice(&bytes);
        let first = &connection.first;
        if let Some(number) = self.openings.iter().position(|opening| first.starts_with(&opening.bytes)) {
            let length = self.openings[number].len();
            connection.opening = Some((number as u32, length));
            connection.view.received += length;
            return Some(std::mem::take(&mut connection.first).split_off(length as usize));
        }
        if !self.openings.iter().any(|opening| opening.may_begin(first)) {
            let fault = format!("backend {} got what nobody said first: {first:?}", self.index);
            connection.first.clear();
            self.fault(fault);
        }
        None
    }

    /// Takes bytes of the header; gives back how many were of it.
    fn read_header(&mut self, place: usize, bytes: &[u8]) -> usize {
        let index = self.index;
        let connection = &mut self.connections[place];
        let missing = HEADER - connection.header.len();
        let taken = missing.min(bytes.len());
        connection.header.extend_from_slice(&bytes[..taken]);
        let Ok(header) = <&[u8; HEADER]>::try_from(connection.header.as_slice()) else { return taken };
        if connection.order.is_some() {
            return taken;
        }
        let Some(order) = Order::parse(header) else {
            self.fault(format!("backend {index} got a header that nobody sent"));
            return taken;
        };
        connection.order = Some(order);
        connection.view.backend = index;
        let opened = connection.opening;
        let client = connection.client.flatten();
        let is_named = client.is_some_and(|client| self.preambles.names(order.number, client));
        if self.preambles.send != SendHeader::None && !is_named {
            self.fault(format!("the PROXY header of connection {} names {client:?}", order.number));
        }
        if opened.is_some_and(|(number, _)| number != order.number) {
            self.fault(format!("what {opened:?} said first came before the bytes of {}", order.number));
        }
        if self.ledger.borrow().backends.contains_key(&order.number) {
            self.fault(format!("bytes of connection {} came to two backends", order.number));
        }
        taken
    }

    fn check_request(&self, order: Order, start: u64, bytes: &[u8]) {
        if let Some(at) =
            (0..bytes.len()).find(|at| bytes[*at] != pattern(order.number, 0, start + *at as u64))
        {
            let at = start + at as u64;
            self.fault(format!("backend {} got a wrong byte of {} at {at}", self.index, order.number));
        }
    }

    /// Sends what is to be sent now, and ends if that is all.
    fn go_on(&mut self, ops: &mut Operations<'_>, place: usize) {
        let connection = &mut self.connections[place];
        let Some(order) = connection.order else { return };
        let before = connection.opening.map_or(0, |(_, length)| length);
        let complete = connection.view.received == before + HEADER as u64 + u64::from(order.request);
        if order.in_turn && !complete && !connection.view.ended {
            return;
        }
        let stop_at = match order.end {
            BackendEnd::Reset(at) => order.response.min(at),
            BackendEnd::Finish | BackendEnd::FinishAfterClient | BackendEnd::Stay => order.response,
        };
        while connection.sending && connection.view.sent < u64::from(stop_at) {
            let len = self.random.between(1, 50_000).min(u64::from(stop_at) - connection.view.sent);
            let start = connection.view.sent;
            let bytes: Vec<u8> = (start..start + len).map(|at| pattern(order.number, 1, at)).collect();
            match ops.send(connection.id, &bytes) {
                Ok(queued) => {
                    connection.view.sent += len;
                    if queued > 0 {
                        return;
                    }
                }
                Err(_) => return,
            }
            if self.random.chance(0.05) {
                let at = ops.now() + Duration::from_millis(self.random.below(100));
                ops.set_timer(at, Token(place as u32));
                return;
            }
        }
        connection.sending = false;
        let ended = connection.view.ended;
        match order.end {
            BackendEnd::Reset(_) => ops.reset(connection.id),
            BackendEnd::Stay => {}
            BackendEnd::FinishAfterClient if !ended => {}
            BackendEnd::Finish | BackendEnd::FinishAfterClient => {
                connection.view.shut = true;
                match ended {
                    true => ops.close(connection.id),
                    false => ops.shut(connection.id),
                }
            }
        }
    }
}

impl EventHandler for Backend {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        let started = ops
            .bind(&self.address, &ListenOptions::default())
            .and_then(|listener| ops.start_accept(listener, Token(u32::MAX)));
        if let Err(error) = started {
            self.fault(format!("backend {} cannot listen: {error}", self.index));
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        _: Token,
        id: ConnectionId,
        _: SocketAddress,
    ) {
        ops.set_token(id, Token(self.connections.len() as u32));
        self.connections.push(Connection {
            id,
            preamble: Vec::new(),
            client: None,
            first: Vec::new(),
            opening: None,
            header: Vec::new(),
            order: None,
            view: BackendView::default(),
            sending: true,
        });
        ops.start_receive(id);
    }

    fn on_read(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token, bytes: &mut [u8]) {
        let place = token.0 as usize;
        let Some(bytes) = self.read_preamble(place, bytes) else { return };
        let Some(bytes) = self.read_opening(place, bytes) else { return };
        let of_header = self.read_header(place, &bytes);
        let rest = &bytes[of_header..];
        let connection = &mut self.connections[place];
        let before = connection.opening.map_or(0, |(_, length)| length);
        let start = connection.view.received - before + of_header as u64;
        connection.view.received += bytes.len() as u64;
        if let Some(order) = connection.order {
            self.check_request(order, start, rest);
        }
        self.note(ops, "backend read", place, bytes.len() as u64);
        self.go_on(ops, place);
        self.publish(place);
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, id: ConnectionId, token: Token) {
        let place = token.0 as usize;
        self.note(ops, "backend saw the end", place, 0);
        let connection = &mut self.connections[place];
        connection.view.ended = true;
        if connection.order.is_none() || connection.view.shut {
            // A probe, somebody who left early, or one to whom nothing is owed.
            ops.close(id);
        } else {
            self.go_on(ops, place);
        }
        self.publish(place);
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token) {
        let place = token.0 as usize;
        if !self.connections[place].view.shut {
            self.go_on(ops, place);
            self.publish(place);
        }
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, _: TimerId, token: Token) {
        self.on_write(ops, ConnectionId::NONE, token);
    }

    fn on_close(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token, reason: CloseReason) {
        let clean = matches!(reason, CloseReason::Closed);
        let place = token.0 as usize;
        self.note(ops, "backend closed", place, u64::from(clean));
        self.connections[place].view.closed = true;
        self.publish(place);
    }
}

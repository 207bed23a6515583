//! The relay whose bytes pass through the program, between seeded peers: streams stay whole, however bytes wait and however
//! often the connections go from this relay to the driver's and back.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use ringway::layer::Buffers;
use ringway::relay::{Gate, Passage, Step, TransformRelay};
use ringway::simulated::{Random, SimulatedFaults, SimulatedNetwork};
use ringway::{
    CloseReason, ConnectOptions, ConnectionId, Engine, EngineConfig, EventHandler, ListenOptions, ListenerId,
    Operations, RelayCause, RelayEnd, RelayOptions, RelayStop, Side, SocketAddress, Time, TimerId, Token,
    Worker,
};

const FRONT: u8 = 1;
const BACK: u8 = 2;
/// More turns than any of these worlds takes.
const TURNS_MAX: usize = 500_000;

fn address(host: u8) -> SocketAddress {
    SocketAddr::from(([10, 0, 0, host], 80)).into()
}

/// Lets some bytes through, and others wait.
struct Whim {
    random: Random,
    due: [Time; 2],
}

impl Gate for Whim {
    fn pass(&mut self, from: Side, waiting: usize, now: Time) -> Passage {
        let due = &mut self.due[from.index()];
        if *due <= now && self.random.chance(0.3) {
            *due = now + Duration::from_micros(self.random.between(1, 20_000));
        }
        match *due > now {
            true => Passage::Wait(*due),
            false => Passage::Go(self.random.between(1, waiting as u64) as usize),
        }
    }
}

/// One client and one backend, joined in one of two ways.
struct Joiner {
    client: ConnectionId,
    backend: ConnectionId,
    relay: Option<TransformRelay>,
    gate: Whim,
    buffers: Buffers,
    /// How often the kind of relay is still to change.
    changes: u32,
    change_timer: TimerId,
    half_closes: u32,
    end: Option<RelayEnd>,
}

impl Joiner {
    fn side(&self, connection: ConnectionId) -> Side {
        if connection == self.client { Side::A } else { Side::B }
    }

    fn tell(&mut self, act: impl FnOnce(&mut TransformRelay, &mut Whim, &mut Buffers) -> Step) {
        if let Some(relay) = &mut self.relay {
            let step = act(relay, &mut self.gate, &mut self.buffers);
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        self.half_closes += u32::from(step.half_closed.is_some());
        if let Some(end) = step.end {
            self.relay = None;
            assert!(self.end.replace(end).is_none(), "it ended twice");
        }
    }

    fn change(&mut self, ops: &mut Operations<'_>) {
        if self.end.is_some() {
            return;
        }
        match &mut self.relay {
            Some(relay) => {
                if relay.release(ops) {
                    self.relay = None;
                }
            }
            None => _ = ops.stop_relay(self.client),
        }
        self.set_change(ops);
    }

    fn set_change(&mut self, ops: &mut Operations<'_>) {
        if let Some(left) = self.changes.checked_sub(1) {
            self.changes = left;
            let at = ops.now() + Duration::from_millis(self.gate.random.between(1, 60));
            self.change_timer = ops.set_timer(at, Token(0));
        }
    }
}

impl EventHandler for Joiner {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        let listener = ops.bind(&address(FRONT), &ListenOptions::default()).expect("a free address");
        ops.start_accept(listener, Token(1)).expect("an own listener");
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        _: Token,
        connection: ConnectionId,
        _: SocketAddress,
    ) {
        ops.set_token(connection, Token(0));
        self.client = connection;
        self.backend = ops.connect(&address(BACK), &ConnectOptions::default(), Token(0));
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, _: ConnectionId, token: Token) {
        let sides = [self.client, self.backend];
        if self.gate.random.chance(0.5) {
            self.relay = Some(TransformRelay::start(ops, sides, token, [0, 0]));
        } else {
            ops.start_relay(sides[0], sides[1], RelayOptions::default());
        }
        self.set_change(ops);
    }

    fn on_read(&mut self, ops: &mut Operations<'_>, id: ConnectionId, _: Token, bytes: &mut [u8]) {
        let side = self.side(id);
        self.tell(|relay, gate, buffers| relay.on_read(ops, side, bytes, gate, buffers));
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, id: ConnectionId, _: Token) {
        let side = self.side(id);
        self.tell(|relay, _, buffers| relay.on_end(ops, side, buffers));
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, id: ConnectionId, _: Token) {
        let side = self.side(id);
        self.tell(|relay, gate, buffers| relay.on_write(ops, side, gate, buffers));
    }

    fn on_close(&mut self, ops: &mut Operations<'_>, id: ConnectionId, _: Token, reason: CloseReason) {
        let side = self.side(id);
        self.tell(|relay, _, buffers| relay.on_close(ops, side, reason, buffers));
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, _: Token) {
        if timer == self.change_timer {
            self.change_timer = TimerId::NONE;
            return self.change(ops);
        }
        self.tell(|relay, gate, buffers| {
            relay.on_timer(ops, timer, gate, buffers).expect("there is no other timer")
        });
    }

    fn on_relay_stopped(&mut self, ops: &mut Operations<'_>, stop: RelayStop) {
        let (relay, step) = TransformRelay::resume(ops, stop, &mut self.gate, &mut self.buffers);
        self.relay = Some(relay);
        self.take(step);
    }

    fn on_relay_ended(&mut self, _: &mut Operations<'_>, end: RelayEnd) {
        assert!(self.end.replace(end).is_none(), "it ended twice");
    }
}

/// One end of the connection: sends its stream in pieces and finishes, or resets in the middle; reads with pauses.
struct Peer {
    is_backend: bool,
    random: Random,
    id: ConnectionId,
    stream: Vec<u8>,
    sent: usize,
    /// Resets once so much is sent.
    reset_at: Option<usize>,
    received: Vec<u8>,
    ended: bool,
    closed: Option<&'static str>,
    read_timer: TimerId,
}

impl Peer {
    fn new(is_backend: bool, random: &mut Random, breaks: bool) -> Self {
        let len = random.between(0, 400_000) as usize;
        let seed = random.below(251) as usize;
        Self {
            is_backend,
            id: ConnectionId::NONE,
            stream: (0..len).map(|at| ((at * 31 + at / 251 + seed) % 251) as u8).collect(),
            sent: 0,
            reset_at: breaks.then(|| random.below(len as u64 + 1) as usize),
            received: Vec::new(),
            ended: false,
            closed: None,
            read_timer: TimerId::NONE,
            random: Random::new(random.next_u64()),
        }
    }

    fn begin(&mut self, ops: &mut Operations<'_>, id: ConnectionId) {
        self.id = id;
        ops.start_receive(id);
        self.go_on(ops);
    }

    fn go_on(&mut self, ops: &mut Operations<'_>) {
        let stop = self.reset_at.unwrap_or(self.stream.len());
        while self.sent < stop && ops.queued_bytes(self.id) == 0 {
            if self.random.chance(0.1) {
                ops.set_timer(ops.now() + Duration::from_micros(self.random.below(30_000)), Token(0));
                return;
            }
            let end = stop.min(self.sent + self.random.between(1, 60_000) as usize);
            if ops.send(self.id, &self.stream[self.sent..end]).is_err() {
                return;
            }
            self.sent = end;
        }
        if self.sent == stop {
            match self.reset_at {
                Some(_) => ops.reset(self.id),
                None => ops.shut(self.id),
            }
        }
    }
}

impl EventHandler for Peer {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        if self.is_backend {
            let listener = ops.bind(&address(BACK), &ListenOptions::default()).expect("a free address");
            ops.start_accept(listener, Token(0)).expect("an own listener");
        } else {
            ops.connect(&address(FRONT), &ConnectOptions::default(), Token(0));
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
        self.begin(ops, connection);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, _: Token) {
        self.begin(ops, connection);
    }

    fn on_read(&mut self, ops: &mut Operations<'_>, id: ConnectionId, _: Token, bytes: &mut [u8]) {
        self.received.extend_from_slice(bytes);
        if self.random.chance(0.1) {
            // So slow at times that the relay has to wait for it.
            ops.pause_receive(id);
            let at = ops.now() + Duration::from_micros(self.random.below(100_000));
            self.read_timer = ops.set_timer(at, Token(0));
        }
    }

    fn on_end(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token) {
        self.ended = true;
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, _: ConnectionId, _: Token) {
        self.go_on(ops);
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, _: Token) {
        if timer == self.read_timer {
            // Its number may be used again.
            self.read_timer = TimerId::NONE;
            ops.start_receive(self.id);
        } else {
            self.go_on(ops);
        }
    }

    fn on_close(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, reason: CloseReason) {
        self.closed = Some(if matches!(reason, CloseReason::Closed) { "closed" } else { "reset" });
    }
}

struct World {
    network: SimulatedNetwork,
    joiner: Worker<Joiner>,
    client: Worker<Peer>,
    backend: Worker<Peer>,
}

impl World {
    /// Everything is of this seed. `breaks`: who resets the connection in the middle.
    fn new(seed: u64, changes: bool, breaks: Option<Side>) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let network = SimulatedNetwork::new(random.next_u64(), SimulatedFaults::ragged());
        let engine = || Engine::simulated(&network, &EngineConfig::default());
        let joiner = Joiner {
            client: ConnectionId::NONE,
            backend: ConnectionId::NONE,
            relay: None,
            buffers: Buffers::default(),
            gate: Whim { random: Random::new(random.next_u64()), due: [Time::ZERO; 2] },
            changes: if changes { random.between(1, 12) as u32 } else { 0 },
            change_timer: TimerId::NONE,
            half_closes: 0,
            end: None,
        };
        let backend = Peer::new(true, random, breaks == Some(Side::B));
        let client = Peer::new(false, random, breaks == Some(Side::A));
        let (joiner, backend) = (Worker::new(engine(), joiner), Worker::new(engine(), backend));
        let client = Worker::new(engine(), client);
        Self { network, joiner, client, backend }
    }

    /// Turns everybody until nothing more happens; the relay is over then.
    fn run(&mut self, seed: u64) {
        for _ in 0..TURNS_MAX {
            self.backend.turn(Some(Duration::ZERO)).expect("a simulated turn");
            self.joiner.turn(Some(Duration::ZERO)).expect("a simulated turn");
            self.client.turn(Some(Duration::ZERO)).expect("a simulated turn");
            if !self.network.has_work() && !self.network.advance() {
                assert!(self.joiner.handler().end.is_some(), "seed {seed}: nothing more will happen");
                assert_eq!(self.joiner.parts().1.connection_count(), 0, "seed {seed}");
                assert_eq!(self.joiner.parts().1.pending_bytes(), 0);
                return;
            }
        }
        panic!("it does not end");
    }
}

#[test]
fn streams_stay_whole_and_both_ends_are_passed_on() {
    for seed in 0..300 {
        let mut world = World::new(seed, seed % 3 > 0, None);
        world.run(seed);
        let (client, backend) = (world.client.handler(), world.backend.handler());
        assert!(client.received == backend.stream, "seed {seed}: from the backend");
        assert!(backend.received == client.stream, "seed {seed}: from the client");
        assert!(client.ended && backend.ended, "seed {seed}: an end is missing");
        let end = world.joiner.handler().end.as_ref().expect("it is over");
        assert!(matches!(end.cause, RelayCause::Finished), "seed {seed}: {end:?}");
        let lengths = [client.stream.len() as u64, backend.stream.len() as u64];
        assert_eq!((end.bytes, end.undelivered), (lengths, [0, 0]), "seed {seed}");
    }
}

#[test]
fn reset_ends_both_sides_and_what_came_before_it_is_a_prefix() {
    for seed in 0..300 {
        let side = if seed % 2 == 0 { Side::A } else { Side::B };
        let mut world = World::new(seed, seed % 3 > 0, Some(side));
        world.run(seed);
        let (client, backend) = (world.client.handler(), world.backend.handler());
        let (breaks, other) = if side == Side::A { (client, backend) } else { (backend, client) };
        assert!(breaks.stream[..breaks.sent].starts_with(&other.received), "seed {seed}");
        assert_eq!(other.closed, Some("reset"), "seed {seed}: a cut stream looks complete");
        let end = world.joiner.handler().end.as_ref().expect("it is over");
        assert!(matches!(end.cause, RelayCause::Reset) && end.side == side, "seed {seed}: {end:?}");
        let sent = if side == Side::A { end.bytes[0] } else { end.bytes[1] };
        assert!(sent >= other.received.len() as u64 && sent <= breaks.sent as u64, "seed {seed}: {end:?}");
    }
}

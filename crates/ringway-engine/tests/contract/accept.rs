//! Listening sockets: accepting, pausing, running out, and stopping without cutting anybody off.

use std::net::{Ipv4Addr, TcpListener};

use ringway_engine::driver::simulated::{SimulatedFaults, SimulatedNetwork};
use ringway_engine::{EngineKind, ListenOptions, Listener, SocketAddress, Token};

use crate::contract;
use crate::log::Seen;
use crate::rig::{Kind, Rig, loopback};

contract!(
    accepted_connection_bears_the_listeners_token_and_the_peers_address,
    listeners_at_one_address_share_its_connections,
    an_address_without_reuse_port_can_be_had_once,
    paused_listener_leaves_connections_in_the_queue,
    stopped_listener_hands_out_what_waits_and_closes,
    stopped_listener_steers_new_connections_to_the_others,
    reassigned_listener_keeps_its_queue_and_bears_another_token,
    released_listener_leaves_its_queue_to_who_else_holds_it,
    released_listener_says_nothing_more_and_can_be_accepted_from_again,
    closed_listener_refuses,
    stopped_listener_leaves_a_socket_that_is_held_elsewhere_to_its_holder,
    unix_listener_serves_and_can_be_cloned,
    accept_pauses_when_descriptors_run_out_and_resumes,
    more_listeners_than_a_ring_has_entries_start_before_the_first_turn,
);

fn is_accepted(seen: &Seen) -> bool {
    matches!(seen, Seen::Accepted { .. })
}

fn is_listener_closed(seen: &Seen) -> bool {
    matches!(seen, Seen::ListenerClosed { .. })
}

fn accepted_connection_bears_the_listeners_token_and_the_peers_address(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(5));
    assert_ne!(address.inet().expect("an inet address").port(), 0);
    let dialled = rig.dial(client, &address, Token(6));
    rig.wait_connected(client, dialled);
    rig.until("a connection", |rig| rig.log(server).has(is_accepted));
    let Some(Seen::Accepted { listener: by, token, connection, peer }) =
        rig.log(server).seen.iter().find(|seen| is_accepted(seen)).cloned()
    else {
        unreachable!()
    };
    assert_eq!((by, token), (listener, Token(5)));
    assert!(peer.inet().expect("an inet peer").ip().is_loopback());
    assert_eq!(rig.ops(server).connection_count(), 1);
    rig.ops(server).set_token(connection, Token(77));
    rig.ops(server).close(connection);
    rig.wait_dead(server, connection);
    assert!(rig.log(server).has(|seen| *seen == Seen::Closed { connection, token: Token(77) }));
    assert_eq!(rig.ops(server).connection_count(), 0);
}

fn listeners_at_one_address_share_its_connections(rig: &mut Rig) {
    let (one, two, client) = (rig.node(), rig.node(), rig.node());
    let (_, address) = rig.listen(one, Token(1));
    let mut ops = rig.ops(two);
    let other = ops.bind(&address, &ListenOptions::default()).expect("the same address");
    assert_eq!(*other.address(), address);
    ops.start_accept(other, Token(2)).expect("to accept");
    for index in 0..64 {
        rig.dial(client, &address, Token(index));
    }
    rig.until("64 connections", |rig| rig.log(one).accepted().len() + rig.log(two).accepted().len() == 64);
    assert!(!rig.log(one).accepted().is_empty() && !rig.log(two).accepted().is_empty());
}

fn an_address_without_reuse_port_can_be_had_once(rig: &mut Rig) {
    let node = rig.node();
    let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    let one = rig.ops(node).bind(&loopback(0), &options).expect("a port");
    let address = one.address().clone();
    let error = rig.ops(node).bind(&address, &options).expect_err("it is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(one);
    rig.ops(node).bind(&address, &options).expect("it is free again");
}

fn paused_listener_leaves_connections_in_the_queue(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(1));
    rig.turn();
    rig.ops(server).pause_accept(listener);
    let dialled = rig.dial(client, &address, Token(2));
    rig.wait_connected(client, dialled);
    rig.settle();
    assert!(!rig.log(server).has(is_accepted));
    rig.ops(server).resume_accept(listener);
    rig.until("the connection", |rig| rig.log(server).has(is_accepted));
}

fn stopped_listener_hands_out_what_waits_and_closes(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let listener = rig.ops(server).bind(&loopback(0), &ListenOptions::default()).expect("a port");
    let address = listener.address().clone();
    let dialled: Vec<_> = (0..20).map(|index| rig.dial(client, &address, Token(index))).collect();
    for connection in &dialled {
        rig.wait_connected(client, *connection);
        rig.ops(client).send(*connection, b"hello").expect("to send");
    }
    let listener = rig.ops(server).start_accept(listener, Token(1)).expect("to accept");
    rig.ops(server).stop_accept(listener);
    rig.until("the listener to close", |rig| rig.log(server).has(is_listener_closed));
    assert_eq!(rig.log(server).accepted().len(), 20);
    assert!(is_listener_closed(rig.log(server).seen.last().expect("events")), "the last thing it says");
    for connection in rig.log(server).accepted() {
        rig.ops(server).start_receive(connection);
        rig.wait_bytes(server, connection, 5);
    }
    for connection in dialled {
        assert!(!rig.log(client).is_dead(connection));
    }
}

fn stopped_listener_steers_new_connections_to_the_others(rig: &mut Rig) {
    let (one, two, client) = (rig.node(), rig.node(), rig.node());
    let (stopped, address) = rig.listen(one, Token(1));
    let other = rig.ops(two).bind(&address, &ListenOptions::default()).expect("the same address");
    rig.ops(two).start_accept(other, Token(2)).expect("to accept");
    let mut dialled: Vec<_> = (0..32).map(|index| rig.dial(client, &address, Token(index))).collect();
    rig.turn();
    rig.ops(one).stop_accept(stopped);
    dialled.extend((0..32).map(|index| rig.dial(client, &address, Token(index))));
    rig.until("the listener to close", |rig| rig.log(one).has(is_listener_closed));
    rig.until("64 connections", |rig| rig.log(one).accepted().len() + rig.log(two).accepted().len() == 64);
    for connection in dialled {
        rig.wait_connected(client, connection);
    }
    rig.settle();
    assert_eq!(
        rig.log(client).count(|seen| matches!(seen, Seen::Failed { .. } | Seen::ConnectFailed { .. })),
        0
    );
}

fn reassigned_listener_keeps_its_queue_and_bears_another_token(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(1));
    rig.turn();
    rig.ops(server).pause_accept(listener);
    let dialled: Vec<_> = (0..20).map(|index| rig.dial(client, &address, Token(index))).collect();
    for connection in &dialled {
        rig.wait_connected(client, *connection);
    }
    let options = ListenOptions { backlog: 100, ..ListenOptions::default() };
    rig.ops(server).reassign_accept(listener, Token(2), &options).expect("options that can be set");
    rig.ops(server).resume_accept(listener);
    rig.until("20 connections", |rig| rig.log(server).accepted().len() == 20);
    let others = |seen: &Seen| matches!(seen, Seen::Accepted { token, .. } if *token != Token(2));
    assert!(!rig.log(server).has(others));
    assert!(dialled.iter().all(|connection| !rig.log(client).is_dead(*connection)));
    rig.ops(server).stop_accept(listener);
    rig.until("the listener to close", |rig| rig.log(server).has(is_listener_closed));
    assert!(rig.log(server).has(|seen| *seen == Seen::ListenerClosed { listener, token: Token(2) }));
}

fn released_listener_leaves_its_queue_to_who_else_holds_it(rig: &mut Rig) {
    let (one, two, client) = (rig.node(), rig.node(), rig.node());
    let (listener, address) = rig.listen(one, Token(1));
    let other = rig.ops(one).duplicate_listener(listener).expect("a listener that accepts");
    assert_eq!(*other.address(), address);
    rig.turn();
    rig.ops(one).release_accept(listener);
    rig.until("the release", |rig| !rig.log(one).released.is_empty());
    let dialled = rig.dial(client, &address, Token(2));
    rig.wait_connected(client, dialled);
    rig.ops(client).send(dialled, b"hello").expect("to send");
    rig.ops(client).start_receive(dialled);
    rig.settle();
    assert!(!rig.log(one).has(is_accepted), "it left the engine");
    drop(rig.log_mut(one).released.pop());
    rig.settle();
    assert!(
        !rig.log(client).is_dead(dialled) && !rig.log(client).ended(dialled),
        "it waits for the other holder"
    );
    rig.ops(two).start_accept(other, Token(3)).expect("to accept");
    rig.until("the connection", |rig| rig.log(two).has(is_accepted));
    let accepted = rig.log(two).accepted()[0];
    rig.ops(two).start_receive(accepted);
    rig.wait_bytes(two, accepted, 5);
    assert!(rig.ops(one).duplicate_listener(listener).is_err(), "it is not there any more");
}

fn released_listener_says_nothing_more_and_can_be_accepted_from_again(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(1));
    let mut dialled = Vec::new();
    for round in 0..4 {
        dialled.extend((0..20).map(|index| rig.dial(client, &address, Token(index))));
        if round % 2 == 0 {
            rig.turn();
        }
        let place = rig.log(server).seen.len();
        if round == 0 {
            rig.ops(server).release_accept(listener);
        } else {
            let again = rig.log_mut(server).released.pop().expect("what was released");
            let again = rig.ops(server).start_accept(again, Token(1 + round)).expect("to accept");
            rig.turn();
            if round == 2 {
                rig.ops(server).pause_accept(again);
            }
            rig.ops(server).release_accept(again);
            rig.ops(server).release_accept(again);
            rig.ops(server).stop_accept(again);
        }
        rig.until("the release", |rig| !rig.log(server).released.is_empty());
        rig.settle();
        let since = &rig.log(server).seen[place..];
        let position = since.iter().position(|seen| matches!(seen, Seen::ListenerReleased { .. }));
        let position = position.expect("it was waited for");
        assert!(!since[position..].iter().any(|seen| is_accepted(seen) || is_listener_closed(seen)));
    }
    let again = rig.log_mut(server).released.pop().expect("what was released");
    rig.ops(server).start_accept(again, Token(9)).expect("to accept");
    rig.until("all of them", |rig| rig.log(server).accepted().len() == dialled.len());
    rig.settle();
    assert!(dialled.iter().all(|connection| !rig.log(client).is_dead(*connection)));
}

fn closed_listener_refuses(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(1));
    rig.ops(server).stop_accept(listener);
    rig.until("the listener to close", |rig| rig.log(server).has(is_listener_closed));
    let dialled = rig.dial(client, &address, Token(9));
    rig.wait_dead(client, dialled);
    let refused = Some(libc::ECONNREFUSED);
    let failed = Seen::ConnectFailed { connection: dialled, token: Token(9), error: refused };
    assert!(rig.log(client).has(|seen| *seen == failed));
}

fn stopped_listener_leaves_a_socket_that_is_held_elsewhere_to_its_holder(rig: &mut Rig) {
    if rig.is_simulated() {
        // A simulated network has no other processes.
        return;
    }
    let (server, client) = (rig.node(), rig.node());
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let passed = Listener::from_descriptor(holder.try_clone().expect("a handle").into()).expect("it listens");
    let address = passed.address().clone();
    let listener = rig.ops(server).start_accept(passed.held_elsewhere(), Token(1)).expect("to accept");
    let served = rig.dial(client, &address, Token(2));
    rig.wait_connected(client, served);
    rig.until("a connection", |rig| rig.log(server).has(is_accepted));

    rig.ops(server).pause_accept(listener);
    let waiting = rig.dial(client, &address, Token(3));
    rig.wait_connected(client, waiting);
    rig.ops(server).stop_accept(listener);
    rig.until("the listener to close", |rig| rig.log(server).has(is_listener_closed));
    let late = rig.dial(client, &address, Token(4));
    rig.wait_connected(client, late);

    assert_eq!(rig.log(server).accepted().len(), 1, "the others are the holder's");
    for _ in 0..2 {
        // It does not block any more, and both connections wait.
        holder.accept().expect("who waits is still there");
    }
    assert!(!rig.log(client).is_dead(waiting) && !rig.log(client).is_dead(late));
}

fn unix_listener_serves_and_can_be_cloned(rig: &mut Rig) {
    let (one, two, client) = (rig.node(), rig.node(), rig.node());
    let directory = std::env::temp_dir().join(format!(
        "ringway-contract-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&directory).expect("a directory");
    let address = SocketAddress::unix(directory.join(format!("{}.sock", rig.random.next_u64())));
    let listener = rig.ops(one).bind(&address, &ListenOptions::default()).expect("a path");
    let clone = listener.try_clone().expect("a clone");
    let listener = rig.ops(one).start_accept(listener, Token(1)).expect("to accept");
    rig.ops(two).start_accept(clone, Token(2)).expect("to accept");
    let dialled = rig.dial(client, &address, Token(3));
    rig.wait_connected(client, dialled);
    rig.until("a connection", |rig| rig.log(one).has(is_accepted) || rig.log(two).has(is_accepted));
    rig.ops(one).stop_accept(listener);
    rig.until("one listener to close", |rig| rig.log(one).has(is_listener_closed));
    let dialled = rig.dial(client, &address, Token(3));
    rig.wait_connected(client, dialled);
    rig.until("the other to serve", |rig| rig.log(one).accepted().len() + rig.log(two).accepted().len() == 2);
    std::fs::remove_dir_all(&directory).expect("to tidy up");
}

fn accept_pauses_when_descriptors_run_out_and_resumes(rig: &mut Rig) {
    let mut shortage = match &rig.kind {
        Kind::Simulated(network) => Shortage::Simulated(network.clone(), network.faults()),
        // The limit holds for the whole process, so a process of its own tests it.
        Kind::Real(_) if std::env::var_os(ALONE).is_none() => return run_alone(rig),
        Kind::Real(_) => {
            lower_descriptor_limit();
            Shortage::Real(Vec::new())
        }
    };
    let (server, client) = (rig.node(), rig.node());
    let (listener, address) = rig.listen(server, Token(1));
    shortage.begin();
    let dialled = rig.dial(client, &address, Token(2));
    rig.wait_connected(client, dialled);
    rig.until("a pause", |rig| {
        rig.log(server).has(
            |seen| matches!(seen, Seen::AcceptPaused { listener: l, error: Some(_), .. } if *l == listener),
        )
    });
    for _ in 0..8 {
        rig.settle();
    }
    assert_eq!(rig.log(server).count(|seen| matches!(seen, Seen::AcceptPaused { .. })), 1, "said once");
    assert!(!rig.log(server).has(is_accepted));
    shortage.end();
    rig.until("the connection", |rig| rig.log(server).has(is_accepted));
    assert_eq!(rig.log(server).count(|seen| matches!(seen, Seen::AcceptResumed { .. })), 1);
}

fn more_listeners_than_a_ring_has_entries_start_before_the_first_turn(rig: &mut Rig) {
    // Each has a descriptor.
    if !ringway_engine::sys::raise_descriptor_limit().is_ok_and(|(_, limit)| limit >= 4000) {
        return;
    }
    let (server, client) = (rig.node(), rig.node());
    let addresses: Vec<_> = (0..1100).map(|_| rig.listen(server, Token(1)).1).collect();
    for address in [&addresses[0], &addresses[1099]] {
        rig.dial(client, address, Token(2));
    }
    rig.until("both connections", |rig| rig.log(server).count(is_accepted) == 2);
}

/// Set in the process that tests the descriptor limit.
const ALONE: &str = "RINGWAY_CONTRACT_ALONE";

/// Runs the test of the descriptor limit once more, in a process of its own.
fn run_alone(rig: &Rig) {
    let kind = match rig.kind {
        Kind::Real(EngineKind::Epoll) => "epoll",
        Kind::Real(EngineKind::IoUring) => "io_uring",
        Kind::Simulated(_) => unreachable!("it has no descriptors"),
    };
    let test = format!("accept::{kind}::accept_pauses_when_descriptors_run_out_and_resumes");
    let this = std::env::current_exe().expect("the path of this test");
    let output = std::process::Command::new(this).args(["--exact", &test]).env(ALONE, "1").output();
    let output = output.expect("to run this test alone");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What runs out.
enum Shortage {
    Simulated(SimulatedNetwork, SimulatedFaults),
    Real(Vec<std::fs::File>),
}

impl Shortage {
    /// From now on nothing can be accepted; one more dial still goes.
    fn begin(&mut self) {
        match self {
            Self::Simulated(network, calm) => {
                network.set_faults(SimulatedFaults { accept_exhausted: 1.0, ..calm.clone() });
            }
            Self::Real(files) => {
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    files.push(file);
                }
                files.pop();
            }
        }
    }

    fn end(&mut self) {
        match self {
            Self::Simulated(network, calm) => network.set_faults(calm.clone()),
            Self::Real(files) => files.clear(),
        }
    }
}

fn lower_descriptor_limit() {
    let limit = libc::rlimit { rlim_cur: 256, rlim_max: 256 };
    // SAFETY: the pointer is to a whole `rlimit` that lives for the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

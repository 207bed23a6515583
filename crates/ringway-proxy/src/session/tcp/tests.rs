//! Every pair of state and event, and the limits one by one.

mod secured;

use ringway::SocketAddress;

use super::*;
use crate::session::PeerTable;

const SECOND: Duration = Duration::from_secs(1);

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    idle: Some(Duration::from_secs(60)),
    half_close: Some(Duration::from_secs(10)),
    lifetime: None,
    preface: None,
    checks_entry: false,
    has_routes: false,
    hello: Duration::from_secs(6),
    silence: None,
    has_queue: false,
    queue: Duration::from_secs(8),
    connect_attempts: 3,
    secures_backends: false,
};

/// The session was accepted here.
const START: Time = Time::from_nanos(1_000_000_000);

/// All events of the table happen here.
const NOW: Time = Time::from_nanos(3_000_000_000);

fn session() -> Session {
    let peer = PeerTable::default().store(SocketAddress::Unix(None));
    Session::new(Identity { peer, frontend: 0, number: 1 }, START)
}

fn in_state(state: State) -> Session {
    Session { state, ..session() }
}

fn after(seconds: u64) -> Time {
    START + Duration::from_secs(seconds)
}

/// How far a relay is whose last byte moved at `last_activity`.
fn progress(last_activity: Time) -> RelayProgress {
    RelayProgress { last_activity, ..RelayProgress::default() }
}

const GONE: Event = Event::ClientLeft { reset: true, unread: true };
const FINISHED_EMPTY: Event = Event::ClientLeft { reset: false, unread: false };
const FINISHED_WITH_BYTES: Event = Event::ClientLeft { reset: false, unread: true };

const LOST: Event = Event::ClientLost { reset: false };
const LOST_BY_RESET: Event = Event::ClientLost { reset: true };

/// One of each, and both sides of each distinction that a state makes.
fn all_events() -> Vec<Event> {
    let outcomes = [
        RelayOutcome::ClientFinished,
        RelayOutcome::BackendFinished,
        RelayOutcome::ClientReset,
        RelayOutcome::BackendReset,
        RelayOutcome::ClientFailed,
        RelayOutcome::BackendFailed,
        RelayOutcome::ClientCutShort,
        RelayOutcome::BackendCutShort,
        RelayOutcome::ClientTlsFailed,
        RelayOutcome::BackendTlsFailed,
        RelayOutcome::Cut,
    ];
    let mut events = vec![
        Event::MustWait,
        Event::Admitted,
        Event::Chosen { sources: 2 },
        Event::NoneAvailable,
        Event::Connected,
        Event::BackendSecured,
        Event::DialFailed(DialFailure::Refused),
        Event::DialFailed(DialFailure::SourceUnavailable),
        Event::DialFailed(DialFailure::Exhausted),
        GONE,
        FINISHED_EMPTY,
        FINISHED_WITH_BYTES,
        Event::ClientLost { reset: true },
        Event::ClientLost { reset: false },
        Event::BackendLost { reset: true },
        Event::BackendLost { reset: false },
        Event::TimerFired(progress(NOW)),
        Event::PrefaceDue,
        Event::RouteDue,
        Event::Routed,
        Event::RoutePending,
        Event::HandshakeDue,
        Event::PrefaceRead,
        Event::Entered,
        Event::AllFull,
        Event::Queued,
        Event::RoomMade,
        Event::Refused(CloseReason::Untrusted),
        Event::HalfClosed,
        Event::Close(Ending::Shutdown),
    ];
    events.extend(outcomes.map(Event::RelayEnded));
    events
}

/// Asserts that exactly the events of `table` do something in `state`, and do that.
fn assert_table(state: State, table: &[(Event, State, &[Action])]) {
    for (event, _, _) in table {
        assert!(all_events().contains(event), "{event:?} is not among all events");
    }
    for event in all_events() {
        let mut session = in_state(state);
        let actions = session.handle(event, &LIMITS, NOW);
        let expected = table.iter().find(|(listed, _, _)| *listed == event);
        let (next, wanted) = expected.map_or((state, &[][..]), |(_, next, wanted)| (*next, *wanted));
        assert_eq!(actions.as_slice(), wanted, "actions of {event:?} in {state:?}");
        assert_eq!(session.state, next, "state after {event:?} in {state:?}");
    }
}

#[test]
fn waiting_for_admission_it_goes_on_or_leaves() {
    use Action::*;
    let state = State::AwaitingAdmission;
    let choice = State::AwaitingChoice { attempts: 0, last: None };
    let left = [CloseClient, End(CloseReason::ClientLeftBeforeAdmission)];
    assert_table(
        state,
        &[
            (Event::MustWait, state, &[WatchClient]),
            (Event::Admitted, choice, &[Choose]),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftBeforeAdmission)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedBeforeAdmission)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownBeforeAdmission)],
            ),
        ],
    );
}

#[test]
fn header_is_awaited_for_so_long_where_one_may_come() {
    use Action::*;
    let limits = Limits { preface: Some(2 * SECOND), ..LIMITS };
    let mut session = session();
    assert_eq!(session.handle(Event::Admitted, &limits, NOW).as_slice(), [Inspect]);
    let actions = session.handle(Event::PrefaceDue, &limits, NOW);
    assert_eq!(actions.as_slice(), [StartPreface, SetTimer(NOW + 2 * SECOND)]);
    assert!(session.awaits_preface());

    let choice = State::AwaitingChoice { attempts: 0, last: None };
    let left = [CloseClient, End(CloseReason::ClientLeftBeforeHeader)];
    assert_table(
        State::AwaitingPreface,
        &[
            (Event::PrefaceDue, State::AwaitingPreface, &[StartPreface]),
            (Event::PrefaceRead, choice, &[Choose]),
            (
                Event::Refused(CloseReason::Untrusted),
                State::Ended,
                &[CloseClient, End(CloseReason::Untrusted)],
            ),
            (Event::TimerFired(progress(NOW)), State::AwaitingPreface, &[EndPreface]),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (FINISHED_WITH_BYTES, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftBeforeHeader)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedBeforeHeader)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownBeforeAdmission)],
            ),
        ],
    );
}

#[test]
fn what_says_where_a_client_goes_is_awaited_for_so_long() {
    use Action::*;
    let limits = Limits { has_routes: true, ..LIMITS };
    let mut waiting = session();
    assert_eq!(waiting.handle(Event::Admitted, &limits, NOW).as_slice(), [Route]);
    assert!(waiting.has_entered(), "whoever says nothing yet counts against the limits");
    let mut session = waiting.clone();
    let actions = session.handle(Event::RouteDue, &limits, NOW);
    assert_eq!(actions.as_slice(), [StartSniff, SetTimer(NOW + 6 * SECOND)]);
    let early = session.handle(Event::TimerFired(progress(NOW)), &limits, NOW + 5 * SECOND);
    assert_eq!(early.as_slice(), [SetTimer(NOW + 6 * SECOND)], "that was a timer of before");
    let due = session.handle(Event::TimerFired(progress(NOW)), &limits, NOW + 6 * SECOND);
    assert_eq!(due.as_slice(), [CloseClient, End(CloseReason::HelloTimedOut)]);

    let limits = Limits { silence: Some(2 * SECOND), ..limits };
    let actions = waiting.handle(Event::RouteDue, &limits, NOW);
    assert_eq!(actions.as_slice(), [StartSniff, SetTimer(NOW + 2 * SECOND)]);
    let actions = waiting.handle(Event::TimerFired(progress(NOW)), &limits, NOW + 2 * SECOND);
    assert_eq!(actions.as_slice(), [EndSilence]);
    let mut silent = waiting.clone();
    assert_eq!(silent.handle(Event::Routed, &limits, NOW + 2 * SECOND).as_slice(), [Choose]);
    let pending = waiting.handle(Event::RoutePending, &limits, NOW + 2 * SECOND);
    assert_eq!(pending.as_slice(), [SetTimer(NOW + 6 * SECOND)]);
    let due = waiting.handle(Event::TimerFired(progress(NOW)), &limits, NOW + 6 * SECOND);
    assert_eq!(due.as_slice(), [CloseClient, End(CloseReason::HelloTimedOut)]);
}

#[test]
fn client_whose_route_is_awaited_may_leave() {
    use Action::*;
    let state = State::AwaitingRoute { may_be_silent: true };
    let asked = State::AwaitingRoute { may_be_silent: false };
    let left = [CloseClient, End(CloseReason::ClientLeftBeforeRoute)];
    assert_table(
        state,
        &[
            (Event::RouteDue, asked, &[StartSniff, SetTimer(NOW + 6 * SECOND)]),
            (Event::Routed, State::AwaitingChoice { attempts: 0, last: None }, &[Choose]),
            (Event::RoutePending, state, &[SetTimer(START + 6 * SECOND)]),
            (Event::HandshakeDue, State::AwaitingHandshake, &[]),
            (
                Event::Refused(CloseReason::Untrusted),
                State::Ended,
                &[CloseClient, End(CloseReason::Untrusted)],
            ),
            (Event::TimerFired(progress(NOW)), asked, &[EndSilence]),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (FINISHED_WITH_BYTES, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftBeforeRoute)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedBeforeRoute)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownBeforeAdmission)],
            ),
        ],
    );
}

#[test]
fn limits_are_asked_before_the_choice_where_there_are_any() {
    use Action::*;
    let limits = Limits { checks_entry: true, ..LIMITS };
    let mut session = session();
    assert_eq!(session.handle(Event::Admitted, &limits, NOW).as_slice(), [Enter]);
    assert!(!session.has_entered());
    let mut admitted = session.clone();
    assert_eq!(admitted.handle(Event::Entered, &limits, NOW).as_slice(), [Choose]);
    assert!(admitted.has_entered());

    let choice = State::AwaitingChoice { attempts: 0, last: None };
    assert_table(
        State::AwaitingEntry,
        &[
            (Event::Entered, choice, &[Choose]),
            (
                Event::Refused(CloseReason::Untrusted),
                State::Ended,
                &[CloseClient, End(CloseReason::Untrusted)],
            ),
        ],
    );
}

#[test]
fn first_choice_is_dialled_and_the_client_watched() {
    use Action::*;
    let dialling = State::AwaitingConnect { attempts: 1, sources_left: 1 };
    assert_table(
        State::AwaitingChoice { attempts: 0, last: None },
        &[
            (
                Event::Chosen { sources: 2 },
                dialling,
                &[WatchClient, Dial, SetTimer(NOW + Duration::from_secs(5))],
            ),
            (Event::NoneAvailable, State::Ended, &[CloseClient, End(CloseReason::NoBackend)]),
            (Event::AllFull, State::Ended, &[CloseClient, End(CloseReason::BackendsFull)]),
        ],
    );
}

#[test]
fn where_there_is_a_queue_a_newcomer_waits_for_room() {
    use Action::*;
    let limits = Limits { has_queue: true, ..LIMITS };
    let mut session = session();
    assert_eq!(session.handle(Event::Admitted, &limits, after(1)).as_slice(), [Choose]);
    assert!(session.is_newcomer());
    assert_eq!(session.handle(Event::AllFull, &limits, after(1)).as_slice(), [JoinQueue]);
    assert!(!session.is_newcomer());
    let actions = session.handle(Event::Queued, &limits, after(1));
    assert_eq!(actions.as_slice(), [WatchClient, SetTimer(after(9))]);
    assert_eq!((session.state, session.stage()), (State::AwaitingRoom, Stage::Queued));

    let left = [CloseClient, End(CloseReason::ClientLeftInQueue)];
    let dialling = State::AwaitingConnect { attempts: 1, sources_left: 1 };
    assert_table(
        State::AwaitingRoom,
        &[
            (Event::Queued, State::AwaitingRoom, &[WatchClient, SetTimer(NOW + 8 * SECOND)]),
            (Event::RoomMade, State::AwaitingRoom, &[Choose]),
            (
                Event::Chosen { sources: 2 },
                dialling,
                &[WatchClient, Dial, SetTimer(NOW + Duration::from_secs(5))],
            ),
            (Event::AllFull, State::AwaitingRoom, &[StayQueued]),
            (Event::NoneAvailable, State::AwaitingRoom, &[StayQueued]),
            // The table's sessions began to wait when they were accepted.
            (Event::TimerFired(progress(NOW)), State::AwaitingRoom, &[SetTimer(after(8))]),
            (
                Event::Refused(CloseReason::Untrusted),
                State::Ended,
                &[CloseClient, End(CloseReason::Untrusted)],
            ),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftInQueue)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedInQueue)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownBeforeAdmission)],
            ),
        ],
    );
}

#[test]
fn wait_for_room_ends_when_its_time_is_over_however_often_it_was_called() {
    let limits = Limits { has_queue: true, ..LIMITS };
    let mut session = session();
    session.handle(Event::Admitted, &limits, after(3));
    session.handle(Event::AllFull, &limits, after(3));
    session.handle(Event::Queued, &limits, after(3));
    session.handle(Event::RoomMade, &limits, after(7));
    session.handle(Event::AllFull, &limits, after(7));
    // A reload made the wait longer meanwhile.
    let longer = Limits { queue: Duration::from_secs(20), ..limits };
    let fired = Event::TimerFired(progress(START));
    assert_eq!(session.handle(fired, &longer, after(11)).as_slice(), [Action::SetTimer(after(23))]);
    let actions = session.handle(fired, &longer, after(23));
    assert_eq!(actions.as_slice(), [Action::CloseClient, Action::End(CloseReason::QueueTimedOut)]);
    assert_eq!(session.queue_duration(), Duration::from_secs(23), "from the accept on");
}

#[test]
fn retry_that_finds_all_full_does_not_wait() {
    let limits = Limits { has_queue: true, ..LIMITS };
    let mut session = in_state(State::AwaitingChoice { attempts: 1, last: Some(DialFailure::Refused) });
    let actions = session.handle(Event::AllFull, &limits, NOW);
    assert_eq!(actions.as_slice(), [Action::CloseClient, Action::End(CloseReason::ConnectRefused)]);
}

#[test]
fn later_choice_is_dialled_and_none_left_ends_with_the_last_failure() {
    use Action::*;
    assert_table(
        State::AwaitingChoice { attempts: 1, last: Some(DialFailure::Unreachable) },
        &[
            (Event::Chosen { sources: 2 }, State::AwaitingConnect { attempts: 2, sources_left: 1 }, &[Dial]),
            (Event::NoneAvailable, State::Ended, &[CloseClient, End(CloseReason::ConnectUnreachable)]),
            (Event::AllFull, State::Ended, &[CloseClient, End(CloseReason::ConnectUnreachable)]),
        ],
    );
}

#[test]
fn dial_is_answered_retried_elsewhere_or_cancelled() {
    use Action::*;
    let choice = |last| State::AwaitingChoice { attempts: 1, last: Some(last) };
    let (refused, exhausted) = (DialFailure::Refused, DialFailure::Exhausted);
    let left = [CloseBackend, Release, CloseClient, End(CloseReason::ClientLeftWhileConnecting)];
    assert_table(
        State::AwaitingConnect { attempts: 1, sources_left: 1 },
        &[
            (Event::BackendSecured, State::Relaying { half_closed: false }, &[StartRelay]),
            (Event::Connected, State::Relaying { half_closed: false }, &[StartRelay]),
            (Event::DialFailed(refused), choice(refused), &[NoteFailure(refused), Release, Choose]),
            (
                Event::DialFailed(DialFailure::SourceUnavailable),
                State::AwaitingConnect { attempts: 1, sources_left: 0 },
                &[Dial],
            ),
            (
                Event::DialFailed(exhausted),
                State::AwaitingDescriptors { attempts: 1 },
                &[NoteFailure(exhausted), Release, SetTimer(NOW + Duration::from_millis(100))],
            ),
            (
                Event::BackendLost { reset: true },
                choice(DialFailure::Reset),
                &[NoteFailure(DialFailure::Reset), Release, Choose],
            ),
            (
                Event::BackendLost { reset: false },
                choice(DialFailure::Reset),
                &[NoteFailure(DialFailure::Reset), Release, Choose],
            ),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (
                LOST_BY_RESET,
                State::Ended,
                &[CloseBackend, Release, End(CloseReason::ClientLeftWhileConnecting)],
            ),
            (LOST, State::Ended, &[CloseBackend, Release, End(CloseReason::ClientFailedWhileConnecting)]),
            (
                Event::TimerFired(progress(NOW)),
                State::AwaitingConnect { attempts: 1, sources_left: 1 },
                &[SetTimer(after(5))],
            ),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseBackend, Release, CloseClient, End(CloseReason::ShutdownWhileConnecting)],
            ),
        ],
    );
}

#[test]
fn want_of_descriptors_is_waited_out() {
    use Action::*;
    let left = [CloseClient, End(CloseReason::ClientLeftWhileConnecting)];
    assert_table(
        State::AwaitingDescriptors { attempts: 2 },
        &[
            (
                Event::TimerFired(progress(NOW)),
                State::AwaitingChoice { attempts: 1, last: Some(DialFailure::Exhausted) },
                &[SetTimer(NOW + LIMITS.connect), Choose],
            ),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftWhileConnecting)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedWhileConnecting)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownWhileConnecting)],
            ),
        ],
    );
}

#[test]
fn want_of_descriptors_is_waited_out_no_longer_than_a_dial_may_take() {
    let mut session = session();
    session.handle(Event::Admitted, &LIMITS, after(1));
    let mut now = after(1);
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, now);
    loop {
        session.handle(Event::DialFailed(DialFailure::Exhausted), &LIMITS, now);
        now = now + Duration::from_millis(100);
        let actions = session.handle(Event::TimerFired(progress(START)), &LIMITS, now);
        if session.state == State::Ended {
            let end = [Action::CloseClient, Action::End(CloseReason::ConnectExhausted)];
            assert_eq!(actions.as_slice(), end);
            break;
        }
        let actions = session.handle(Event::Chosen { sources: 1 }, &LIMITS, now);
        assert_eq!(actions.as_slice(), [Action::Dial]);
    }
    assert_eq!(now, after(6));
}

#[test]
fn last_dial_that_fails_ends_the_connection_with_its_own_reason() {
    use Action::*;
    let ends = |failure, reason| {
        let mut session = in_state(State::AwaitingConnect { attempts: 3, sources_left: 0 });
        let actions = session.handle(Event::DialFailed(failure), &LIMITS, NOW);
        assert_eq!(actions.as_slice(), [NoteFailure(failure), Release, CloseClient, End(reason)]);
        assert_eq!(session.state, State::Ended);
    };
    ends(DialFailure::Refused, CloseReason::ConnectRefused);
    ends(DialFailure::TimedOut, CloseReason::ConnectTimedOut);
    ends(DialFailure::Unreachable, CloseReason::ConnectUnreachable);
    ends(DialFailure::Reset, CloseReason::ConnectReset);
    ends(DialFailure::NotFound, CloseReason::ConnectNotFound);
    ends(DialFailure::SourceUnavailable, CloseReason::SourceUnavailable);
    ends(DialFailure::Other, CloseReason::ConnectFailed);
}

/// How a relay may end; `cut`: why it was or would be cut. `lost`: why it ends if a connection broke before.
fn relay_ends(cut: CloseReason, lost: [CloseReason; 4]) -> Vec<(Event, State, Vec<Action>)> {
    use Action::*;
    let mut ends: Vec<_> = [
        (RelayOutcome::ClientFinished, CloseReason::ClientFinished),
        (RelayOutcome::BackendFinished, CloseReason::BackendFinished),
        (RelayOutcome::ClientReset, CloseReason::ClientReset),
        (RelayOutcome::BackendReset, CloseReason::BackendReset),
        (RelayOutcome::ClientFailed, CloseReason::ClientFailed),
        (RelayOutcome::BackendFailed, CloseReason::BackendFailed),
        (RelayOutcome::ClientCutShort, CloseReason::ClientCutShort),
        (RelayOutcome::BackendCutShort, CloseReason::BackendCutShort),
        (RelayOutcome::ClientTlsFailed, CloseReason::ClientTlsFailed),
        (RelayOutcome::BackendTlsFailed, CloseReason::BackendTlsFailed),
        (RelayOutcome::Cut, cut),
    ]
    .map(|(outcome, reason)| (Event::RelayEnded(outcome), State::Ended, vec![Release, End(reason)]))
    .to_vec();
    for (reset, reason) in [true, false].into_iter().zip(&lost) {
        ends.push((Event::ClientLost { reset }, State::Ended, vec![CloseBackend, Release, End(*reason)]));
    }
    for (reset, reason) in [true, false].into_iter().zip(&lost[2..]) {
        ends.push((Event::BackendLost { reset }, State::Ended, vec![Release, CloseClient, End(*reason)]));
    }
    ends
}

#[test]
fn relaying_it_ends_by_either_side_by_a_limit_or_by_shutdown() {
    use Action::*;
    let cut = State::AwaitingRelayEnd(CloseReason::Shutdown);
    let lost = [
        CloseReason::ClientReset,
        CloseReason::ClientFailed,
        CloseReason::BackendReset,
        CloseReason::BackendFailed,
    ];
    let ends = relay_ends(CloseReason::Shutdown, lost);
    for half_closed in [false, true] {
        let state = State::Relaying { half_closed };
        let limit = if half_closed { 10 } else { 60 };
        let due = [SetTimer(NOW + limit * SECOND)];
        let mut table: Vec<(Event, State, &[Action])> = vec![
            (Event::TimerFired(progress(NOW)), state, &due),
            (Event::Close(Ending::Shutdown), cut, &[CutRelay]),
        ];
        let half_close = [SetTimer(NOW + 10 * SECOND)];
        if !half_closed {
            table.push((Event::HalfClosed, State::Relaying { half_closed: true }, &half_close));
        }
        table.extend(ends.iter().map(|(event, next, actions)| (*event, *next, &actions[..])));
        assert_table(state, &table);
    }
}

#[test]
fn cut_relay_keeps_the_reason_of_the_cut_unless_it_ended_by_itself_before() {
    let ends = relay_ends(CloseReason::Idle, [CloseReason::Idle; 4]);
    let table: Vec<_> = ends.iter().map(|(event, next, actions)| (*event, *next, &actions[..])).collect();
    assert_table(State::AwaitingRelayEnd(CloseReason::Idle), &table);
}

#[test]
fn ended_session_says_nothing_more() {
    assert_table(State::Ended, &[]);
}

#[test]
fn dial_that_takes_too_long_is_given_up_and_another_endpoint_tried() {
    use Action::*;
    let mut session = session();
    session.handle(Event::Admitted, &LIMITS, START);
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, START);
    let late = after(5);
    let failure = DialFailure::TimedOut;
    let actions = session.handle(Event::TimerFired(progress(START)), &LIMITS, late);
    assert_eq!(
        actions.as_slice(),
        [CloseBackend, NoteFailure(failure), Release, SetTimer(after(10)), Choose]
    );
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, late);
    let limits = Limits { connect_attempts: 2, ..LIMITS };
    let actions = session.handle(Event::TimerFired(progress(START)), &limits, after(10));
    assert_eq!(
        actions.as_slice(),
        [CloseBackend, NoteFailure(failure), Release, CloseClient, End(CloseReason::ConnectTimedOut)]
    );
}

#[test]
fn each_dial_has_its_own_time_limit_though_the_timer_of_the_first_fires() {
    let mut session = session();
    session.handle(Event::Admitted, &LIMITS, START);
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, START);
    session.handle(Event::DialFailed(DialFailure::Refused), &LIMITS, after(4));
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, after(4));
    let actions = session.handle(Event::TimerFired(progress(START)), &LIMITS, after(5));
    assert_eq!(actions.as_slice(), [Action::SetTimer(after(9))]);
}

#[test]
fn durations_run_from_accept_to_first_dial_and_from_there_to_the_connection() {
    let mut session = session();
    session.handle(Event::Admitted, &LIMITS, after(2));
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, after(2));
    session.handle(Event::DialFailed(DialFailure::Refused), &LIMITS, after(3));
    session.handle(Event::Chosen { sources: 1 }, &LIMITS, after(3));
    session.handle(Event::Connected, &LIMITS, after(4));
    assert_eq!((session.queue_duration(), session.connect_duration()), (2 * SECOND, 2 * SECOND));
}

#[test]
fn silence_is_counted_from_the_last_byte() {
    let relaying = || in_state(State::Relaying { half_closed: false });
    let fires = |session: &mut Session, last: Time, now: Time| {
        session.handle(Event::TimerFired(progress(last)), &LIMITS, now).as_slice().to_vec()
    };
    assert_eq!(fires(&mut relaying(), after(30), after(60)), [Action::SetTimer(after(90))]);
    let mut session = relaying();
    assert_eq!(fires(&mut session, after(30), after(90)), [Action::CutRelay]);
    assert_eq!(session.state, State::AwaitingRelayEnd(CloseReason::Idle));
}

#[test]
fn half_closed_relay_has_the_shorter_limit_from_the_half_close_on() {
    let mut session = in_state(State::Relaying { half_closed: false });
    let actions = session.handle(Event::HalfClosed, &LIMITS, after(50));
    assert_eq!(actions.as_slice(), [Action::SetTimer(after(60))]);
    // The last byte moved long before the half-close: the timer counts from the half-close all the same.
    let actions = session.handle(Event::TimerFired(progress(START)), &LIMITS, after(60));
    assert_eq!(actions.as_slice(), [Action::CutRelay]);
    assert_eq!(session.state, State::AwaitingRelayEnd(CloseReason::HalfClose));
}

#[test]
fn lifetime_ends_a_connection_however_busy_it_is() {
    let limits = Limits { lifetime: Some(20 * SECOND), ..LIMITS };
    let mut session = in_state(State::Relaying { half_closed: false });
    let actions = session.handle(Event::TimerFired(progress(after(5))), &limits, after(5));
    assert_eq!(actions.as_slice(), [Action::SetTimer(after(20))]);
    session.handle(Event::TimerFired(progress(after(20))), &limits, after(20));
    assert_eq!(session.state, State::AwaitingRelayEnd(CloseReason::Lifetime));
}

#[test]
fn lifetime_shorter_than_the_dial_ends_it_while_connecting() {
    use Action::*;
    let limits = Limits { lifetime: Some(2 * SECOND), ..LIMITS };
    let mut session = session();
    session.handle(Event::Admitted, &limits, START);
    let actions = session.handle(Event::Chosen { sources: 1 }, &limits, START);
    assert_eq!(actions.as_slice().last(), Some(&SetTimer(after(2))));
    let actions = session.handle(Event::TimerFired(progress(START)), &limits, after(2));
    assert_eq!(
        actions.as_slice(),
        [CloseBackend, Release, CloseClient, End(CloseReason::LifetimeWhileConnecting)]
    );
}

#[test]
fn idle_limit_shorter_than_the_dials_sets_the_timer_sooner() {
    let limits = Limits { idle: Some(SECOND), ..LIMITS };
    let mut session = in_state(State::AwaitingConnect { attempts: 1, sources_left: 0 });
    let actions = session.handle(Event::Connected, &limits, after(1));
    assert_eq!(actions.as_slice(), [Action::StartRelay, Action::SetTimer(after(2))]);
}

#[test]
fn without_limits_a_relay_has_no_timer() {
    let limits = Limits { idle: None, half_close: None, ..LIMITS };
    let mut session = in_state(State::Relaying { half_closed: false });
    assert!(session.handle(Event::TimerFired(progress(START)), &limits, after(5)).as_slice().is_empty());
    assert!(session.handle(Event::HalfClosed, &limits, after(6)).as_slice().is_empty());
}

const FROZEN: [FrozenPhase; 9] = [
    FrozenPhase::AwaitingAdmission,
    FrozenPhase::AwaitingPreface,
    FrozenPhase::AwaitingRoute { may_be_silent: false },
    FrozenPhase::AwaitingRoute { may_be_silent: true },
    FrozenPhase::AwaitingRoom,
    FrozenPhase::AwaitingConnect { attempts: 2 },
    FrozenPhase::AwaitingDescriptors { attempts: 1 },
    FrozenPhase::Relaying { half_closed: false },
    FrozenPhase::Relaying { half_closed: true },
];

#[test]
fn frozen_it_hears_of_nothing_but_the_loss_of_its_connections() {
    use Action::*;
    let lost = |reset: CloseReason, failed: CloseReason| {
        [(LOST_BY_RESET, State::Ended, vec![End(reset)]), (LOST, State::Ended, vec![End(failed)])]
    };
    for phase in FROZEN {
        let state = State::Frozen(phase);
        let mut table: Vec<(Event, State, Vec<Action>)> = Vec::new();
        match phase {
            FrozenPhase::AwaitingAdmission => table.extend(lost(
                CloseReason::ClientLeftBeforeAdmission,
                CloseReason::ClientFailedBeforeAdmission,
            )),
            FrozenPhase::AwaitingPreface => {
                table
                    .extend(lost(CloseReason::ClientLeftBeforeHeader, CloseReason::ClientFailedBeforeHeader));
            }
            FrozenPhase::AwaitingRoute { .. } => {
                table.extend(lost(CloseReason::ClientLeftBeforeRoute, CloseReason::ClientFailedBeforeRoute));
            }
            FrozenPhase::AwaitingRoom => {
                table.extend(lost(CloseReason::ClientLeftInQueue, CloseReason::ClientFailedInQueue));
            }
            FrozenPhase::AwaitingConnect { .. } => {
                let (left, failed) =
                    (CloseReason::ClientLeftWhileConnecting, CloseReason::ClientFailedWhileConnecting);
                table.push((LOST_BY_RESET, State::Ended, vec![Release, End(left)]));
                table.push((LOST, State::Ended, vec![Release, End(failed)]));
            }
            FrozenPhase::AwaitingDescriptors { .. } => table.extend(lost(
                CloseReason::ClientLeftWhileConnecting,
                CloseReason::ClientFailedWhileConnecting,
            )),
            FrozenPhase::Relaying { half_closed } => {
                for (event, reason) in
                    [(LOST_BY_RESET, CloseReason::ClientReset), (LOST, CloseReason::ClientFailed)]
                {
                    table.push((event, State::Ended, vec![CloseBackend, Release, End(reason)]));
                }
                for (reset, reason) in
                    [(true, CloseReason::BackendReset), (false, CloseReason::BackendFailed)]
                {
                    let actions = vec![Release, CloseClient, End(reason)];
                    table.push((Event::BackendLost { reset }, State::Ended, actions));
                }
                for (outcome, reason) in [
                    (RelayOutcome::ClientFinished, CloseReason::ClientFinished),
                    (RelayOutcome::BackendFinished, CloseReason::BackendFinished),
                    (RelayOutcome::ClientReset, CloseReason::ClientReset),
                    (RelayOutcome::BackendReset, CloseReason::BackendReset),
                    (RelayOutcome::ClientFailed, CloseReason::ClientFailed),
                    (RelayOutcome::BackendFailed, CloseReason::BackendFailed),
                    (RelayOutcome::ClientCutShort, CloseReason::ClientCutShort),
                    (RelayOutcome::BackendCutShort, CloseReason::BackendCutShort),
                    (RelayOutcome::ClientTlsFailed, CloseReason::ClientTlsFailed),
                    (RelayOutcome::BackendTlsFailed, CloseReason::BackendTlsFailed),
                    (RelayOutcome::Cut, CloseReason::Shutdown),
                ] {
                    table.push((Event::RelayEnded(outcome), State::Ended, vec![Release, End(reason)]));
                }
                if !half_closed {
                    let next = State::Frozen(FrozenPhase::Relaying { half_closed: true });
                    table.push((Event::HalfClosed, next, vec![]));
                }
            }
        }
        let table: Vec<_> =
            table.iter().map(|(event, next, actions)| (*event, *next, &actions[..])).collect();
        assert_table(state, &table);
    }
}

#[test]
fn every_state_that_lasts_freezes_and_thaws_to_where_it_was() {
    use Action::*;
    let half_closed = |half_closed| State::Relaying { half_closed };
    let last_activity = after(1);
    for (state, before, after_thaw, actions) in [
        (State::AwaitingAdmission, vec![], State::AwaitingAdmission, vec![WatchClient]),
        (
            State::AwaitingPreface,
            vec![],
            State::AwaitingPreface,
            // The app takes no headers any more: the time of a dial stands in.
            vec![StartPreface, SetTimer(START + LIMITS.connect)],
        ),
        (
            // The app waits for no silence any more.
            State::AwaitingRoute { may_be_silent: true },
            vec![],
            State::AwaitingRoute { may_be_silent: false },
            vec![StartSniff, SetTimer(START + LIMITS.hello)],
        ),
        (
            State::AwaitingConnect { attempts: 2, sources_left: 1 },
            vec![CloseBackend],
            State::AwaitingConnect { attempts: 2, sources_left: 0 },
            vec![WatchClient, Dial, SetTimer(NOW + LIMITS.connect)],
        ),
        (
            State::AwaitingRoom,
            vec![],
            State::AwaitingRoom,
            vec![WatchClient, SetTimer(START + LIMITS.queue), Choose],
        ),
        (
            State::AwaitingDescriptors { attempts: 1 },
            vec![],
            State::AwaitingDescriptors { attempts: 1 },
            vec![WatchClient, SetTimer(NOW + EXHAUSTED_PAUSE)],
        ),
        (half_closed(false), vec![], half_closed(false), vec![SetTimer(last_activity + 60 * SECOND)]),
        (half_closed(true), vec![], half_closed(true), vec![SetTimer(last_activity + 10 * SECOND)]),
    ] {
        let mut session = Session { has_entered: true, queue_micros: 7, ..in_state(state) };
        let stage = session.stage();
        let actions_before = session.freeze().expect("it lasts");
        assert_eq!(actions_before.as_slice(), before, "before it leaves {state:?}");
        assert!(session.is_frozen() && session.freeze().is_none());
        assert_eq!((session.stage(), session.is_waiting()), (stage, state == State::AwaitingAdmission));
        let identity = Identity { frontend: 5, number: 9, ..*session.identity() };
        let mut session = Session::of(session.frozen().expect("it is"), identity);
        let thawed = session.thaw(last_activity, &LIMITS, NOW);
        assert_eq!(thawed.as_slice(), actions, "{state:?} goes on");
        assert_eq!((session.state, session.stage()), (after_thaw, stage));
        assert_eq!((session.accepted, session.has_entered, session.queue_micros), (START, true, 7));
        assert_eq!(session.identity().number, 9);
        assert!(session.frozen().is_none() && session.thaw(NOW, &LIMITS, NOW).as_slice().is_empty());
    }
    for state in [
        State::AwaitingEntry,
        State::AwaitingChoice { attempts: 0, last: None },
        State::AwaitingRelayEnd(CloseReason::Idle),
        State::Ended,
    ] {
        let mut session = in_state(state);
        assert!(session.freeze().is_none());
        assert_eq!(session.state, state);
    }
}

#[test]
fn header_that_is_awaited_has_the_time_that_was_left() {
    let limits = Limits { preface: Some(4 * SECOND), ..LIMITS };
    let mut session = in_state(State::AwaitingPreface);
    session.handle(Event::PrefaceDue, &limits, after(1));
    session.freeze().expect("it lasts");
    let actions = session.thaw(NOW, &limits, NOW);
    assert_eq!(actions.as_slice(), [Action::StartPreface, Action::SetTimer(after(5))]);
}

#[test]
fn route_that_is_awaited_has_the_time_that_was_left_and_who_may_be_silent_is_listened_to_anew() {
    let limits = Limits { silence: Some(2 * SECOND), has_routes: true, ..LIMITS };
    let mut session = session();
    session.handle(Event::Admitted, &limits, START);
    session.handle(Event::RouteDue, &limits, after(1));
    session.freeze().expect("it lasts");
    let actions = session.thaw(NOW, &limits, NOW);
    assert_eq!(actions.as_slice(), [Action::StartSniff, Action::SetTimer(NOW + 2 * SECOND)]);
    assert_eq!(session.state, State::AwaitingRoute { may_be_silent: true });
    // Near the end of all its time it has no more than is left.
    session.freeze().expect("it lasts");
    let actions = session.thaw(NOW, &limits, after(6));
    assert_eq!(actions.as_slice(), [Action::StartSniff, Action::SetTimer(after(7))]);
    let actions = session.handle(Event::TimerFired(progress(NOW)), &limits, after(7));
    assert_eq!(
        actions.as_slice(),
        [Action::EndSilence],
        "it may be silent, and that is for its bytes to say"
    );
    let actions = session.handle(Event::RoutePending, &limits, after(7));
    assert_eq!(actions.as_slice(), [Action::CloseClient, Action::End(CloseReason::HelloTimedOut)]);
    // One that is known to speak first has until its deadline.
    let mut session = in_state(State::AwaitingRoute { may_be_silent: false });
    session.freeze().expect("it lasts");
    let actions = session.thaw(NOW, &limits, NOW);
    assert_eq!(actions.as_slice(), [Action::StartSniff, Action::SetTimer(START + LIMITS.hello)]);
}

//! TLS of clients, and of backends.

use super::*;

#[test]
fn handshake_has_the_time_of_the_hello_and_its_own_reasons() {
    use Action::*;
    let state = State::AwaitingHandshake;
    let left = [CloseClient, End(CloseReason::ClientLeftInHandshake)];
    assert_table(
        state,
        &[
            (Event::Routed, State::AwaitingChoice { attempts: 0, last: None }, &[Choose]),
            (
                Event::Refused(CloseReason::Untrusted),
                State::Ended,
                &[CloseClient, End(CloseReason::Untrusted)],
            ),
            (Event::TimerFired(progress(NOW)), state, &[SetTimer(START + 6 * SECOND)]),
            (GONE, State::Ended, &left),
            (FINISHED_EMPTY, State::Ended, &left),
            (FINISHED_WITH_BYTES, State::Ended, &left),
            (LOST_BY_RESET, State::Ended, &[End(CloseReason::ClientLeftInHandshake)]),
            (LOST, State::Ended, &[End(CloseReason::ClientFailedInHandshake)]),
            (
                Event::Close(Ending::Shutdown),
                State::Ended,
                &[CloseClient, End(CloseReason::ShutdownBeforeAdmission)],
            ),
        ],
    );
    let mut session = in_state(state);
    let actions = session.handle(Event::TimerFired(progress(NOW)), &LIMITS, START + 6 * SECOND);
    assert_eq!(actions.as_slice(), [CloseClient, End(CloseReason::HandshakeTimedOut)]);
    assert!(in_state(state).freeze().is_none(), "it is over within moments");
    let mut asked = in_state(State::AwaitingRoute { may_be_silent: true });
    assert_eq!(asked.handle(Event::HandshakeDue, &LIMITS, NOW).as_slice(), []);
    assert!(asked.awaits_handshake());
}

#[test]
fn backend_that_speaks_tls_is_relayed_to_once_it_is_secured_and_a_failure_is_one_of_the_dial() {
    use Action::*;
    let limits = Limits { secures_backends: true, ..LIMITS };
    let dialling = in_state(State::AwaitingConnect { attempts: 1, sources_left: 0 });
    let mut session = dialling.clone();
    assert_eq!(session.handle(Event::Connected, &limits, NOW).as_slice(), [SecureBackend]);
    assert_eq!(session.stage(), Stage::Connecting);
    let mut failing = session.clone();
    let failed = failing.handle(Event::DialFailed(DialFailure::Tls), &limits, NOW);
    assert_eq!(failed.as_slice(), [NoteFailure(DialFailure::Tls), Release, Choose]);
    let mut late = session.clone();
    let due = late.handle(Event::TimerFired(progress(NOW)), &limits, after(3_600));
    assert_eq!(due.as_slice()[0], CloseBackend, "the time of the dial is that of the handshake, too");
    let actions = session.handle(Event::BackendSecured, &limits, NOW);
    assert_eq!(actions.as_slice(), [StartRelay]);
    assert_eq!(reason_of_failure(DialFailure::Tls), CloseReason::ConnectTlsFailed);
}

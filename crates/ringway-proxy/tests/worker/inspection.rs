//! What an operator sees of a worker's connections, and ends, a piece at a time.

use std::sync::Arc;

use ringway_proxy::inspection::{Inquiry, Piece, Selection, Verb};
use ringway_proxy::session::Ending;
use ringway_proxy::session::tcp::Stage;
use ringway_proxy::worker::WorkerMail;
use tokio::sync::mpsc::unbounded_channel;

use crate::world::{World, app};

/// Asks the only worker for a piece.
fn ask(world: &mut World, selection: &Selection, verb: Verb, from: u32) -> Piece {
    let (reply, mut answers) = unbounded_channel();
    let selection = Arc::new(selection.clone());
    world.mail(&WorkerMail::Inspect(Inquiry { selection, verb, from, reply }));
    world.settle();
    answers.try_recv().expect("the worker answers")
}

/// Asks until there is no more; gives the pieces.
fn ask_all(world: &mut World, selection: &Selection, verb: Verb) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let piece = ask(world, selection, verb, start);
        from = piece.next;
        pieces.push(piece);
    }
    pieces
}

fn world_of(clients: usize) -> World {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    for number in 1..=clients {
        world.client();
        // The queues of the frontend and of the backend hold 64.
        if number % 50 == 0 {
            world.arrive();
        }
    }
    world.arrive();
    assert_eq!(world.app.active().get() as usize, clients);
    world
}

#[test]
fn a_piece_looks_at_a_bounded_number_of_places_and_all_pieces_see_everybody_once() {
    let mut world = world_of(900);
    let everything = Selection::default();
    let pieces = ask_all(&mut world, &everything, Verb::List { rows_max: 10 });
    assert!(pieces.len() >= 2, "{} pieces", pieces.len());
    assert_eq!(pieces.iter().map(|piece| piece.matched).sum::<u64>(), 900);
    assert!(pieces.iter().all(|piece| piece.rows.len() <= 10));
    let pieces = ask_all(&mut world, &everything, Verb::List { rows_max: usize::MAX });
    let mut numbers: Vec<u64> =
        pieces.iter().flat_map(|piece| &piece.rows).map(|row| row.connection).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..900).collect::<Vec<_>>());
}

#[test]
fn a_sighting_tells_what_the_connection_does() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    let client = world.client();
    world.arrive();
    world.send(client, b"hello");
    world.arrive();
    let piece = ask(&mut world, &Selection::default(), Verb::List { rows_max: 9 }, 0);
    let [row] = &piece.rows[..] else { panic!("one connection: {piece:?}") };
    assert_eq!((&*row.app, &*row.frontend), ("app", "front"));
    assert_eq!((row.backend.as_deref(), row.stage), (Some("backend-0"), Stage::Relaying));
    assert_eq!(row.bytes, [5, 0]);
    assert!(row.age.as_secs() >= 1 && row.idle.expect("bytes flow") <= row.age);
    assert_eq!(piece.next, None);
}

#[test]
fn a_piece_ends_a_bounded_number_and_all_pieces_end_those_that_are_meant() {
    let mut world = world_of(100);
    let one = Selection { connection: Some(42), ..Selection::default() };
    let pieces = ask_all(&mut world, &one, Verb::Close(Ending::Killed));
    assert_eq!(pieces.iter().map(|piece| piece.matched).sum::<u64>(), 1);
    world.arrive();
    assert_eq!(world.app.active().get(), 99);
    let nobody = Selection { app: Some("other".into()), ..Selection::default() };
    ask_all(&mut world, &nobody, Verb::Close(Ending::Killed));
    world.arrive();
    assert_eq!(world.app.active().get(), 99);

    let pieces = ask_all(&mut world, &Selection::default(), Verb::Close(Ending::Killed));
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.matched <= 32), "{pieces:?}");
    assert_eq!(pieces.iter().map(|piece| piece.matched).sum::<u64>(), 99);
    world.arrive();
    assert_eq!((world.app.active().get(), world.admission.open()), (0, 0));
    assert!(world.records().iter().all(|record| record.reason == "killed"));
}

#[test]
fn so_many_are_ended_and_no_more_however_many_are_meant() {
    let mut world = world_of(100);
    let some = |most| Verb::CloseSome { ending: Ending::Rebalanced, most };
    let piece = ask(&mut world, &Selection::default(), some(5), 0);
    assert_eq!((piece.matched, piece.next), (5, None));
    // More than one piece ends.
    let piece = ask(&mut world, &Selection::default(), some(40), 0);
    let next = piece.next.expect("there are more");
    assert_eq!(piece.matched, 32);
    assert_eq!(ask(&mut world, &Selection::default(), some(8), next).matched, 8);
    world.arrive();
    let why = |record: &ringway_proxy::control::access_log::AccessRecord| record.reason == "rebalanced";
    assert_eq!(world.records().iter().filter(|record| why(record)).count(), 45);
    assert_eq!(world.workers[0].handler().connection_count(), 55);
}

#[test]
fn a_connection_that_is_dialled_still_is_not_ended_to_rebalance() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    world.network.block(&crate::world::backend(0));
    world.client();
    world.pass(std::time::Duration::from_millis(100));
    let verb = Verb::CloseSome { ending: Ending::Rebalanced, most: 5 };
    assert_eq!(ask(&mut world, &Selection::default(), verb, 0).matched, 0);
}

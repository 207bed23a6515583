//! The line of those that wait for room, on one thread. Beside its file and not in it: loom includes that.

use std::sync::{Arc, Mutex};

use super::{Bell, Call, Queue, Seat};

/// Keeps the calls of a worker.
#[derive(Default)]
struct Calls(Mutex<Vec<u32>>);

impl Bell for Calls {
    fn ring(&self, call: Call) {
        self.0.lock().expect("no panic before").push(call.place);
    }
}

fn line() -> (Arc<Queue>, Arc<Calls>, Arc<dyn Bell>) {
    let calls = Arc::new(Calls::default());
    (Arc::default(), Arc::clone(&calls), calls)
}

fn called(calls: &Calls) -> Vec<u32> {
    std::mem::take(&mut *calls.0.lock().expect("no panic before"))
}

fn join(queue: &Arc<Queue>, bell: &Arc<dyn Bell>, place: u32) -> Seat {
    Queue::join(queue, bell, place, 10).expect("there is room in the line")
}

#[test]
fn clients_are_called_in_the_order_in_which_they_came() {
    let (queue, calls, bell) = line();
    queue.call();
    assert_eq!(called(&calls), [0; 0], "nobody waits");
    let seats: Vec<_> = [7, 3, 5].into_iter().map(|place| join(&queue, &bell, place)).collect();
    (0..4).for_each(|_| queue.call());
    assert_eq!(called(&calls), [7, 3, 5]);
    assert_eq!(queue.waiting(), 3, "they are called, and have no place yet");
    seats.into_iter().for_each(|seat| seat.leave_for_place(false));
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn one_that_gets_no_place_is_first_again() {
    let (queue, calls, bell) = line();
    let (first, _second) = (join(&queue, &bell, 1), join(&queue, &bell, 2));
    queue.call();
    first.stay();
    queue.call();
    assert_eq!(called(&calls), [1, 1]);
}

#[test]
fn call_of_one_that_left_goes_to_the_next() {
    let (queue, calls, bell) = line();
    let (first, second, third) = (join(&queue, &bell, 1), join(&queue, &bell, 2), join(&queue, &bell, 3));
    drop(second);
    assert_eq!(called(&calls), [0; 0], "it had no call to pass on");
    queue.call();
    drop(first);
    assert_eq!(called(&calls), [1, 3]);
    third.leave_for_place(true);
    assert_eq!((called(&calls), queue.waiting()), (vec![], 0));
}

#[test]
fn one_that_gets_a_place_calls_the_next_if_there_is_more_room() {
    let (queue, calls, bell) = line();
    let (first, second) = (join(&queue, &bell, 1), join(&queue, &bell, 2));
    let _third = join(&queue, &bell, 3);
    queue.call();
    first.leave_for_place(true);
    second.leave_for_place(false);
    assert_eq!(called(&calls), [1, 2]);
}

#[test]
fn line_is_never_longer_than_its_maximum() {
    let (queue, _, bell) = line();
    let seats: Vec<_> = (0..3).filter_map(|place| Queue::join(&queue, &bell, place, 2)).collect();
    assert_eq!((seats.len(), queue.waiting()), (2, 2));
    queue.call();
    assert!(Queue::join(&queue, &bell, 9, 2).is_none(), "who is called waits still");
}

//! The order in which a hand-over goes, and whose the sockets are at every moment of it. Pure: events in, actions out.
//!
//! [`OldSide`] runs in the process that serves, [`NewSide`] in the one that is to follow it. What is said, copied and
//! rebuilt, and how, is their users' matter: this crate's `Server` for plain servers, the load balancer for itself.
//!
//! ```text
//!        old                                   new
//!         │ starts it                           │
//!         │ ◀───────────────────────────  Hello │ which versions it knows
//!         │ Welcome ──────────────────────────▶ │ the commit word, what is to be served
//!         │                                     │ starts, touches nothing
//!         │ ◀───────────────────────────  Ready │
//!   copies│ Ahead ────────────────────────────▶ │ listening sockets (and connections, where that pays)
//!         │ ◀───────────────────────────  Armed │
//!  freezes│                                     │
//!         │ State ────────────────────────────▶ │ everything else
//!         │                                     │ rebuilds it in memory, touches nothing
//!         │ ◀────────────────────────  Prepared │
//!         │ Go ───────────────────────────────▶ │
//!         │                                     │ COMMIT: Undecided → New
//!         │ ◀─────────────────────────  Serving │ and serves
//!   lets go                                     │
//! ```
//!
//! Whatever goes wrong before the commit ends with one try of the old side to decide for `Old`; whatever happens to the old
//! process ends with one try of the new side to decide for `New`, and then only once that process is dead. Both go
//! through the one word, so that never both serve, and one of them does as long as one of them lives.

mod new;
mod old;
#[cfg(test)]
mod tests;

pub use new::{NewAction, NewEvent, NewSide, NewWork};
pub use old::{OldAction, OldEvent, OldSide, OldWork};

/// What one side tells the other. What comes with it is its users' matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Step {
    /// New to old: the first word, with the versions that it knows.
    Hello = 1,
    /// Old to new: what is to be served, and the commit word.
    Welcome = 2,
    /// New to old: it has started, and is dormant.
    Ready = 3,
    /// Old to new: all that goes ahead has been sent.
    Ahead = 4,
    /// New to old: it has that.
    Armed = 5,
    /// Old to new: all the rest has been sent.
    State = 6,
    /// New to old: it has rebuilt everything in memory.
    Prepared = 7,
    /// Old to new: decide.
    Go = 8,
    /// New to old: decided; it serves.
    Serving = 9,
    /// New to old: it cannot go on, and why.
    Refuse = 10,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Hello,
        Self::Welcome,
        Self::Ready,
        Self::Ahead,
        Self::Armed,
        Self::State,
        Self::Prepared,
        Self::Go,
        Self::Serving,
        Self::Refuse,
    ];

    /// The one with this number.
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u16 == number)
    }
}

/// How a hand-over ended, for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Old: the other one serves. This one lets go of what crossed, and ends.
    HandedOver,
    /// Old: called off; it goes on with everything, as if nothing had been.
    Resumed,
    /// Old: the other one decided for itself and died at once. What crossed is lost with it; this one serves whoever
    /// comes, on the sockets that it still holds.
    TakenBack,
    /// New: it serves, with everything that crossed.
    Serves,
    /// New: the other one died before everything had crossed. It serves whoever comes, on the sockets that it has.
    ServesAfresh,
    /// New: the other one goes on; this one ends, and has touched nothing.
    Withdrawn,
}

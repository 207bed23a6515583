//! What the numbers mean that the worker attaches to its connections, listeners and timers.

use ringway::Token;

/// Two bits of kind above thirty of place.
const KIND_SHIFT: u32 = 30;
const PLACE_MASK: u32 = (1 << KIND_SHIFT) - 1;

/// What an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The session at this place.
    Session(u32),
    /// The frontend at this place: its listener, or its timer.
    Frontend(u32),
    /// The look at who serves the Unix socket of the frontend at this place.
    SocketFile(u32),
    /// The wait for room below the connection limit.
    Admission,
    /// The wait for the end of the first ejection.
    Ejections,
}

impl Owner {
    pub(super) fn token(self) -> Token {
        let (kind, place) = match self {
            Self::Session(place) => (0, place),
            Self::Frontend(place) => (1, place),
            Self::SocketFile(place) => (2, place),
            Self::Admission => (3, 0),
            Self::Ejections => (3, 1),
        };
        assert!(place <= PLACE_MASK, "more places than a token can name");
        Token(kind << KIND_SHIFT | place)
    }

    pub(super) fn of(token: Token) -> Self {
        let place = token.0 & PLACE_MASK;
        match token.0 >> KIND_SHIFT {
            0 => Self::Session(place),
            1 => Self::Frontend(place),
            2 => Self::SocketFile(place),
            _ if place == 1 => Self::Ejections,
            _ => Self::Admission,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_comes_back_from_its_token() {
        for owner in [
            Owner::Session(0),
            Owner::Session(PLACE_MASK),
            Owner::Frontend(7),
            Owner::SocketFile(65_535),
            Owner::Admission,
            Owner::Ejections,
        ] {
            assert_eq!(Owner::of(owner.token()), owner);
        }
    }
}

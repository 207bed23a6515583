//! Which engine the workers run on, and why.

use ringway::EngineKind;

use crate::model::EngineChoice;

/// An engine and the reason to take it, for the log and the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) kind: EngineKind,
    pub(super) reason: String,
    /// It is not the one that was asked for.
    pub(super) is_fallback: bool,
}

/// The engine for `choice`. `probe` tells whether this machine allows an engine.
pub(super) fn choose(choice: EngineChoice, probe: impl Fn(EngineKind) -> Result<(), String>) -> Chosen {
    let epoll = |reason: String, is_fallback| Chosen { kind: EngineKind::Epoll, reason, is_fallback };
    match choice {
        // Messages and connections cost 3 to 15 % less on io_uring, and bulk the same: docs/internals/benchmarks.md.
        EngineChoice::Auto => match probe(EngineKind::IoUring) {
            Ok(()) => Chosen {
                kind: EngineKind::IoUring,
                reason: "auto: it relays at the least cost".to_owned(),
                is_fallback: false,
            },
            Err(cause) => epoll(format!("auto: io_uring cannot be used: {cause}"), false),
        },
        EngineChoice::Epoll => epoll("as configured".to_owned(), false),
        EngineChoice::IoUring => match probe(EngineKind::IoUring) {
            Ok(()) => {
                Chosen { kind: EngineKind::IoUring, reason: "as configured".to_owned(), is_fallback: false }
            }
            Err(cause) => epoll(format!("io_uring cannot be used: {cause}"), true),
        },
    }
}

/// The word for logs, metrics and the status page.
pub(super) fn name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Epoll => "epoll",
        EngineKind::IoUring => "io_uring",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_io_uring_where_it_is_allowed() {
        let chosen = choose(EngineChoice::Auto, |_| Ok(()));
        assert_eq!((chosen.kind, chosen.is_fallback), (EngineKind::IoUring, false));
    }

    #[test]
    fn auto_is_epoll_where_io_uring_is_forbidden_and_says_why() {
        let chosen = choose(EngineChoice::Auto, |_| Err("forbidden by seccomp".to_owned()));
        assert_eq!((chosen.kind, chosen.is_fallback), (EngineKind::Epoll, false));
        assert!(chosen.reason.contains("forbidden by seccomp"));
    }

    #[test]
    fn epoll_is_taken_without_asking() {
        let chosen = choose(EngineChoice::Epoll, |_| panic!("not asked"));
        assert_eq!((chosen.kind, chosen.is_fallback), (EngineKind::Epoll, false));
    }

    #[test]
    fn io_uring_is_taken_where_it_is_allowed() {
        let chosen = choose(EngineChoice::IoUring, |_| Ok(()));
        assert_eq!((chosen.kind, chosen.is_fallback), (EngineKind::IoUring, false));
    }

    #[test]
    fn forbidden_io_uring_falls_back_to_epoll_and_says_why() {
        let chosen = choose(EngineChoice::IoUring, |_| Err("forbidden by seccomp".to_owned()));
        assert_eq!((chosen.kind, chosen.is_fallback), (EngineKind::Epoll, true));
        assert!(chosen.reason.contains("forbidden by seccomp"));
    }
}

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
        // Relaying, the two cost the same and an idle connection takes 1.3 KB less on epoll: measured, see
        // docs/internals/benchmarks.md.
        EngineChoice::Auto => {
            epoll("auto: for a relay it costs the same and holds connections leaner".to_owned(), false)
        }
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
    fn auto_is_epoll_for_a_relay_and_asks_nobody() {
        let chosen = choose(EngineChoice::Auto, |_| panic!("not asked"));
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

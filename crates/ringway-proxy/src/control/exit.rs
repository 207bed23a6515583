//! How the process ended, for whoever started it.

use std::process::ExitCode;

/// How the process ended. The codes are part of the interface: they are documented and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for was done; every connection finished by itself.
    Finished,
    /// Something failed at run time.
    Failed,
    /// The arguments or the configuration are wrong.
    Misused,
    /// It ended as told, but connections had to be cut.
    Cut,
    /// A bug: a thread panicked, and half a proxy is worse than none.
    Panicked,
}

impl Exit {
    /// All of them, by their numbers.
    pub const ALL: &[Self] = &[Self::Finished, Self::Failed, Self::Misused, Self::Cut, Self::Panicked];

    /// One sentence for the reference page.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Finished => "Done. After `run`: every connection finished by itself.",
            Self::Failed => "Something failed at run time; the last lines of the log tell what.",
            Self::Misused => "The arguments or the configuration are wrong; nothing was started.",
            Self::Cut => "`run` ended as told, but connections had to be cut.",
            Self::Panicked => {
                "A bug: a thread panicked, and the process ended rather than go on as half a proxy."
            }
        }
    }

    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Finished => 0,
            Self::Failed => 1,
            Self::Misused => 2,
            Self::Cut => 3,
            // EX_SOFTWARE of sysexits.h.
            Self::Panicked => 70,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

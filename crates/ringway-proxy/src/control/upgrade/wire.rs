//! The messages of an upgrade, by their kinds. `docs/internals/upgrade.md` says in which order they go.
//!
//! Those about the process are JSON, in which fields are only ever added and unknown ones are ignored. Those about
//! connections are records: see `session::record` and `session::progress`.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Elder;
use super::state::AllowanceRecord;
use crate::control::reload::{RemovalRecord, VersionRecord};

/// The order of the messages and what they mean. Another one is refused.
pub(super) const PROTOCOL: u32 = 1;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// New to old: which program it is, and what it can read.
    Hello = 1,
    /// Old to new: the configuration that runs, with the commit word.
    Configure = 2,
    /// New to old: it has checked the configuration and started its workers.
    Ready = 3,
    /// New to old: it cannot go on, and why.
    Refuse = 4,
    /// Old to new: copies of the listening sockets.
    Listeners = 5,
    /// Old to new: health, and what operators said; and before it comes to rest, what is different by then.
    State = 6,
    /// New to old: it has taken in everything that could be sent ahead.
    Armed = 7,
    /// Old to new: connections, with their descriptors.
    Sessions = 8,
    /// Old to new: those were all.
    End = 9,
    /// New to old: all of it is in memory.
    Prepared = 10,
    /// Old to new: decide.
    Go = 11,
    /// New to old: it is decided, and the new process serves.
    Serving = 12,
    /// Old to new: what it had counted.
    Counters = 13,
    /// Old to new: records and descriptors of connections that it still serves.
    Ahead = 14,
    /// Old to new: those were all.
    AheadEnd = 15,
    /// Old to new: how far connections have come whose records went ahead.
    Progress = 16,
    /// Old to new: keys of session tickets; once more when it has come to rest, if there are others by then.
    Tickets = 17,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Hello,
        Self::Configure,
        Self::Ready,
        Self::Refuse,
        Self::Listeners,
        Self::State,
        Self::Armed,
        Self::Sessions,
        Self::End,
        Self::Prepared,
        Self::Go,
        Self::Serving,
        Self::Counters,
        Self::Ahead,
        Self::AheadEnd,
        Self::Progress,
        Self::Tickets,
    ];

    /// The kind with this number.
    pub(super) fn of(number: u16) -> io::Result<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a message of the unknown kind {number}"))
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The version of the program, for people.
    pub(super) program: String,
    /// The versions of records of connections that it reads.
    pub(super) sessions: Vec<u16>,
    /// The versions of records of progress that it reads; if it knows ours, connections may be sent ahead.
    #[serde(default)]
    pub(super) progress: Vec<u16>,
    /// It takes in once more, after `Armed`, what is different in `State` by then.
    #[serde(default)]
    pub(super) state_again: bool,
    /// It takes in keys of session tickets.
    #[serde(default)]
    pub(super) tickets: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Configure {
    /// Time zero of the process clock, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) clock_origin: u64,
    /// How many descriptors are open, most of which will come.
    #[serde(default)]
    pub(super) descriptors: u32,
    /// The file that is read at a reload.
    pub(super) file: PathBuf,
    /// The version that runs.
    pub(super) running: u64,
    /// All versions that are kept, the running one among them.
    pub(super) versions: Vec<VersionRecord>,
    /// The processes until now, the one that sends this last.
    pub(super) binaries: Vec<BinaryRecord>,
    /// Names of the sockets that a service manager passed; their descriptors follow that of the commit word.
    #[serde(default)]
    pub(super) passed: Vec<String>,
    /// Processes before the one that sends this that have connections to finish.
    #[serde(default)]
    pub(super) elders: Vec<Elder>,
    /// Connections that are to be ended later, since reloads removed their backends.
    #[serde(default)]
    pub(super) removals: Vec<RemovalRecord>,
    /// Connections will be sent ahead: `AheadEnd` follows `State`.
    #[serde(default)]
    pub(super) sends_ahead: bool,
    /// `Tickets` follows `State`.
    #[serde(default)]
    pub(super) sends_tickets: bool,
}

/// A process that served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryRecord {
    /// 1 for the first process, one more for each that followed by an upgrade.
    pub generation: u64,
    /// Its process id.
    pub pid: u32,
    /// Version of its program.
    pub program: String,
    /// Where the program was.
    pub path: PathBuf,
    /// Since when it serves.
    pub time: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) workers: usize,
    pub(super) engine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refuse {
    pub(super) reason: String,
}

/// Whose descriptors come with the message, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listeners {
    pub(super) frontends: Vec<FrontendKey>,
    /// The last descriptor is that of the admin interface.
    pub(super) admin: bool,
}

/// Names a frontend in both processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FrontendKey {
    pub(super) app: String,
    /// Its place among those of its app.
    pub(super) index: usize,
    /// A service manager keeps this very socket open.
    #[serde(default)]
    pub(super) is_passed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Connections that were sent.
    pub(super) sessions: u64,
    /// Connections whose progress was sent.
    #[serde(default)]
    pub(super) progress: u64,
    /// The smallest number that no connection has had.
    pub(super) next_number: u64,
    /// What apps have used of their rates and bandwidths; of those that may take all, nothing.
    #[serde(default)]
    pub(super) allowances: Vec<AllowanceRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) taken: u64,
    /// Connections that it cannot carry on: the place of each among those that were sent, and why.
    #[serde(default)]
    pub(super) refused: Vec<(u64, String)>,
    /// The same of those that were sent ahead, by their numbers in the process.
    #[serde(default)]
    pub(super) refused_ahead: Vec<(u64, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AheadEnd {
    /// Connections that were sent ahead.
    pub(super) connections: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Serving {
    /// Until all workers had gone on, from the decision.
    pub(super) micros: u64,
}

/// Writes the body of a message.
pub(super) fn write(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("plain data without maps that have odd keys")
}

/// Reads the body of a message.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::state::{Counters, State};
    use super::super::tickets::Tickets;
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1);
            assert_eq!(Kind::of(kind as u16).ok(), Some(kind));
        }
        assert!(Kind::of(0).is_err() && Kind::of(999).is_err());
    }

    /// Whether `other` has all that `one` has, and possibly more.
    fn is_within(one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => {
                one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_within(value, other)))
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_within(one, other))
            }
            _ => one == other,
        }
    }

    /// Reads a message as this program does, and gives what it understood.
    fn understood<T: Serialize + DeserializeOwned>(body: &Value) -> Value {
        let message: T = read(&serde_json::to_vec(body).expect("JSON")).expect("a message");
        serde_json::to_value(message).expect("JSON")
    }

    /// What earlier programs said, a message a line. The lines are never changed: what a program says anew gets lines of
    /// its own. The records of connections have files of their own: `session::record`, `session::progress`.
    #[test]
    fn messages_of_earlier_programs_are_understood_and_nothing_of_them_is_lost() {
        let text = include_str!("../../../tests/golden/upgrade-v1.jsonl");
        let mut kinds = vec![Kind::Sessions, Kind::Ahead, Kind::Progress];
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            let kind = Kind::of(line["kind"].as_u64().expect("a number") as u16).expect("a known kind");
            let body = &line["body"];
            let found = match kind {
                Kind::Hello => understood::<Hello>(body),
                Kind::Configure => understood::<Configure>(body),
                Kind::Ready => understood::<Ready>(body),
                Kind::Refuse => understood::<Refuse>(body),
                Kind::Listeners => understood::<Listeners>(body),
                Kind::State => understood::<State>(body),
                Kind::Armed | Kind::Go => understood::<()>(body),
                Kind::Sessions | Kind::Ahead | Kind::Progress => panic!("records are not JSON"),
                Kind::End => understood::<End>(body),
                Kind::Prepared => understood::<Prepared>(body),
                Kind::Serving => understood::<Serving>(body),
                Kind::Counters => understood::<Counters>(body),
                Kind::AheadEnd => understood::<AheadEnd>(body),
                Kind::Tickets => understood::<Tickets>(body),
            };
            assert!(is_within(body, &found), "of {body} it understood {found}");
            kinds.push(kind);
        }
        assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "only {kinds:?}");
    }

    #[test]
    fn fields_of_later_programs_are_ignored() {
        let later = json!({"protocol": 1, "program": "9.0", "sessions": [1, 9], "colours": {"many": true}});
        let hello: Hello = read(&serde_json::to_vec(&later).expect("JSON")).expect("a hello");
        assert_eq!((hello.program.as_str(), hello.sessions), ("9.0", vec![1, 9]));
        let later = json!({"apps": [{"name": "web", "moon": "full", "endpoints": [{"tide": 1}]}], "sun": 1});
        let state: State = read(&serde_json::to_vec(&later).expect("JSON")).expect("a state");
        assert_eq!(state.apps.len(), 1);
    }
}

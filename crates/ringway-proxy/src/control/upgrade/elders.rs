//! Old processes that have connections to finish, as far as the process that serves knows them.
//!
//! Each tells of them on a socket of its own, and the process that serves asks there for whoever wants to know. There are as
//! many as live: one that is gone is forgotten as soon as that is seen, at the latest when it is asked.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringway::SocketAddress;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::admin_client::{self, AskError};
use crate::control::operator::{ConnectionList, ConnectionsQuery, Killed, OldProcess, ROWS_DEFAULT, Refusal};

/// An old process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Elder {
    pub(in crate::control) generation: u64,
    pub(in crate::control) pid: u32,
    /// Where it tells of its connections.
    pub(in crate::control) socket: PathBuf,
    /// The line on which it says at its end what it has counted comes along, where this does.
    #[serde(default)]
    pub(in crate::control) has_line: bool,
}

/// The old processes.
#[derive(Debug, Default)]
pub(in crate::control) struct Elders {
    /// Each with a handle of its line.
    known: Mutex<Vec<(Elder, Option<OwnedFd>)>>,
    /// Another process follows, and hears what they say from now on.
    are_passed_on: AtomicBool,
}

impl Elders {
    /// Those that another process knew.
    pub(super) fn new(known: Vec<(Elder, Option<OwnedFd>)>) -> Self {
        Self { known: Mutex::new(known), are_passed_on: AtomicBool::new(false) }
    }

    /// Those that are known, the oldest first.
    pub(super) fn all(&self) -> Vec<Elder> {
        self.known().iter().map(|(elder, _)| elder.clone()).collect()
    }

    /// All of them for another process, and the lines of those that have one.
    pub(super) fn for_heir(&self) -> (Vec<Elder>, Vec<OwnedFd>) {
        let mut lines = Vec::new();
        let known = self.known();
        let elders = known.iter().map(|(elder, line)| {
            // Without descriptors the upgrade does not get far either.
            let line = line.as_ref().and_then(|line| line.try_clone().ok());
            let elder = Elder { has_line: line.is_some(), ..elder.clone() };
            lines.extend(line);
            elder
        });
        let elders = elders.collect();
        (elders, lines)
    }

    /// The other process is the one that hears from now on.
    pub(super) fn pass_on(&self) {
        self.are_passed_on.store(true, Ordering::Relaxed);
    }

    pub(super) fn are_passed_on(&self) -> bool {
        self.are_passed_on.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, elder: Elder, line: Option<OwnedFd>) {
        self.known().push((elder, line));
    }

    /// It is gone.
    pub(super) fn forget(&self, pid: u32) {
        self.known().retain(|(elder, _)| elder.pid != pid);
    }

    fn known(&self) -> MutexGuard<'_, Vec<(Elder, Option<OwnedFd>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists connections of the old processes that `query.generation` means.
    ///
    /// # Errors
    /// When there is no such process, or none of them knows what the query names.
    pub(in crate::control) async fn list(&self, query: &ConnectionsQuery) -> Result<ConnectionList, Refusal> {
        let mut list = ConnectionList::default();
        for answer in self.ask::<ConnectionList>("GET", query).await? {
            match answer {
                Ok(of_one) => {
                    list.matched += of_one.matched;
                    list.connections.extend(of_one.connections);
                    list.processes.extend(of_one.processes);
                }
                Err(silent) => list.processes.push(silent),
            }
        }
        list.connections.truncate(query.limit.unwrap_or(ROWS_DEFAULT));
        Ok(list)
    }

    /// Ends connections of the old processes that `query.generation` means.
    ///
    /// # Errors
    /// When there is no such process, or none of them does what the query says.
    pub(in crate::control) async fn kill(&self, query: &ConnectionsQuery) -> Result<Killed, Refusal> {
        let answers = self.ask::<Killed>("DELETE", query).await?;
        Ok(Killed { killed: answers.iter().flatten().map(|answer| answer.killed).sum() })
    }

    /// What each of the old processes answers that are meant; of those that answer wrongly, or not, how they are named.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        query: &ConnectionsQuery,
    ) -> Result<Vec<Result<T, OldProcess>>, Refusal> {
        let asked = self.meant(query.generation.as_deref().unwrap_or("old"))?;
        let of_elder = ConnectionsQuery { generation: None, ..query.clone() };
        let query =
            serde_urlencoded::to_string(of_elder).map_err(|error| Refusal::Wrong(error.to_string()))?;
        let target = format!("/connections?{query}");
        // All at once: one that hangs holds nobody else up.
        let asking: Vec<_> = asked
            .into_iter()
            .map(|elder| {
                let (socket, target) = (SocketAddress::unix(elder.socket.clone()), target.clone());
                let ask = move || admin_client::send(&socket, method, &target, None);
                (elder, tokio::task::spawn_blocking(ask))
            })
            .collect();
        let (mut answers, mut refusals) = (Vec::new(), Vec::new());
        for (Elder { generation, pid, .. }, answer) in asking {
            let answer = answer.await.expect("a panic ends the process").and_then(|body| {
                serde_json::from_slice(&body).map_err(|error| AskError::Answer(error.to_string()))
            });
            match answer {
                Ok(answer) => answers.push(Ok(answer)),
                // It has ended meanwhile.
                Err(AskError::Unreachable(error)) if is_gone(&error) => self.forget(pid),
                Err(AskError::Refused(why)) => refusals.push(why),
                Err(error) => {
                    let error = Some(error.to_string());
                    answers.push(Err(OldProcess { generation, pid, seconds_left: None, error }));
                }
            }
        }
        match refusals.pop() {
            Some(why) if answers.is_empty() => Err(Refusal::Wrong(why)),
            // What it does not know it does not have.
            Some(_) | None => Ok(answers),
        }
    }

    fn meant(&self, generation: &str) -> Result<Vec<Elder>, Refusal> {
        if generation == "old" {
            return Ok(self.all());
        }
        let number: u64 = generation.parse().map_err(|_| {
            Refusal::Wrong(format!(
                "generation: \"{generation}\"; expected old, or the number of a generation"
            ))
        })?;
        let one: Vec<Elder> = self.all().into_iter().filter(|elder| elder.generation == number).collect();
        match one.is_empty() {
            true => Err(Refusal::Unknown(format!("no old process of generation {number} is left"))),
            false => Ok(one),
        }
    }
}

/// Nobody listens there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> ConnectionsQuery {
        serde_urlencoded::from_str(text).expect("a query")
    }

    #[tokio::test]
    async fn who_is_gone_is_forgotten_when_he_is_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let elder = |generation, pid, name| {
            let socket = directory.path().join(name);
            (Elder { generation, pid, socket, has_line: false }, None)
        };
        let elders = Elders::new(vec![elder(1, 7, "never"), elder(2, 8, "dead")]);
        drop(std::os::unix::net::UnixListener::bind(directory.path().join("dead")).expect("it binds"));
        let refused = elders.list(&query("generation=3")).await;
        assert_eq!(refused, Err(Refusal::Unknown("no old process of generation 3 is left".to_owned())));
        assert!(elders.list(&query("generation=young")).await.is_err());
        assert_eq!(elders.all().len(), 2);
        assert_eq!(elders.list(&query("generation=old")).await, Ok(ConnectionList::default()));
        assert_eq!(elders.all(), []);
        assert_eq!(elders.kill(&query("generation=old&all=true")).await, Ok(Killed { killed: 0 }));
    }
}

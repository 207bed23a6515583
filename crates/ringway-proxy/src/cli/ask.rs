//! What all commands share that talk to a running ringway: where it is asked, and how it ends when it says no.

use std::path::{Path, PathBuf};

use ringway::SocketAddress;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::AdminArguments;
use super::{complain, print};
use crate::config::{self, render_faults};
use crate::control::admin_client;
use crate::control::admin_client::{AskError, Body};
use crate::control::exit::Exit;

/// A running ringway, for one command.
pub(super) struct Asker<'a> {
    command: &'static str,
    admin: SocketAddress,
    arguments: &'a AdminArguments,
}

impl<'a> Asker<'a> {
    /// Finds out where to ask.
    ///
    /// # Errors
    /// The exit code; what is wrong has been said.
    pub(super) fn new(command: &'static str, arguments: &'a AdminArguments) -> Result<Self, Exit> {
        match admin_address(command, arguments) {
            Ok(admin) => Ok(Self { command, admin, arguments }),
            Err(problem) => {
                complain(&problem);
                Err(Exit::Misused)
            }
        }
    }

    /// Sends a request with `query` and prints its answer: as it is if JSON is wanted, else by `render`.
    pub(super) fn print<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &impl Serialize,
        render: impl FnOnce(&T) -> String,
    ) -> Exit {
        self.print_answer_to(method, path, query, None, render)
    }

    /// As [`print`](Self::print), with a body in the request.
    pub(super) fn print_answer_to<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &impl Serialize,
        body: Option<Body<'_>>,
        render: impl FnOnce(&T) -> String,
    ) -> Exit {
        match self.ask(method, path, query, body) {
            Ok((_, body)) if self.arguments.json => {
                // To read it as a `T` has shown that it is text.
                print(&format!("{}\n", String::from_utf8_lossy(&body)));
                Exit::Finished
            }
            Ok((answer, _)) => {
                print(&render(&answer));
                Exit::Finished
            }
            Err(exit) => exit,
        }
    }

    /// Sends a request with `query`; gives the answer, and as it came.
    ///
    /// # Errors
    /// The exit code; what is wrong has been said.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &impl Serialize,
        body: Option<Body<'_>>,
    ) -> Result<(T, Vec<u8>), Exit> {
        self.try_ask(method, path, query, body).map_err(|problem| match problem {
            AskError::Faulty(faults) => {
                complain(&faults);
                Exit::Misused
            }
            problem => {
                complain(&format!("ringway {}: {}: {problem}", self.command, self.admin));
                Exit::Failed
            }
        })
    }

    /// Sends a request whose answer comes line by line: each goes to `on_line`, read and as it came.
    ///
    /// # Errors
    /// The exit code; what is wrong has been said.
    pub(super) fn follow<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &impl Serialize,
        mut on_line: impl FnMut(T, &str),
    ) -> Result<(), Exit> {
        let followed = target_of(path, query).and_then(|target| {
            admin_client::follow(&self.admin, method, &target, |text| match serde_json::from_str(text) {
                Ok(line) => {
                    on_line(line, text);
                    Ok(())
                }
                Err(error) => Err(AskError::Answer(error.to_string())),
            })
        });
        followed.map_err(|problem| {
            complain(&format!("ringway {}: {}: {problem}", self.command, self.admin));
            Exit::Failed
        })
    }

    /// Asks for a page; whoever calls says what is wrong, if that is wrong at all.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn look<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, AskError> {
        self.try_ask("GET", path, query, None).map(|(answer, _)| answer)
    }

    fn try_ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &impl Serialize,
        body: Option<Body<'_>>,
    ) -> Result<(T, Vec<u8>), AskError> {
        let target = target_of(path, query)?;
        let body = admin_client::send(&self.admin, method, &target, body)?;
        let answer = serde_json::from_slice(&body).map_err(|error| AskError::Answer(error.to_string()))?;
        Ok((answer, body))
    }
}

fn target_of(path: &str, query: &impl Serialize) -> Result<String, AskError> {
    let query = serde_urlencoded::to_string(query).map_err(|error| AskError::Refused(error.to_string()))?;
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

/// Where to ask: as named, or as the configuration says, or where the demo listens.
fn admin_address(command: &str, arguments: &AdminArguments) -> Result<SocketAddress, String> {
    if let Some(admin) = &arguments.admin {
        return Ok(admin.clone());
    }
    let path: Option<PathBuf> = arguments.config.clone().or_else(|| config::find(Path::new("")));
    let (config, name) = match &path {
        Some(path) => {
            let loaded = config::load(path).map_err(|errors| render_faults(&errors))?;
            (loaded.config, path.display().to_string())
        }
        None => (config::demo(), "the demo".to_owned()),
    };
    let admin = config.admin.ok_or_else(|| {
        format!("ringway {command}: {name} has no [admin] section with `listen`, so there is nobody to ask")
    })?;
    Ok(admin.listen)
}

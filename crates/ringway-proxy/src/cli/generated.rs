//! `ringway schema`, `completions` and `man`: what other programs want to know, from the definitions that Ringway itself
//! goes by.

use clap::CommandFactory;

use super::arguments::{Arguments, CompletionsArguments, ManArguments};
use super::{complain, print};
use crate::config;
use crate::control::exit::Exit;

/// The JSON Schema of configurations.
pub(super) fn schema() -> Exit {
    print(&format!("{:#}\n", config::schema()));
    Exit::Finished
}

/// The completions of a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "ringway", &mut script);
    print(&String::from_utf8_lossy(&script));
    Exit::Finished
}

/// The man page of a command, or of the whole program.
pub(super) fn man(arguments: &ManArguments) -> Exit {
    let mut command = Arguments::command();
    // Gives the commands their full names, `ringway run`.
    command.build();
    let command = match &arguments.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                complain(&format!("ringway man: there is no command `{name}`; `ringway --help` lists them"));
                return Exit::Misused;
            }
        },
    };
    let mut page = Vec::new();
    match clap_mangen::Man::new(command).render(&mut page) {
        Ok(()) => {
            print(&String::from_utf8_lossy(&page));
            Exit::Finished
        }
        Err(error) => {
            complain(&format!("ringway man: {error}"));
            Exit::Failed
        }
    }
}

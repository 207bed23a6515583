//! `ringway reload`: has a running ringway read its configuration again, and says what came of it.

use super::arguments::ReloadArguments;
use super::ask::Asker;
use crate::control::exit::Exit;
use crate::control::reload::Applied;

/// Asks, and prints what changed or every fault.
pub(super) fn main(arguments: &ReloadArguments) -> Exit {
    match Asker::new("reload", &arguments.admin) {
        Ok(asker) => asker.print("POST", "/reload", &(), render),
        Err(exit) => exit,
    }
}

/// What changed, a line for each app, and what did not.
fn render(applied: &Applied) -> String {
    if !applied.is_new {
        return format!("version {} runs: nothing has changed\n{}", applied.version, warnings(applied));
    }
    let mut text = format!("version {} runs\n", applied.version);
    for (word, apps) in
        [("added", &applied.added), ("changed", &applied.changed), ("removed", &applied.removed)]
    {
        for app in apps {
            text.push_str(&format!("{word} app {app}\n"));
        }
    }
    text.push_str(&warnings(applied));
    text
}

fn warnings(applied: &Applied) -> String {
    applied.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_that_changed_has_its_line() {
        let applied = Applied {
            version: 4,
            is_new: true,
            added: vec!["new".to_owned()],
            changed: vec!["web".to_owned(), "db".to_owned()],
            removed: vec!["old".to_owned()],
            warnings: vec!["server.workers changes with a restart only".to_owned()],
        };
        assert_eq!(
            render(&applied),
            "version 4 runs\nadded app new\nchanged app web\nchanged app db\nremoved app old\n\
             warning: server.workers changes with a restart only\n"
        );
    }
}

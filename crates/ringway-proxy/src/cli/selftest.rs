//! `ringway selftest`: the tables that the tests of the parsers go by, on the machine that is to serve.

use ringway_proto::client_hello::torture;

use super::print;
use super::table::Table;
use super::units::{bytes, count};
use crate::control::exit::Exit;

/// Checks every case and prints what came of it.
pub(super) fn main() -> Exit {
    let mut table = Table::new(&["CLIENT HELLO", "SIZE", "READ", "RESULT", "EXPECTED"]);
    let (mut passed, mut failed) = (0, 0);
    for case in torture::cases() {
        let (ways, result) = match case.check() {
            Ok(ways) => (format!("{ways} times"), "ok".to_owned()),
            Err(problem) => ("-".to_owned(), format!("FAILED {problem}")),
        };
        if result == "ok" {
            passed += 1;
        } else {
            failed += 1;
        }
        table.push([case.name.to_owned(), bytes(case.bytes().len() as u64), ways, result, case.expected()]);
    }
    print(&format!("{}{} passed, {failed} failed\n", table.render(), count(passed, "case")));
    if failed == 0 { Exit::Finished } else { Exit::Failed }
}

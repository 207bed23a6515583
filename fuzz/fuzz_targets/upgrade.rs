//! What another process may say in an upgrade, from arbitrary bytes: records of connections and of how far they have come, parts
//! of messages, health, counters, allowances and keys of session tickets.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/upgrade.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| check::check(bytes));

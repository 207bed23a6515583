//! Two ends of TLS, and what happens to what they say, from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/conversation/mod.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| check::check(bytes));

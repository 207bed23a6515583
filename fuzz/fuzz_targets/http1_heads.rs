//! Heads of HTTP/1, from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/http1_heads.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| check::check(bytes));

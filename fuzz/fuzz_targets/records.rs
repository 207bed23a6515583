//! Records of any content to an established end of TLS, from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/records/mod.rs"]
mod check;

fuzz_target!(|bytes: &[u8]| check::check(bytes));

//! The program `ringway`; all of it is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ringway_proxy::cli::main(std::env::args_os())
}

//! Ports, clients, backends and a process runner for the tests of Ringway.
#![forbid(unsafe_code)]

//! Protocol parsers of Ringway: bytes in, values out.
//!
//! No socket, no clock, no thread: `no_std` is the proof. Whoever reads from a network hands the bytes in; what is
//! not complete yet asks for more, and what is wrong is a typed error. Nothing here panics on bytes that came from
//! outside, and nothing grows beyond a stated bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod certificate;
pub mod client_hello;
pub mod host_name;
pub mod http1;
pub mod proxy_protocol;
pub mod reader;
pub mod sniff;

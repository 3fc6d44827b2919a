//! The laboratory: everything the end-to-end tests and `cargo xtask run` need to build a small network on one machine.
//!
//! All of it lives in network namespaces of its own and is removed when the values are dropped, on every way out.

pub mod addresses;
pub mod cable;
pub mod capture;
pub mod configuration;
pub mod counters;
pub mod counting_program;
pub mod directory;
pub mod envnet;
pub mod faults;
pub mod fixture;
pub mod guest;
pub mod http;
pub mod interrupt;
pub mod kernel;
mod lab;
pub mod namespace;
pub mod parallel;
pub mod ping;
pub mod pings;
pub mod process;
pub mod qemu;
pub mod remains;
pub mod run;
pub mod snapshot;
pub mod socket;
pub mod stream;
pub mod tap;
pub mod traffic;

pub use configuration::{Configuration, Mode};
pub use lab::Lab;

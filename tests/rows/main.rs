//! Packet rows: what goes into a program, and what must come out of it, for each case that an RFC or a user brings up.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up fails its test, and the line says where"
)]

mod arp;
mod bench;
mod broken;
mod directions;
mod fragments;
mod frames;
mod hairpin;
mod headers;
mod icmp_errors;
mod names;
mod packet;
mod pieces;
mod protocols;
mod quotes;
mod transport;

//! Packet rows: what goes into a program, and what must come out of it, for each case that an RFC or a user brings up.

#![expect(
    clippy::unwrap_used,
    reason = "a harness that cannot be set up fails its test, and the line says where"
)]

mod across;
mod ageing;
mod arp;
mod broken;
mod choice;
mod directions;
mod fast;
mod fdb;
mod fragments;
mod frames;
mod hairpin;
mod harness;
mod headers;
mod helper_failure;
mod host;
mod icmp_errors;
mod limits;
mod names;
mod next_hops;
mod packet;
mod pieces;
mod protocols;
mod quotes;
mod room;
mod spoofing;
mod tags;
mod transport;
mod turn_round;
mod uplink_arp;
mod verifier;

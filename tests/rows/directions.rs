//! One packet, both ways between the guest and a machine outside.

use std::net::Ipv4Addr;

use crate::{
    harness::{Outcome, Program, Row},
    names::{GUEST, GUEST_OUTSIDE, IPV4, NEIGHBOUR, OUTSIDE, ROUTER_WAN, row},
    packet::frame,
};

/// What `seen` makes of two addresses comes in with the one pair and goes on with the other, and likewise out.
pub(crate) fn both_ways(description: &str, seen: impl Fn(Ipv4Addr, Ipv4Addr) -> Vec<u8>) -> [Row; 2] {
    [
        comes_in_from(description, OUTSIDE, &seen),
        goes_out_to(description, OUTSIDE, &seen),
    ]
}

/// What `seen` makes of two addresses comes in from `outside`.
pub(crate) fn comes_in_from(description: &str, outside: Ipv4Addr, seen: impl Fn(Ipv4Addr, Ipv4Addr) -> Vec<u8>) -> Row {
    let inward = |to| frame(ROUTER_WAN, NEIGHBOUR, IPV4, &seen(outside, to));
    row(
        format!("{description} in"),
        Program::Ingress,
        inward(GUEST_OUTSIDE),
        Outcome::Pass(inward(GUEST)),
    )
}

/// What `seen` makes of two addresses goes out to `outside`.
pub(crate) fn goes_out_to(description: &str, outside: Ipv4Addr, seen: impl Fn(Ipv4Addr, Ipv4Addr) -> Vec<u8>) -> Row {
    let outward = |from| frame(NEIGHBOUR, ROUTER_WAN, IPV4, &seen(from, outside));
    row(
        format!("{description} out"),
        Program::Egress,
        outward(GUEST),
        Outcome::Pass(outward(GUEST_OUTSIDE)),
    )
}

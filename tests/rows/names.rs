//! The addresses in the rows, by name.

use std::net::Ipv4Addr;

use envnet_common::{DropReason, maps::ROUTER_INSIDE_MAC};

use crate::{
    harness::{Outcome, Program, Row},
    packet::{Packet, frame},
};

pub(crate) const ENVIRONMENT: u32 = 1;
pub(crate) const INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 0);
pub(crate) const OTHER_EXTERNAL: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 0);
/// All external addresses of all environments.
pub(crate) const POOL: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 0);
/// The routers' next hop, which the neighbour has.
pub(crate) const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);

pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 1);
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const GUEST_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 2);
pub(crate) const SIBLING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
pub(crate) const SIBLING_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 3);
/// Mapped in the other environment only.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
/// Where the stranger would be if it were mapped in this environment.
pub(crate) const STRANGER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 99);
/// A mapped address of the other environment.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 99);
/// A machine outside.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

pub(crate) const OTHER_ENVIRONMENT: u32 = 2;

/// A router's WAN port's begins with this byte.
pub(crate) const ROUTER_WAN: [u8; 6] = [0xfe, 0, 0, 0, 0, 1];
pub(crate) const OTHER_ROUTER_WAN: [u8; 6] = [0xfe, 0, 0, 0, 0, 2];
pub(crate) const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub(crate) const SIBLING_MAC: [u8; 6] = [2, 0, 0, 0, 1, 3];
pub(crate) const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 99];
/// The host's own, on the uplink.
pub(crate) const HOST: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
pub(crate) const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
pub(crate) const EVERYBODY: [u8; 6] = [0xff; 6];

pub(crate) const IPV4: u16 = 0x0800;

/// A frame with `packet` from the neighbour to the router.
pub(crate) fn incoming(packet: &Packet) -> Vec<u8> {
    frame(ROUTER_WAN, NEIGHBOUR, IPV4, &packet.bytes())
}

/// A frame with `packet` from the router to the neighbour.
pub(crate) fn outgoing(packet: &Packet) -> Vec<u8> {
    frame(NEIGHBOUR, ROUTER_WAN, IPV4, &packet.bytes())
}

/// A frame with `packet` from a guest with this Ethernet address to the router.
pub(crate) fn sent_by(mac: [u8; 6], packet: &Packet) -> Vec<u8> {
    frame(ROUTER_INSIDE_MAC.0, mac, IPV4, &packet.bytes())
}

/// `packet` comes in, and goes on as `expected`.
pub(crate) fn comes_in(description: impl Into<String>, packet: &Packet, expected: &Packet) -> Row {
    row(
        description,
        Program::Ingress,
        incoming(packet),
        Outcome::Pass(incoming(expected)),
    )
}

/// `packet` goes out as `expected`.
pub(crate) fn goes_out(description: impl Into<String>, packet: &Packet, expected: &Packet) -> Row {
    row(
        description,
        Program::Egress,
        outgoing(packet),
        Outcome::Pass(outgoing(expected)),
    )
}

/// `frame` is dropped, and counted under `reason` and the mapping of `internal`.
pub(crate) fn is_dropped(
    description: impl Into<String>,
    program: Program,
    frame: Vec<u8>,
    reason: DropReason,
    internal: Option<Ipv4Addr>,
) -> Row {
    row(description, program, frame, Outcome::Drop(reason, internal))
}

pub(crate) fn row(description: impl Into<String>, program: Program, frame: Vec<u8>, outcome: Outcome) -> Row {
    Row {
        description: description.into(),
        program,
        frame,
        outcome,
    }
}

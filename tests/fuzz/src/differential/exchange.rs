//! What is sent: single packets of every kind, datagrams in fragments, and errors about packets that went before.
//!
//! Every packet of an exchange has the exchange's number as its IPv4 identification, by which it is found again.

use std::net::Ipv4Addr;

use envnet_model::{Direction, World, sum};
use fastrand::Rng;

use super::{offload::Offload, router::PEER_MAC};
use crate::generate;

/// What one exchange sends, in order.
pub(super) struct Exchange {
    pub(super) kind: &'static str,
    pub(super) frames: Vec<Sent>,
}

/// A frame that is sent.
pub(super) struct Sent {
    pub(super) direction: Direction,
    pub(super) offload: Offload,
    pub(super) frame: Vec<u8>,
}

/// What packets have when they are sent, and ICMP errors of the router's own have not.
pub(super) const TTL: u8 = 61;

/// The exchange with this number.
pub(super) fn make(rng: &mut Rng, world: &World, id: u16) -> Exchange {
    let mut offload = Offload::default();
    let (kind, packets) = match rng.u8(..20) {
        0 => generate::conversation::recorded(rng, world),
        1 => {
            let unfinished = generate::conversation::unfinished(rng, world);
            offload = Offload::new(20, unfinished.header, unfinished.field, unfinished.segment);
            (unfinished.kind, vec![(unfinished.direction, unfinished.packet)])
        }
        2..5 => generate::conversation::fragments(rng, world),
        5..9 => generate::conversation::error(rng, world),
        _ => single(rng, world),
    };
    let send = |(direction, mut packet): (Direction, Vec<u8>)| {
        mark(&mut packet, id);
        let head = [&world.router_wan[..], &PEER_MAC, &[8, 0]].concat();
        Sent {
            direction,
            offload,
            frame: [head, packet].concat(),
        }
    };
    let frames = packets.into_iter().map(send).collect();
    Exchange { kind, frames }
}

/// Any IPv4 packet that the generator makes, alone.
fn single(rng: &mut Rng, world: &World) -> (&'static str, Vec<(Direction, Vec<u8>)>) {
    loop {
        let case = generate::case(rng, world);
        let packet = &case.frame[14..];
        if case.frame[12..14] == [8, 0] {
            let kind = describe(world, case.direction, packet);
            return (kind, vec![(case.direction, packet.to_vec())]);
        }
    }
}

/// What there is to say about a packet, the most important first.
fn describe(world: &World, direction: Direction, packet: &[u8]) -> &'static str {
    let (source, destination) = addresses(packet);
    let (header, total) = (
        usize::from(packet[0] & 15) * 4,
        usize::from(u16::from_be_bytes([packet[2], packet[3]])),
    );
    if packet[0] >> 4 != 4 || header < 20 || total < header || total > packet.len() || sum(&packet[..header]) != 0 {
        return "malformed header";
    }
    let payload = &packet[header..total];
    let router = [world.internal.nth(1), world.external.nth(1)];
    match direction {
        _ if router.contains(&source) || router.contains(&destination) => return "to or from the router itself",
        Direction::In if world.internal_of(destination).is_none() => return "to an unmapped address, in",
        Direction::Out if world.internal.contains(destination) => return "to an internal address, out",
        Direction::Out if world.external_of(source).is_none() => return "from an unmapped address, out",
        Direction::In if world.internal.contains(source) => return "from an internal address, in",
        Direction::In if world.external.contains(source) => return "from an own external address, in",
        Direction::Out if world.internal_of(destination).is_some() => return "to an own external address, out",
        Direction::Out if world.external.contains(destination) => return "to an unmapped external address, out",
        _ => {}
    }
    let nobody = |address: Ipv4Addr| matches!(address.octets()[0], 0 | 127 | 224..);
    if nobody(source) || nobody(destination) {
        return "from or to nobody's address";
    }
    if packet[6] & 0x3f != 0 || packet[7] != 0 {
        return "a lone fragment";
    }
    if header > 20 {
        return "with IP options";
    }
    let pseudo = sum(&packet[12..20]) + u64::from(packet[9]) + payload.len() as u64;
    let covered = sum(payload);
    let is_right = match packet[9] {
        1 => covered == 0,
        17 if payload.get(6..8) == Some(&[0, 0]) => true,
        6 | 17 | 33 | 136 => (covered + pseudo).is_multiple_of(0xffff),
        _ => true,
    };
    match (packet[9], payload) {
        (1, [3 | 4 | 11 | 12, ..]) => "an ICMP error about nothing",
        (1, [5, ..]) => "an ICMP redirect",
        (1, _) if !is_right => "ICMP with a wrong checksum",
        (1, [8 | 13 | 15 | 17, ..]) => "an ICMP query",
        (1, _) => "an ICMP message that is no query",
        (6, _) if payload.len() < 20 => "TCP cut off",
        (17 | 136, _) if payload.len() < 8 => "UDP or UDP-Lite cut off",
        (33, _) => "DCCP",
        (6 | 17 | 136, _) if !is_right => "TCP, UDP or UDP-Lite with a wrong checksum",
        (17, _) if usize::from(u16::from_be_bytes([payload[4], payload[5]])) != payload.len() => {
            "UDP with a wrong length"
        }
        (136, _) => "UDP-Lite",
        (6, _) => "TCP out of the blue",
        (17, _) => "UDP",
        (132, _) => "SCTP without a right CRC",
        (47, _) => "GRE",
        (58, _) => "ICMPv6 in IPv4",
        _ => "another protocol",
    }
}

/// Gives a packet the number of its exchange, and the packet quoted in an error, too; checksums keep what was wrong.
fn mark(packet: &mut [u8], id: u16) {
    let before = sum(&packet[..20]);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[8] = TTL;
    let now = sum(&packet[..20]);
    let field = u64::from(u16::from_be_bytes([packet[10], packet[11]]));
    let field = u16::try_from((field + before + 0xffff - now) % 0xffff).unwrap_or(0);
    packet[10..12].copy_from_slice(&field.to_be_bytes());
}

/// The exchange that a received packet belongs to: a forwarded one, not one that the router made.
pub(super) fn belongs_to(packet: &[u8]) -> Option<usize> {
    let forwarded = packet.len() >= 20 && matches!(TTL - packet[8].min(TTL), 1..=3);
    let id = u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]);
    (forwarded && id != 0).then(|| usize::from(id) - 1)
}

/// Source and destination of a packet.
pub(super) fn addresses(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    let at = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    (at(12), at(16))
}

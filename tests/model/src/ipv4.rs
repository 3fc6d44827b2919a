//! IPv4: which packets a translating router takes, and what they become.

use std::net::Ipv4Addr;

use crate::{
    Direction, ETHERNET, Reason, World, checksum,
    checksum::{Correction, Field, address, word},
    icmp,
    verdict::{Drop, Frame, Verdict},
};

pub(crate) const SOURCE: usize = 12;
pub(crate) const DESTINATION: usize = 16;
const ICMP: u8 = 1;

pub(crate) fn judge(world: &World, direction: Direction, frame: &[u8]) -> Verdict {
    let packet = &frame[ETHERNET..];
    if packet.len() < 20 {
        return Verdict::drop(Reason::Truncated);
    }
    let (version, header_len, total) = lengths(packet);
    if version != 4 || header_len < 20 || total < header_len || total > packet.len() {
        return Verdict::drop(Reason::MalformedIpv4);
    }
    // Nothing behind the total length is part of the packet.
    let (packet, padding) = packet.split_at(total);

    let mut defects = Vec::new();
    let (source, destination) = (address(packet, SOURCE), address(packet, DESTINATION));
    let (own_side, internal, new) = match direction {
        Direction::In => {
            let internal = world.internal_of(destination);
            if internal.is_none() {
                defects.push(Drop::of(Reason::DestinationUnmapped));
            }
            // RFC 1812, section 5.3.8: what is on the other side does not come from this one. Only a hairpin brings the
            // environment's own external addresses in, and `gwE` has sent that frame itself.
            let spoofed = world.external.contains(source) && frame[6..12] != world.router_wan;
            if !is_unicast_host(source) || world.internal.contains(source) || spoofed {
                let reason = Reason::SourceMartian;
                defects.push(Drop { reason, internal });
            }
            if source.is_link_local() {
                let reason = Reason::LinkLocal;
                defects.push(Drop { reason, internal });
            }
            (DESTINATION, internal, internal)
        }
        Direction::Out => {
            let new = world.external_of(source);
            if new.is_none() {
                defects.push(Drop::of(if world.internal.contains(source) {
                    Reason::SourceUnmapped
                } else {
                    Reason::SourceForeign
                }));
            }
            (SOURCE, new.map(|_| source), new)
        }
    };
    if frame[0] & 1 == 1 || !is_unicast_host(destination) {
        defects.push(Drop {
            reason: Reason::DestinationNotUnicast,
            // What comes in is refused before anybody is looked for.
            internal: internal.filter(|_| direction == Direction::Out),
        });
    }
    // RFC 3927, section 2.6.2: those never leave their link.
    if destination.is_link_local() {
        defects.push(Drop {
            reason: Reason::LinkLocal,
            internal: internal.filter(|_| direction == Direction::Out),
        });
    }
    let Some(new) = new else {
        return Verdict::Drop(defects);
    };
    let translated = match translate(world, direction, packet, own_side, new) {
        Ok(translated) => translated,
        Err(reason) => {
            defects.push(Drop { reason, internal });
            return Verdict::Drop(defects);
        }
    };
    if !defects.is_empty() {
        return Verdict::Drop(defects);
    }

    let mut bytes = frame[..ETHERNET].to_vec();
    bytes.extend(translated.bytes);
    bytes.extend_from_slice(padding);
    let either_zero = translated.either_zero.iter().map(|at| at + ETHERNET).collect();
    let hairpin = direction == Direction::Out && world.internal_of(destination).is_some();
    if hairpin {
        // RFC 4787, REQ-9: it is received again, so it must be addressed to the interface.
        bytes[..6].copy_from_slice(&world.router_wan);
        Verdict::Redirect(Frame { bytes, either_zero })
    } else {
        Verdict::Pass(Frame { bytes, either_zero })
    }
}

/// Whether RFC 1812, section 5.3.7, lets a router forward from or to an address: it is not in "this" network, loopback,
/// multicast (which is not routed here), or class E with the broadcast address.
pub(crate) fn is_unicast_host(address: Ipv4Addr) -> bool {
    let class_e = address.octets()[0] >= 240;
    !(address.octets()[0] == 0 || address.is_loopback() || address.is_multicast() || class_e)
}

/// Version, header length and total length.
pub(crate) fn lengths(packet: &[u8]) -> (u8, usize, usize) {
    (
        packet[0] >> 4,
        usize::from(packet[0] & 15) * 4,
        usize::from(word(packet, 2)),
    )
}

pub(crate) enum Fragment {
    Whole,
    First,
    Later,
}

pub(crate) fn fragment(packet: &[u8]) -> Fragment {
    let field = word(packet, 6);
    // The offset in units of eight bytes, and "more fragments".
    match (field & 0x1fff, field & 0x2000) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Where a protocol keeps a checksum over a pseudo header, and whether zero means none there.
fn transport_checksum(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        6 => Some((16, false)),
        17 | 136 => Some((6, true)),
        33 => Some((6, false)),
        // ICMP's covers no pseudo header; SCTP's CRC does not either; the others have none that covers addresses.
        _ => None,
    }
}

/// A whole IPv4 packet with the address at `side` replaced; an error when that cannot be done rightly.
fn translate(world: &World, direction: Direction, packet: &[u8], side: usize, new: Ipv4Addr) -> Result<Frame, Reason> {
    let (_, header_len, _) = lengths(packet);
    let fragment = fragment(packet);
    // RFC 1858: whoever sends a first fragment that short wants to hide something; a whole packet that short is cut off.
    let too_short = |whole| match fragment {
        Fragment::First => Err(Reason::TinyFragment),
        _ => Err(whole),
    };
    let mut after = Frame::exact(packet.to_vec());
    replace_address(&mut after, 0, header_len, side, new);
    if matches!(fragment, Fragment::Later) {
        return Ok(after);
    }
    let payload = &packet[header_len..];
    if packet[9] == ICMP {
        if payload.len() < 8 {
            return too_short(Reason::Truncated);
        }
        match payload[0] {
            // Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
            3 | 4 | 11 | 12 => {
                let change = icmp::Quote {
                    world,
                    direction,
                    outer_new: new,
                };
                match change.translate(&mut after, packet, header_len) {
                    Err(None) => return too_short(Reason::EmbeddedMalformed),
                    Err(Some(reason)) => return Err(reason),
                    Ok(()) => {}
                }
            }
            5 => return Err(Reason::IcmpRedirect),
            _ => {}
        }
    } else if let Some((at, _)) = transport_checksum(packet[9])
        && payload.len() < at + 2
    {
        return too_short(Reason::Truncated);
    } else {
        correct_transport(&mut after, packet, 0, header_len, packet.len());
    }
    Ok(after)
}

/// Replaces the address at `side` in the header that begins at `start`, and corrects the header's checksum.
pub(crate) fn replace_address(after: &mut Frame, start: usize, end: usize, side: usize, new: Ipv4Addr) {
    // Of a quoted packet the options may be cut off, but they do not change.
    let end = end.min(after.bytes.len());
    let before = checksum::sum(&after.bytes[start..end]);
    after.bytes[start + side..][..4].copy_from_slice(&new.octets());
    let now = checksum::sum(&after.bytes[start..end]);
    let field = Field {
        before,
        now,
        zero_is_none: false,
    };
    write(after, start + 10, &field);
}

/// Corrects the transport checksum, if it is there, of the packet whose header begins at `start`, whose payload begins at
/// `payload` and ends at `end`. `before` are the bytes as they were, addresses included.
pub(crate) fn correct_transport(after: &mut Frame, before: &[u8], start: usize, payload: usize, end: usize) {
    let protocol = before[start + 9];
    let Some((at, zero_is_none)) = transport_checksum(protocol) else {
        return;
    };
    if payload + at + 2 > end {
        return;
    }
    let covered = |bytes: &[u8]| {
        let pseudo = checksum::pseudo_header(&bytes[start..], protocol, end - payload);
        (pseudo + checksum::sum(&bytes[payload..end])) % 0xffff
    };
    let field = Field {
        before: covered(before),
        now: covered(&after.bytes),
        zero_is_none,
    };
    write(after, payload + at, &field);
}

/// Writes what the field must become.
pub(crate) fn write(after: &mut Frame, at: usize, field: &Field) {
    match field.correct(word(&after.bytes, at)) {
        Correction::Value(value) => after.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes()),
        Correction::Stay { either_zero: true } => after.either_zero.push(at),
        Correction::Stay { either_zero: false } => {}
    }
}

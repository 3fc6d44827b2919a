//! What an ICMP error quotes, at every length: RFC 5508, REQ-3 to REQ-5. Routers quote 8 bytes behind the header (RFC 792)
//! or as much as they like (RFC 1812, section 4.3.2.3), and extensions may follow (RFC 4884).

use std::net::Ipv4Addr;

use envnet_common::DropReason;

use crate::{
    harness::{Program, Row, run},
    names::{
        GUEST, GUEST_OUTSIDE, OUTSIDE, ROUTER, ROUTER_OUTSIDE, comes_in, goes_out, incoming, is_dropped, outgoing,
    },
    packet::{Packet, Payload, packet},
};

/// Port unreachable.
pub(crate) const UNREACHABLE: (u8, u8) = (3, 3);

/// Which way an error goes; the packet that it quotes went the other way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// The error `before` the translation becomes the one `after` it; both are made for an own address.
    pub(crate) fn row(self, note: &str, error: impl Fn(Ipv4Addr) -> Packet) -> Row {
        let note = format!("{note} {self:?}");
        let [outside, inside] = [GUEST_OUTSIDE, GUEST].map(|own| match self {
            Self::In => error(own).to(own),
            Self::Out => error(own).from(own),
        });
        match self {
            Self::In => comes_in(note, &outside, &inside),
            Self::Out => goes_out(note, &inside, &outside),
        }
    }

    /// The quoted packet with an own address.
    fn quoted(self, inner: &Packet, own: Ipv4Addr) -> Vec<u8> {
        match self {
            Self::In => inner.clone().from(own).bytes(),
            Self::Out => inner.clone().to(own).bytes(),
        }
    }

    /// The own address before the translation.
    fn before(self) -> Ipv4Addr {
        match self {
            Self::In => GUEST_OUTSIDE,
            Self::Out => GUEST,
        }
    }

    /// The first `length` bytes of the packet that an error quotes, when `visible` of them are in the same frame. A
    /// transport checksum that is not wholly there cannot be corrected.
    pub(crate) fn quote(self, inner: &Packet, own: Ipv4Addr, length: usize, visible: usize) -> Vec<u8> {
        let mut bytes = self.quoted(inner, own);
        if let Some(at) = checksum(inner).filter(|at| *at < bytes.len() && at + 2 > visible.min(length)) {
            bytes[at..at + 2].copy_from_slice(&self.quoted(inner, self.before())[at..at + 2]);
        }
        bytes.truncate(length);
        bytes
    }
}

/// Where a packet has a checksum over its addresses.
fn checksum(inner: &Packet) -> Option<usize> {
    let at = match inner.payload {
        Payload::Tcp => 16,
        Payload::Udp(_) | Payload::UdpLite | Payload::Dccp => 6,
        _ => return None,
    };
    let later = inner.piece.as_ref().is_some_and(|piece| piece.start > 0);
    (!later).then_some(20 + inner.options.len() + at)
}

/// An error with what it quotes, and more.
pub(crate) fn message(kind: (u8, u8), quoted: &[u8]) -> Packet {
    let rest = [&[0, 0, 5, 0x78][..], quoted].concat();
    packet(OUTSIDE, OUTSIDE, Payload::Icmp(kind.0, kind.1, rest))
}

fn plain(payload: Payload) -> Packet {
    packet(OUTSIDE, OUTSIDE, payload)
}

fn with_options(payload: Payload, length: usize) -> Packet {
    Packet {
        options: vec![1; length],
        ..plain(payload)
    }
}

fn everything() -> Vec<Packet> {
    let payloads = [
        Payload::Tcp,
        Payload::Udp(vec![0x17; 21]),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Sctp,
        Payload::Gre,
        Payload::Esp,
        Payload::Echo,
        Payload::Raw(99, vec![0x99; 12]),
    ];
    let mut packets: Vec<_> = payloads.into_iter().map(plain).collect();
    for length in [4, 12, 40] {
        packets.extend([Payload::Tcp, Payload::Udp(vec![3; 5])].map(|payload| with_options(payload, length)));
    }
    for piece in [0..24, 24..48, 32..56] {
        packets.push(plain(Payload::Tcp).piece(piece.clone()));
        packets.push(plain(Payload::Udp(vec![3; 48])).piece(piece));
    }
    packets
}

/// Whatever is cut off: ports, half a checksum, options.
#[test]
fn every_packet_at_every_length() {
    let mut rows = Vec::new();
    for inner in everything() {
        for length in 20..=inner.bytes().len() {
            for way in Way::BOTH {
                let note = format!("{length} bytes of {inner:?}");
                rows.push(way.row(&note, |own| {
                    message(UNREACHABLE, &way.quote(&inner, own, length, length))
                }));
            }
        }
    }
    run(&rows);
}

/// Two addresses are the least that an error has to quote.
#[test]
fn too_little_at_every_length() {
    let mut rows = Vec::new();
    for kind in [(3, 3), (4, 0), (11, 0), (12, 0)] {
        for length in 0..20 {
            let quoted = |way: Way, own| message(kind, &way.quote(&plain(Payload::Tcp), own, length, length));
            let inward = incoming(&quoted(Way::In, GUEST_OUTSIDE).to(GUEST_OUTSIDE));
            let outward = outgoing(&quoted(Way::Out, GUEST).from(GUEST));
            for (program, frame) in [(Program::Ingress, inward), (Program::Egress, outward)] {
                let note = format!("{kind:?} with {length} bytes, {program:?}");
                let reason = DropReason::EmbeddedMalformed;
                rows.push(is_dropped(note, program, frame, reason, Some(GUEST)));
            }
        }
    }
    run(&rows);
}

/// Type and code stay (RFC 5508, REQ-4b and REQ-5b), those that nobody has named yet, too.
#[test]
fn every_type_and_code() {
    let mut rows = Vec::new();
    for kind in [3, 4, 11, 12] {
        for code in 0..=u8::MAX {
            for way in Way::BOTH {
                let inner = plain(Payload::Udp(vec![1, 2, 3]));
                rows.push(way.row(&format!("type {kind}, code {code}"), |own| {
                    message((kind, code), &way.quote(&inner, own, 28, 28))
                }));
            }
        }
    }
    run(&rows);
}

/// A quoted packet that is no IPv4 packet, or one with a header too short to be one.
#[test]
fn every_broken_first_byte() {
    let mut rows = Vec::new();
    for first in 0..=u8::MAX {
        let broken = |way: Way, own| {
            let mut quoted = way.quote(&plain(Payload::Sctp), own, 36, 36);
            quoted[0] = first;
            message(UNREACHABLE, &quoted)
        };
        // With another header length the sum of the quoted header is wrong, and stays so by the same difference.
        if first >> 4 == 4 && first & 0x0f >= 5 {
            rows.extend(Way::BOTH.map(|way| way.row(&format!("{first:02x}"), |own| broken(way, own))));
            continue;
        }
        for (program, frame) in [
            (
                Program::Ingress,
                incoming(&broken(Way::In, GUEST_OUTSIDE).to(GUEST_OUTSIDE)),
            ),
            (Program::Egress, outgoing(&broken(Way::Out, GUEST).from(GUEST))),
        ] {
            let note = format!("{first:02x}, {program:?}");
            let reason = DropReason::EmbeddedMalformed;
            rows.push(is_dropped(note, program, frame, reason, Some(GUEST)));
        }
    }
    run(&rows);
}

/// The quoted total length says that there is no transport header, or much more than is quoted.
#[test]
fn quoted_lengths_that_lie() {
    let mut rows = Vec::new();
    for total in [0, 19, 20, 27, 28, 29, 1500, 0xffff_u16] {
        for way in Way::BOTH {
            let inner = plain(Payload::Udp(vec![6; 8]));
            rows.push(way.row(&format!("total length {total}"), |own| {
                // As the packet would be if it had no checksum to correct.
                let visible = if total < 28 { 0 } else { 36 };
                let mut quoted = way.quote(&inner, own, 36, visible);
                quoted[2..4].copy_from_slice(&total.to_be_bytes());
                message(UNREACHABLE, &quoted)
            }));
        }
    }
    run(&rows);
}

/// RFC 4884: the quote is padded to 128 bytes, its length in words is in the second half of the unused field, and the
/// extensions behind it have a checksum of their own.
#[test]
fn extensions_behind_every_packet() {
    let mut rows = Vec::new();
    let extension = [0x20, 0, 0x4a, 0x5f, 0, 8, 1, 1, 0x3e, 0x81, 0x01, 0xff];
    for inner in everything() {
        for kind in [(3, 1), (11, 0), (12, 0)] {
            for way in Way::BOTH {
                rows.push(way.row(&format!("{kind:?} {inner:?}"), |own| {
                    let mut quoted = way.quote(&inner, own, 128, 128);
                    quoted.resize(128, 0);
                    let rest = [&[0, 32, 0, 0], &quoted[..], &extension].concat();
                    packet(OUTSIDE, OUTSIDE, Payload::Icmp(kind.0, kind.1, rest))
                }));
            }
        }
    }
    run(&rows);
}

/// Nobody may send an error about an error (RFC 1812, section 4.3.2.7), and who does is not answered; but what the inner
/// one quotes stays as its sender saw it.
#[test]
fn errors_about_errors_at_every_length() {
    let mut rows = Vec::new();
    for innermost in [
        packet(OUTSIDE, GUEST, Payload::Tcp),
        packet(GUEST_OUTSIDE, OUTSIDE, Payload::Tcp),
    ] {
        let inner = message((11, 0), &innermost.bytes()[..28]);
        for length in 20..=inner.bytes().len() {
            for way in Way::BOTH {
                rows.push(way.row(&format!("{length} bytes, {innermost:?}"), |own| {
                    message(UNREACHABLE, &way.quote(&inner, own, length, length))
                }));
            }
        }
    }
    run(&rows);
}

/// Options of every length before the error itself and before what it quotes (RFC 5508, REQ-3b).
#[test]
fn options_everywhere() {
    let mut rows = Vec::new();
    for outer in (0..=40).step_by(4) {
        for inner in (0..=40).step_by(4) {
            for way in Way::BOTH {
                let quoted = with_options(Payload::Udp(vec![8; 4]), inner);
                rows.push(way.row(&format!("{outer} and {inner} bytes"), |own| Packet {
                    options: vec![1; outer],
                    ..message((3, 4), &way.quote(&quoted, own, usize::MAX, usize::MAX))
                }));
            }
        }
    }
    run(&rows);
}

/// Any router on the path may report, not only the one that the packet went to: RFC 4787, REQ-12a.
#[test]
fn reporters_that_are_not_the_destination() {
    let inner = plain(Payload::Tcp);
    let rows: Vec<Row> = [
        [192, 0, 2, 1],
        [172, 16, 0, 1],
        [172, 16, 2, 2],
        [10, 0, 1, 1],
        [100, 64, 0, 1],
        [1, 0, 0, 1],
    ]
    .map(|reporter| {
        Way::In.row(&format!("{reporter:?}"), |own| {
            message((11, 0), &Way::In.quote(&inner, own, 28, 28)).from(reporter.into())
        })
    })
    .to_vec();
    run(&rows);
}

/// The router has a mapping of its own, and gets errors about what it has sent.
#[test]
fn errors_for_the_router() {
    let error = |own| message((3, 1), &plain(Payload::Echo).from(own).bytes()).to(own);
    run(&[comes_in("in", &error(ROUTER_OUTSIDE), &error(ROUTER))]);
}

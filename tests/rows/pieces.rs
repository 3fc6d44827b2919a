//! Fragments wherever a datagram is cut: RFC 4787, REQ-14. A row knows nothing of the others, so no order matters.

use std::ops::Range;

use envnet_common::DropReason;

use crate::{
    directions::both_ways,
    harness::{Outcome, Program, Row, run},
    names::{GUEST, GUEST_OUTSIDE, IPV4, OUTSIDE, ROUTER_WAN, SIBLING_OUTSIDE, incoming, is_dropped, outgoing, row},
    packet::{Payload, frame, packet},
    quotes::{UNREACHABLE, Way, message},
};

/// Length of the header of an ICMP error.
const ERROR: usize = 8;

fn piece(payload: &Payload, piece: &Range<usize>) -> [Row; 2] {
    both_ways(&format!("{payload:?} {piece:?}"), |source, destination| {
        packet(source, destination, payload.clone())
            .piece(piece.clone())
            .bytes()
    })
}

fn size(payload: &Payload) -> usize {
    packet(OUTSIDE, OUTSIDE, payload.clone()).bytes().len() - 20
}

fn everything() -> [Payload; 8] {
    [
        Payload::Tcp,
        Payload::Udp(vec![0x17; 60]),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Sctp,
        Payload::Esp,
        Payload::Echo,
        Payload::Raw(99, vec![0x99; 61]),
    ]
}

/// First, middle and last fragments, of one unit, of some, and of all that is left; many overlap.
#[test]
fn cut_anywhere() {
    let mut rows = Vec::new();
    for payload in everything() {
        let end = size(&payload);
        for start in (0..end).step_by(8) {
            // TCP has its checksum behind the second cut, and that is another row's.
            if matches!((&payload, start), (Payload::Tcp, 8 | 16)) {
                continue;
            }
            // A first fragment needs its checksum.
            let shortest = if start == 0 { 24 } else { 8 };
            let mut stops = vec![start + shortest, start + 32, start + 40, end];
            stops.retain(|stop| *stop <= end);
            stops.dedup();
            rows.extend(stops.iter().flat_map(|stop| piece(&payload, &(start..*stop))));
        }
    }
    run(&rows);
}

/// Whoever sends a first fragment that ends before its checksum wants it unseen: RFC 1858.
#[test]
fn first_fragments_of_every_small_size() {
    let mut rows = Vec::new();
    for (payload, needed) in [
        (Payload::Tcp, 18),
        (Payload::Udp(vec![0x17; 60]), 8),
        (Payload::UdpLite, 8),
        (Payload::Echo, 8),
        (Payload::Sctp, 0),
        (Payload::Gre, 0),
        (Payload::Raw(99, vec![0x99; 61]), 0),
    ] {
        for length in 0..needed {
            let tiny = packet(OUTSIDE, GUEST_OUTSIDE, payload.clone()).piece(0..length);
            let (inward, outward) = (incoming(&tiny), outgoing(&tiny.clone().from(GUEST).to(OUTSIDE)));
            for (program, frame) in [(Program::Ingress, inward), (Program::Egress, outward)] {
                let note = format!("{payload:?}, {length} bytes, {program:?}");
                rows.push(is_dropped(note, program, frame, DropReason::TinyFragment, Some(GUEST)));
            }
        }
        let long_enough = needed..24.min(size(&payload));
        rows.extend(long_enough.flat_map(|length| piece(&payload, &(0..length))));
    }
    run(&rows);
}

/// A fragment that starts inside the TCP header is data like any other, though RFC 1858 would have a firewall drop it: the
/// first fragment that belongs to it did not pass. One that ends behind the largest datagram is the receiver's to refuse.
#[test]
fn fragments_that_should_not_be() {
    let segment = packet(GUEST, OUTSIDE, Payload::Tcp).bytes()[20..].to_vec();
    let mut rows = Vec::new();
    for inside_the_header in [8..16, 8..24, 16..32] {
        rows.extend(piece(&Payload::Raw(6, segment.clone()), &inside_the_header));
    }
    for start in [65_440, 65_456, 65_528] {
        // Without an etherparse checksum, which covers 65,535 bytes at most.
        let payload = Payload::Raw(17, vec![0x42; 65_700]);
        let note = format!("{start}");
        rows.extend(both_ways(&note, |source, destination| {
            packet(source, destination, payload.clone())
                .piece(start..start + 80)
                .bytes()
        }));
    }
    run(&rows);
}

/// What stands in a later fragment is data, even where it looks like an error about somebody.
#[test]
fn data_that_looks_like_an_error() {
    let mut rows = Vec::new();
    for own in [GUEST, GUEST_OUTSIDE] {
        let quoted = packet(own, own, Payload::Tcp).bytes();
        let looks = [&[0; 16], &[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let payload = Payload::Raw(1, looks);
        rows.extend(piece(&payload, &(16..64)));
        rows.extend(piece(&payload, &(16..size(&payload))));
    }
    run(&rows);
}

/// The checksum of an ICMP message covers all its fragments, but only the first one has something to correct: what it
/// quotes is translated as far as it reaches.
#[test]
fn errors_cut_anywhere() {
    let mut rows = Vec::new();
    for payload in [Payload::Tcp, Payload::Udp(vec![1; 40]), Payload::Sctp, Payload::Echo] {
        let inner = packet(OUTSIDE, OUTSIDE, payload);
        let whole = inner.bytes().len();
        for cut in (0..ERROR + whole).step_by(8).skip(1) {
            for way in Way::BOTH {
                let error = |own| message(UNREACHABLE, &way.quote(&inner, own, whole, cut - ERROR));
                let note = format!("{:?} cut at {cut}", inner.payload);
                if cut >= ERROR + 20 {
                    rows.push(way.row(&(note.clone() + ", first"), |own| error(own).piece(0..cut)));
                    rows.push(way.row(&(note + ", last"), |own| error(own).piece(cut..ERROR + whole)));
                    continue;
                }
                let (program, frame) = match way {
                    Way::In => (
                        Program::Ingress,
                        incoming(&error(GUEST_OUTSIDE).to(GUEST_OUTSIDE).piece(0..cut)),
                    ),
                    Way::Out => (Program::Egress, outgoing(&error(GUEST).from(GUEST).piece(0..cut))),
                };
                rows.push(is_dropped(note, program, frame, DropReason::TinyFragment, Some(GUEST)));
            }
        }
    }
    run(&rows);
}

/// From a guest to its sibling's external address: each fragment is turned round for itself.
#[test]
fn hairpinned() {
    let mut rows = Vec::new();
    for payload in everything() {
        let end = size(&payload);
        for piece in [0..24, 24..32, 24..end] {
            let sent = |from| {
                let packet = packet(from, SIBLING_OUTSIDE, payload.clone());
                packet.piece(piece.start.min(end)..piece.end.min(end))
            };
            rows.push(row(
                format!("{payload:?} {piece:?}"),
                Program::Egress,
                outgoing(&sent(GUEST)),
                Outcome::Redirect(frame(ROUTER_WAN, ROUTER_WAN, IPV4, &sent(GUEST_OUTSIDE).bytes())),
            ));
        }
    }
    run(&rows);
}

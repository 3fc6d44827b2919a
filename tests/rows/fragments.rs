//! Fragments in any order: RFC 4787, REQ-13 and REQ-14. Each row is alone, so none can depend on another.

use envnet_common::DropReason;

use crate::{
    harness::{Program, run},
    names::{GUEST, GUEST_OUTSIDE, OUTSIDE, comes_in, goes_out, incoming, is_dropped, outgoing},
    packet::{Payload, Sum, packet},
};

#[test]
fn first_and_later_fragments() {
    let mut rows = Vec::new();
    for payload in [
        Payload::Tcp,
        Payload::Udp(vec![7; 40]),
        Payload::UdpLite,
        Payload::Gre,
        Payload::Echo,
    ] {
        let inward = packet(OUTSIDE, GUEST_OUTSIDE, payload.clone());
        let outward = packet(GUEST, OUTSIDE, payload.clone());
        let end = inward.bytes().len() - 20;
        for piece in [0..24, 8..16, 24..end] {
            let [inward, outward] = [&inward, &outward].map(|packet| packet.clone().piece(piece.clone()));
            // The checksum of the whole datagram is in the first piece, and must be right for the whole afterwards.
            rows.push(comes_in(
                format!("{payload:?} {piece:?} in"),
                &inward,
                &inward.clone().to(GUEST),
            ));
            rows.push(goes_out(
                format!("{payload:?} {piece:?} out"),
                &outward,
                &outward.clone().from(GUEST_OUTSIDE),
            ));
            let inward = inward.options();
            rows.push(comes_in(
                format!("{payload:?} {piece:?} options"),
                &inward,
                &inward.clone().to(GUEST),
            ));
        }
    }
    run(&rows);
}

/// RFC 1858: the transport header must be in the first fragment.
#[test]
fn first_fragments_without_their_checksum() {
    let row = |payload: Payload, length: usize| {
        let inward = packet(OUTSIDE, GUEST_OUTSIDE, payload.clone()).piece(0..length);
        let outward = packet(GUEST, OUTSIDE, payload.clone()).piece(0..length);
        let note = format!("{payload:?} of {length}");
        let reason = DropReason::TinyFragment;
        [
            is_dropped(
                format!("{note} in"),
                Program::Ingress,
                incoming(&inward),
                reason,
                Some(GUEST),
            ),
            is_dropped(
                format!("{note} out"),
                Program::Egress,
                outgoing(&outward),
                reason,
                Some(GUEST),
            ),
        ]
    };
    run(&[
        row(Payload::Tcp, 8),
        row(Payload::Tcp, 16),
        row(Payload::Udp(vec![0; 9]), 0),
        row(Payload::Echo, 0),
    ]
    .concat());
}

#[test]
fn the_smallest_first_fragments_that_do() {
    let rows = [(Payload::Udp(vec![0; 40]), 8), (Payload::Tcp, 24), (Payload::Echo, 8)].map(|(payload, length)| {
        let inward = packet(OUTSIDE, GUEST_OUTSIDE, payload).piece(0..length);
        comes_in(format!("{inward:?}"), &inward, &inward.clone().to(GUEST))
    });
    run(&rows);
}

#[test]
fn no_udp_checksum_in_a_first_fragment() {
    let inward = packet(OUTSIDE, GUEST_OUTSIDE, Payload::Udp(vec![7; 40]))
        .sum(Sum::Absent)
        .piece(0..16);
    run(&[comes_in("in", &inward, &inward.clone().to(GUEST))]);
}

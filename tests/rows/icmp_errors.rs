//! ICMP errors, and the packet that they quote: RFC 5508, REQ-3 to REQ-5 and REQ-11.

use envnet_common::DropReason;

use crate::{
    harness::{Program, Row, run},
    names::{
        ELSEWHERE, GUEST, GUEST_OUTSIDE, OUTSIDE, ROUTER, ROUTER_OUTSIDE, SIBLING, SIBLING_OUTSIDE, STRANGER, comes_in,
        goes_out, incoming, is_dropped, outgoing,
    },
    packet::{Packet, Payload, Sum, packet},
};

/// As much as anybody quotes.
const ALL: usize = usize::MAX;
/// Port unreachable.
const UNREACHABLE: (u8, u8) = (3, 3);

fn error(kind: (u8, u8), quoted: usize, inner: Packet) -> Packet {
    packet(
        OUTSIDE,
        OUTSIDE,
        Payload::Error(kind.0, kind.1, quoted, Box::new(inner), Vec::new()),
    )
}

/// An error about a packet that the guest sent outside.
fn comes_in_about(description: String, kind: (u8, u8), quoted: usize, inner: &Packet) -> Row {
    let seen = |outer, embedded| error(kind, quoted, inner.clone().from(embedded)).to(outer);
    comes_in(
        description + " in",
        &seen(GUEST_OUTSIDE, GUEST_OUTSIDE),
        &seen(GUEST, GUEST),
    )
}

/// An error of the guest's about a packet that came from outside.
fn goes_out_about(description: String, kind: (u8, u8), quoted: usize, inner: &Packet) -> Row {
    let seen = |outer, embedded| error(kind, quoted, inner.clone().to(embedded)).from(outer);
    goes_out(
        description + " out",
        &seen(GUEST, GUEST),
        &seen(GUEST_OUTSIDE, GUEST_OUTSIDE),
    )
}

fn both_ways(description: &str, kind: (u8, u8), quoted: usize, inner: &Packet) -> [Row; 2] {
    let inner = inner.clone().from(OUTSIDE).to(OUTSIDE);
    [
        comes_in_about(description.to_owned(), kind, quoted, &inner),
        goes_out_about(description.to_owned(), kind, quoted, &inner),
    ]
}

fn plain(payload: Payload) -> Packet {
    packet(OUTSIDE, OUTSIDE, payload)
}

fn udp() -> Packet {
    plain(Payload::Udp(b"quoted".to_vec()))
}

#[test]
fn every_kind_of_error() {
    let kinds = [(3, 0), (3, 1), (3, 4), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0)];
    let rows: Vec<Row> = kinds
        .iter()
        .flat_map(|kind| both_ways(&format!("{kind:?}"), *kind, 28, &udp()))
        .collect();
    run(&rows);
}

#[test]
fn every_protocol_inside() {
    let payloads = [
        Payload::Tcp,
        Payload::Udp(vec![1, 2, 3]),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Sctp,
        Payload::Gre,
        Payload::Echo,
        Payload::Raw(99, vec![]),
    ];
    let mut rows = Vec::new();
    for payload in payloads {
        for inner in [plain(payload.clone()), plain(payload.clone()).options()] {
            // RFC 792 asks for 28 bytes, or 36 with these options. The others end before and behind a checksum.
            for quoted in [20, 26, 28, 34, 36, 38, 44, 46, ALL] {
                let note = format!("{quoted} bytes of {payload:?} with {} of options", inner.options.len());
                rows.extend(both_ways(&note, UNREACHABLE, quoted, &inner));
            }
        }
    }
    run(&rows);
}

#[test]
fn checksums_inside() {
    let wrong = Sum::Wrong(0x1234);
    let mut rows = Vec::new();
    for inner in [plain(Payload::Tcp), udp()] {
        rows.extend(both_ways("wrong inside", UNREACHABLE, ALL, &inner.clone().sum(wrong)));
        rows.extend(both_ways(
            "wrong header inside",
            UNREACHABLE,
            ALL,
            &inner.header_sum(wrong),
        ));
    }
    rows.extend(both_ways(
        "no UDP checksum inside",
        UNREACHABLE,
        ALL,
        &udp().sum(Sum::Absent),
    ));
    for inner in [plain(Payload::Tcp), udp().sum(Sum::Absent), udp()] {
        let before = error(UNREACHABLE, ALL, inner.clone().from(GUEST_OUTSIDE))
            .to(GUEST_OUTSIDE)
            .sum(wrong);
        let after = error(UNREACHABLE, ALL, inner.from(GUEST)).to(GUEST).sum(wrong);
        rows.push(comes_in("wrong outside", &before, &after));
    }
    run(&rows);
}

#[test]
fn a_udp_checksum_inside_that_becomes_zero() {
    let inner = |word: u16| plain(Payload::Udp(word.to_be_bytes().to_vec()));
    let becomes_zero = |word: &u16| inner(*word).from(GUEST).bytes()[26..28] == [0xff, 0xff];
    let word = (0..=u16::MAX).find(becomes_zero).unwrap();
    let was_zero = |word: &u16| inner(*word).from(GUEST_OUTSIDE).bytes()[26..28] == [0xff, 0xff];
    let other = (0..=u16::MAX).find(was_zero).unwrap();
    run(&[
        comes_in_about("becomes zero".to_owned(), UNREACHABLE, ALL, &inner(word)),
        comes_in_about("was zero".to_owned(), UNREACHABLE, ALL, &inner(other)),
    ]);
}

#[test]
fn fragments_inside_and_outside() {
    let datagram = plain(Payload::Udp(vec![9; 64]));
    let mut rows = Vec::new();
    for piece in [0..32, 8..24, 32..72] {
        rows.extend(both_ways(
            &format!("about {piece:?}"),
            (11, 1),
            ALL,
            &datagram.clone().piece(piece),
        ));
    }
    // The ICMP checksum is that of the whole message, of which the first fragment has the start.
    let before = error(UNREACHABLE, ALL, datagram.clone().from(GUEST_OUTSIDE)).to(GUEST_OUTSIDE);
    let after = error(UNREACHABLE, ALL, datagram.from(GUEST)).to(GUEST);
    for piece in [0..40, 40..100] {
        let [before, after] = [&before, &after].map(|packet| packet.clone().piece(piece.clone()));
        rows.push(comes_in(format!("fragment {piece:?} of an error"), &before, &after));
    }
    let tiny = incoming(&before.piece(0..24));
    rows.push(is_dropped(
        "no addresses yet",
        Program::Ingress,
        tiny,
        DropReason::TinyFragment,
        Some(GUEST),
    ));
    run(&rows);
}

/// RFC 4884: what follows the quoted packet is no part of it, even where a checksum would be.
#[test]
fn extensions_stay() {
    let message = |own, inner: Packet, quoted| {
        let extension = [&[0; 100][..], &[0x20, 0, 0, 0, 0, 8, 1, 1, 0xde, 0xad, 0xbe, 0xef]].concat();
        packet(OUTSIDE, own, Payload::Error(11, 0, quoted, Box::new(inner), extension))
    };
    let tcp_without_checksum = plain(Payload::Raw(6, vec![0; 8]));
    let rows = [udp(), tcp_without_checksum].map(|inner| {
        let [before, after] = [GUEST_OUTSIDE, GUEST].map(|own| message(own, inner.clone().from(own), ALL));
        comes_in(format!("{:?}", inner.payload), &before, &after)
    });
    run(&rows);
}

/// Only the addresses of an ICMP message inside an error are translated: no error quotes an error's quote.
#[test]
fn errors_inside_errors() {
    let innermost = packet(OUTSIDE, GUEST, Payload::Tcp);
    run(&both_ways("", (11, 0), ALL, &error(UNREACHABLE, 28, innermost)));
}

#[test]
fn the_router_reports_other_guests_packets() {
    let about = |outer, embedded| error((11, 0), 28, udp().to(embedded)).from(outer);
    run(&[
        goes_out(
            "before translation",
            &about(ROUTER, GUEST),
            &about(ROUTER_OUTSIDE, GUEST_OUTSIDE),
        ),
        goes_out(
            "about itself",
            &about(ROUTER, ROUTER),
            &about(ROUTER_OUTSIDE, ROUTER_OUTSIDE),
        ),
    ]);
}

#[test]
fn errors_about_nobody() {
    let unmapped = DropReason::EmbeddedUnmapped;
    let mut rows = Vec::new();
    for source in [OUTSIDE, GUEST, SIBLING_OUTSIDE, ELSEWHERE] {
        let frame = incoming(&error(UNREACHABLE, 28, udp().from(source)).to(GUEST_OUTSIDE));
        rows.push(is_dropped(
            format!("in about {source}"),
            Program::Ingress,
            frame,
            unmapped,
            Some(GUEST),
        ));
    }
    for destination in [OUTSIDE, GUEST_OUTSIDE, STRANGER, ELSEWHERE] {
        let frame = outgoing(&error(UNREACHABLE, 28, udp().to(destination)).from(GUEST));
        rows.push(is_dropped(
            format!("out about {destination}"),
            Program::Egress,
            frame,
            unmapped,
            Some(GUEST),
        ));
    }
    // An error to somebody who has not sent what it quotes, with an address inside that nobody outside must see.
    for source in [ELSEWHERE, SIBLING, STRANGER, GUEST] {
        let frame = outgoing(&error(UNREACHABLE, 28, udp().from(source).to(GUEST)).from(GUEST));
        rows.push(is_dropped(
            format!("out, as if {source} had asked"),
            Program::Egress,
            frame,
            unmapped,
            Some(GUEST),
        ));
    }
    run(&rows);
}

#[test]
fn errors_that_are_broken() {
    let malformed = DropReason::EmbeddedMalformed;
    let row = |description, frame, reason| is_dropped(description, Program::Ingress, frame, reason, Some(GUEST));
    let quoting = |quoted| incoming(&error(UNREACHABLE, quoted, udp().from(GUEST_OUTSIDE)).to(GUEST_OUTSIDE));
    let first_byte = |byte| {
        let mut frame = quoting(28);
        frame[42] = byte;
        frame
    };
    run(&[
        row("quotes nothing", quoting(0), malformed),
        row("quotes 19 bytes", quoting(19), malformed),
        row("quotes IPv6", first_byte(0x65), malformed),
        row("quoted header length 16", first_byte(0x44), malformed),
    ]);
}

#[test]
fn redirects_concern_one_link() {
    let redirect = |inner| error((5, 1), 28, inner);
    let inward = incoming(&redirect(udp().from(GUEST_OUTSIDE)).to(GUEST_OUTSIDE));
    let outward = outgoing(&redirect(udp().to(GUEST)).from(GUEST));
    run(&[
        is_dropped("in", Program::Ingress, inward, DropReason::IcmpRedirect, Some(GUEST)),
        is_dropped("out", Program::Egress, outward, DropReason::IcmpRedirect, Some(GUEST)),
    ]);
}

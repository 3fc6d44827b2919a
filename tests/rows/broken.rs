//! Frames that are cut short, lie about what they are, or are not what a router takes: RFC 1812, section 5.2.2.

use envnet_common::DropReason;

use crate::{
    directions::{comes_in_from, goes_out_to},
    harness::{Program, Row, run},
    names::{
        EVERYBODY, GUEST, GUEST_OUTSIDE, NEIGHBOUR, OUTSIDE, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN, incoming, is_dropped,
        outgoing,
    },
    packet::{Payload, frame, packet},
};

const ETHERNET: usize = 14;
const IP: usize = 20;
const ARP_FRAME: usize = 42;
const ARP: u16 = 0x0806;

/// The frames with this packet, both ways.
fn frames(payload: &Payload) -> [(Program, Vec<u8>); 2] {
    let inward = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, payload.clone()));
    let outward = outgoing(&packet(GUEST, OUTSIDE, payload.clone()));
    [(Program::Ingress, inward), (Program::Egress, outward)]
}

/// A question for the guest, and one of the router's.
fn questions() -> [(Program, Vec<u8>); 2] {
    let body = |mac: [u8; 6], asker: std::net::Ipv4Addr, asked: std::net::Ipv4Addr| {
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        [&head[..], &mac, &asker.octets(), &[0; 6], &asked.octets()].concat()
    };
    [
        (
            Program::Ingress,
            frame(EVERYBODY, NEIGHBOUR, ARP, &body(NEIGHBOUR, OUTSIDE, ROUTER_OUTSIDE)),
        ),
        (
            Program::Egress,
            frame(EVERYBODY, ROUTER_WAN, ARP, &body(ROUTER_WAN, ROUTER, OUTSIDE)),
        ),
    ]
}

#[test]
fn frames_of_every_length() {
    let mut rows = Vec::new();
    for payload in [
        Payload::Tcp,
        Payload::Udp(vec![1; 9]),
        Payload::Echo,
        Payload::Raw(99, vec![2; 40]),
    ] {
        for (program, whole) in frames(&payload) {
            // The kernel's test run refuses IPv4 frames without a whole header; `parse` has a test for them.
            for length in ETHERNET + IP..whole.len() {
                let note = format!("{length} bytes, {payload:?}, {program:?}");
                let frame = whole[..length].to_vec();
                rows.push(is_dropped(note, program, frame, DropReason::MalformedIpv4, None));
            }
        }
    }
    run(&rows);
}

#[test]
fn every_version_and_header_length() {
    let mut rows = Vec::new();
    for first in 0..=u8::MAX {
        let words = usize::from(first & 0x0f);
        // Twenty bytes behind a whole header: TCP has no checksum any more where options take them.
        for (program, mut frame) in frames(&Payload::Raw(6, vec![0; 20])) {
            let note = format!("{first:02x}, {program:?}");
            let (reason, internal) = if first >> 4 != 4 || words < 5 || words * 4 > 40 {
                (DropReason::MalformedIpv4, None)
            } else if words * 4 + 18 > 40 {
                (DropReason::Truncated, Some(GUEST))
            } else {
                continue;
            };
            frame[ETHERNET] = first;
            rows.push(is_dropped(note, program, frame, reason, internal));
        }
    }
    run(&rows);
}

#[test]
fn every_total_length_that_lies() {
    let mut rows = Vec::new();
    for (payload, needed) in [(Payload::Tcp, 18), (Payload::Udp(vec![1; 9]), 8), (Payload::Echo, 8)] {
        for (program, whole) in frames(&payload) {
            let longest = whole.len() - ETHERNET;
            let lies = (0..IP + needed)
                .chain(longest + 1..longest + 64)
                .chain([0x7fff, 0xffff]);
            for total in lies {
                let (reason, internal) = if (IP..=longest).contains(&total) {
                    (DropReason::Truncated, Some(GUEST))
                } else {
                    (DropReason::MalformedIpv4, None)
                };
                let mut frame = whole.clone();
                frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
                let note = format!("{total} of {longest}, {payload:?}, {program:?}");
                rows.push(is_dropped(note, program, frame, reason, internal));
            }
        }
    }
    run(&rows);
}

/// Tags of every kind, once, twice and around ARP; and everything else that is neither IPv4 nor ARP.
#[test]
fn every_ethertype() {
    let bytes = packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp).bytes();
    let outward = packet(GUEST, OUTSIDE, Payload::Tcp).bytes();
    let others = (0..=0xffff_u16)
        .step_by(257)
        .filter(|ethertype| !matches!(*ethertype, 0x8100 | 0x88a8));
    let others = others.chain([
        0x0801, 0x0807, 0x8035, 0x8847, 0x8863, 0x8864, 0x86dd, 0x88cc, 0x88e5, 0x9100, 0x9200,
    ]);
    let mut rows = Vec::new();
    for ethertype in others {
        for (program, frame) in [
            (Program::Ingress, frame(ROUTER_WAN, NEIGHBOUR, ethertype, &bytes)),
            (Program::Egress, frame(NEIGHBOUR, ROUTER_WAN, ethertype, &outward)),
        ] {
            let note = format!("{ethertype:04x}, {program:?}");
            rows.push(is_dropped(note, program, frame, DropReason::NotIpv4, None));
        }
    }
    let question = &questions()[0].1[ETHERNET..];
    for tag in [0x8100, 0x88a8_u16] {
        for body in [
            [&[0, 1, 8, 0], &bytes[..]].concat(),
            [&[0xe0, 0, 8, 0], &bytes[..]].concat(),
            [&[0, 0, 8, 6], question].concat(),
            [&[0, 1, 0x81, 0, 0, 2, 8, 0], &bytes[..]].concat(),
            vec![0, 1],
            vec![],
        ] {
            let note = format!("{tag:04x}, then {:x?}", &body[..body.len().min(8)]);
            let inward = frame(ROUTER_WAN, NEIGHBOUR, tag, &body);
            let outward = frame(NEIGHBOUR, ROUTER_WAN, tag, &body);
            rows.push(is_dropped(
                note.clone(),
                Program::Ingress,
                inward,
                DropReason::VlanTagged,
                None,
            ));
            rows.push(is_dropped(note, Program::Egress, outward, DropReason::NotIpv4, None));
        }
    }
    run(&rows);
}

/// RFC 826 for Ethernet and IPv4, questions and answers: one bit of the first eight bytes makes it something else.
#[test]
fn arp_with_any_bit_wrong() {
    let mut rows = Vec::new();
    for operation in [1, 2] {
        for bit in 0..64 {
            for (program, mut frame) in questions() {
                frame[ETHERNET + 7] = operation;
                frame[ETHERNET + bit / 8] ^= 1 << (bit % 8);
                let note = format!("operation {operation}, bit {bit}, {program:?}");
                rows.push(is_dropped(note, program, frame, DropReason::MalformedArp, None));
            }
        }
    }
    run(&rows);
}

#[test]
fn arp_of_every_length_and_operation() {
    let mut rows = Vec::new();
    for (program, whole) in questions() {
        for length in ETHERNET..ARP_FRAME {
            let note = format!("{length} bytes, {program:?}");
            rows.push(is_dropped(
                note,
                program,
                whole[..length].to_vec(),
                DropReason::MalformedArp,
                None,
            ));
        }
        // Reverse, inverse and dynamic ARP among them.
        for operation in (0..=u8::MAX).filter(|operation| !matches!(operation, 1 | 2)) {
            let mut frame = whole.clone();
            frame[ETHERNET + 7] = operation;
            let note = format!("operation {operation}, {program:?}");
            rows.push(is_dropped(note, program, frame, DropReason::MalformedArp, None));
        }
        for group in [EVERYBODY, [1, 0, 0x5e, 0, 0, 1], [3, 0, 0, 0, 0, 1]] {
            let mut frame = whole.clone();
            frame[ETHERNET + 8..ETHERNET + 14].copy_from_slice(&group);
            let note = format!("sent by {group:x?}, {program:?}");
            rows.push(is_dropped(note, program, frame, DropReason::MalformedArp, None));
        }
    }
    run(&rows);
}

/// Seen because an interface is promiscuous or a bridge floods: neither answered nor forwarded.
#[test]
fn frames_for_other_machines() {
    let mut rows = Vec::new();
    let inward = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp));
    for mut frame in [inward, questions()[0].1.clone()] {
        for at in 0..6 {
            for bit in (0..8).filter(|bit| (at, *bit) != (0, 0)) {
                frame[..6].copy_from_slice(&ROUTER_WAN);
                frame[at] ^= 1 << bit;
                let note = format!("bit {bit} of byte {at}");
                rows.push(is_dropped(
                    note,
                    Program::Ingress,
                    frame.clone(),
                    DropReason::OtherHost,
                    None,
                ));
            }
        }
    }
    run(&rows);
}

/// RFC 1812, section 5.3.4: not even when the packet itself is for one machine; RFC 826 uses broadcasts, so ARP may.
#[test]
fn packets_in_group_frames() {
    let mut rows = Vec::new();
    for first in (1..=u8::MAX).step_by(2) {
        for (program, mut frame) in frames(&Payload::Echo) {
            frame[0] = first;
            let internal = (program == Program::Egress).then_some(GUEST);
            let reason = DropReason::DestinationNotUnicast;
            rows.push(is_dropped(
                format!("{first:02x}, {program:?}"),
                program,
                frame,
                reason,
                internal,
            ));
        }
    }
    run(&rows);
}

/// RFC 1812, section 5.3.7, network by network; and 5.3.8 for the environment's own.
#[test]
fn sources_from_every_network() {
    let mut rows: Vec<Row> = Vec::new();
    for first in 0..=u8::MAX {
        let source = [first, 1, 2, 3].into();
        let note = format!("{source}");
        if matches!(first, 0 | 127 | 224..) {
            let frame = incoming(&packet(source, GUEST_OUTSIDE, Payload::Tcp));
            rows.push(is_dropped(
                note.clone(),
                Program::Ingress,
                frame,
                DropReason::SourceMartian,
                Some(GUEST),
            ));
        } else {
            rows.push(comes_in_from(&note, source, |source, to| {
                packet(source, to, Payload::Tcp).bytes()
            }));
        }
        let frame = outgoing(&packet(source, OUTSIDE, Payload::Tcp));
        rows.push(is_dropped(
            note + " out",
            Program::Egress,
            frame,
            DropReason::SourceForeign,
            None,
        ));
    }
    for host in 0..=u8::MAX {
        for network in [[10, 0, 0], [172, 16, 1]] {
            let [a, b, c] = network;
            let source = [a, b, c, host].into();
            let frame = incoming(&packet(source, GUEST_OUTSIDE, Payload::Tcp));
            let note = format!("{source}");
            rows.push(is_dropped(
                note,
                Program::Ingress,
                frame,
                DropReason::SourceMartian,
                Some(GUEST),
            ));
        }
    }
    run(&rows);
}

/// Of the outside, a guest reaches everything that can be one machine.
#[test]
fn destinations_in_every_network() {
    let mut rows = Vec::new();
    for first in 0..=u8::MAX {
        let destination = [first, 1, 2, 3].into();
        let note = format!("{destination}");
        let inward = incoming(&packet(OUTSIDE, destination, Payload::Tcp));
        if matches!(first, 0 | 127 | 224..) {
            let reason = DropReason::DestinationNotUnicast;
            let outward = outgoing(&packet(GUEST, destination, Payload::Tcp));
            rows.push(is_dropped(note.clone(), Program::Ingress, inward, reason, None));
            rows.push(is_dropped(note, Program::Egress, outward, reason, Some(GUEST)));
        } else {
            let reason = DropReason::DestinationUnmapped;
            rows.push(is_dropped(note.clone(), Program::Ingress, inward, reason, None));
            rows.push(goes_out_to(&note, destination, |from, to| {
                packet(from, to, Payload::Tcp).bytes()
            }));
        }
    }
    run(&rows);
}

//! What the fast path must take and what it must leave to the router, by name. Every other row says so, too, but has it from
//! the model ([`envnet_model::due`]); here it stands written.

use std::net::Ipv4Addr;

use crate::{
    fast,
    harness::{Harness, Outcome, Program, Row, run},
    names::{
        ELSEWHERE, EVERYBODY, GUEST, GUEST_OUTSIDE, NEIGHBOUR, NEXT_HOP, OUTSIDE, ROUTER_OUTSIDE, SIBLING,
        SIBLING_OUTSIDE, STRANGER_OUTSIDE, incoming, outgoing, row,
    },
    packet::{Packet, Payload, Sum, packet},
};

/// What the slow path does with it is said in all the other rows.
const AS_ALWAYS: Outcome = Outcome::Next(Vec::new());

/// Packets between the guest and somebody outside, told apart by which of the two is the sender.
fn both(description: &str, seen: impl Fn(Ipv4Addr, Ipv4Addr) -> Packet) -> Vec<Row> {
    let inward = incoming(&seen(OUTSIDE, GUEST_OUTSIDE));
    let outward = outgoing(&seen(GUEST, OUTSIDE));
    vec![
        row(format!("{description} in"), Program::Ingress, inward, AS_ALWAYS),
        row(format!("{description} out"), Program::Egress, outward, AS_ALWAYS),
    ]
}

fn one(description: &str, program: Program, frame: Vec<u8>) -> Vec<Row> {
    vec![row(description, program, frame, AS_ALWAYS)]
}

#[track_caller]
fn are(taken: bool, rows: &[Vec<Row>]) {
    let mut harness = Harness::load();
    let mut rows = rows.concat();
    for row in &mut rows {
        row.outcome = harness.observe(row.program, &row.frame).unwrap();
        for run in fast::runs(row) {
            let is_taken = !run.counted.is_empty();
            assert_eq!(is_taken, taken, "{}, {:?}", run.description, run.program);
        }
    }
    run(&rows);
}

fn carrying(payload: Payload) -> impl Fn(Ipv4Addr, Ipv4Addr) -> Packet {
    move |source, destination| packet(source, destination, payload.clone())
}

fn udp(length: usize) -> Payload {
    Payload::Udp(vec![0x5a; length])
}

fn with_time_to_live(time_to_live: u8, packet: &Packet, frame: impl Fn(&Packet) -> Vec<u8>) -> Vec<u8> {
    let mut frame = frame(packet);
    let (mut header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
    header.time_to_live = time_to_live;
    header.header_checksum = header.calc_header_checksum();
    frame[14..34].copy_from_slice(&header.to_bytes());
    frame
}

#[test]
fn ordinary_packets_are_taken() {
    let echo_reply = Payload::Icmp(0, 0, vec![0, 1, 0, 2]);
    let timestamp = Payload::Icmp(13, 0, vec![0; 16]);
    are(
        true,
        &[
            both("TCP", carrying(Payload::Tcp)),
            both("UDP", carrying(udp(40))),
            both("empty UDP", carrying(udp(0))),
            both("a full Ethernet frame", carrying(udp(1472))),
            both("no UDP checksum", |a, b| packet(a, b, udp(9)).sum(Sum::Absent)),
            both("wrong TCP checksum", |a, b| {
                packet(a, b, Payload::Tcp).sum(Sum::Wrong(5))
            }),
            both("UDP-Lite", carrying(Payload::UdpLite)),
            both("DCCP", carrying(Payload::Dccp)),
            both("SCTP", carrying(Payload::Sctp)),
            both("GRE", carrying(Payload::Gre)),
            both("ESP", carrying(Payload::Esp)),
            both("protocol 99, empty", carrying(Payload::Raw(99, vec![]))),
            both("echo", carrying(Payload::Echo)),
            both("echo reply", carrying(echo_reply)),
            both("timestamp", carrying(timestamp)),
            both("first fragment", |a, b| packet(a, b, udp(64)).piece(0..32)),
            both("later fragment", |a, b| packet(a, b, udp(64)).piece(32..64)),
            both("later fragment of an echo", |a, b| {
                packet(a, b, Payload::Echo).piece(8..16)
            }),
            one(
                "TTL 2 in",
                Program::Ingress,
                with_time_to_live(2, &packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp), incoming),
            ),
            one(
                "TTL 2 out",
                Program::Egress,
                with_time_to_live(2, &packet(GUEST, OUTSIDE, Payload::Tcp), outgoing),
            ),
            one(
                "to the next hop itself",
                Program::Egress,
                outgoing(&packet(GUEST, NEXT_HOP, Payload::Tcp)),
            ),
            one(
                "to a sibling",
                Program::Egress,
                outgoing(&packet(GUEST, SIBLING_OUTSIDE, Payload::Tcp)),
            ),
            one(
                "to itself",
                Program::Egress,
                outgoing(&packet(GUEST, GUEST_OUTSIDE, Payload::Tcp)),
            ),
            one(
                "across",
                Program::Egress,
                outgoing(&packet(GUEST, ELSEWHERE, Payload::Tcp)),
            ),
            one(
                "TTL 3 across",
                Program::Egress,
                with_time_to_live(3, &packet(GUEST, ELSEWHERE, Payload::Tcp), outgoing),
            ),
        ],
    );
}

fn tcp(source: Ipv4Addr, destination: Ipv4Addr) -> Packet {
    packet(source, destination, Payload::Tcp)
}

/// An error about a packet that went the other way.
fn error(kind: u8) -> impl Fn(Ipv4Addr, Ipv4Addr) -> Packet {
    move |source, destination| {
        let inner = packet(destination, source, udp(20));
        let error = Payload::Error(kind, 0, 28, Box::new(inner), Vec::new());
        packet(source, destination, error)
    }
}

#[test]
fn packets_that_are_not_ordinary_are_left() {
    are(
        false,
        &[
            both("options", |a, b| tcp(a, b).options()),
            both("options that add nothing to the checksum", |a, b| Packet {
                options: vec![0; 4],
                ..tcp(a, b)
            }),
            both("wrong header checksum", |a, b| tcp(a, b).header_sum(Sum::Wrong(1))),
            both("port unreachable", error(3)),
            both("source quench", error(4)),
            both("redirect", error(5)),
            both("time exceeded", error(11)),
            both("parameter problem", error(12)),
            both("first fragment of an error", |a, b| error(3)(a, b).piece(0..32)),
            both("TCP of 17 bytes", carrying(Payload::Raw(6, vec![0; 17]))),
            both("first fragment too small", |a, b| tcp(a, b).piece(0..16)),
        ],
    );
}

#[test]
fn what_does_not_simply_come_in_is_left() {
    let inward = || tcp(OUTSIDE, GUEST_OUTSIDE);
    let late = |time_to_live| with_time_to_live(time_to_live, &inward(), incoming);
    let from = |source: [u8; 4]| incoming(&tcp(source.into(), GUEST_OUTSIDE));
    let to = |destination| incoming(&tcp(OUTSIDE, destination));
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = incoming(&inward());
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut tagged = incoming(&inward());
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let one = |description, frame| one(description, Program::Ingress, frame);
    are(
        false,
        &[
            one("TTL 1", late(1)),
            one("TTL 0", late(0)),
            one("tagged", tagged),
            one("for another machine", with(0, &NEIGHBOUR)),
            one("for everybody", with(0, &EVERYBODY)),
            one("IPv6", with(12, &[0x86, 0xdd])),
            one("unmapped", to(STRANGER_OUTSIDE)),
            one("another environment's, to this router", to(ELSEWHERE)),
            one("to an internal address", to(GUEST)),
            one("to the router", to(ROUTER_OUTSIDE)),
            one("from nobody", from([0; 4])),
            one("from loopback", from([127, 0, 0, 1])),
            one("from a group", from([224, 0, 0, 1])),
            one("from everybody", from([255; 4])),
            one("from an internal address", from([10, 0, 0, 3])),
            one("from an own address", from([172, 16, 1, 3])),
            one("from an own address that is nobody's", from([172, 16, 1, 200])),
        ],
    );
}

#[test]
fn what_does_not_simply_go_out_is_left() {
    let to = |destination: Ipv4Addr| outgoing(&tcp(GUEST, destination));
    let late = |time_to_live, to| with_time_to_live(time_to_live, &tcp(GUEST, to), outgoing);
    let one = |description, frame| one(description, Program::Egress, frame);
    are(
        false,
        &[
            one("TTL 1", late(1, OUTSIDE)),
            one("TTL 2 across", late(2, ELSEWHERE)),
            one("TTL 2 to a sibling", late(2, SIBLING_OUTSIDE)),
            one("to nobody", to([127, 0, 0, 1].into())),
            one("to a group", to([224, 0, 0, 9].into())),
            one("to a sibling's internal address", to(SIBLING)),
            one("to the router's external address", to(ROUTER_OUTSIDE)),
            one("to an own address that is nobody's", to(STRANGER_OUTSIDE)),
            one("to a neighbour that nobody has heard", to([172, 16, 0, 77].into())),
        ],
    );
}

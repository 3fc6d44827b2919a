//! Every protocol, both ways, with right, wrong and absent checksums.

use crate::{
    harness::{Row, run},
    names::{GUEST, GUEST_OUTSIDE, OUTSIDE, comes_in, goes_out},
    packet::{Payload, Sum, packet},
};

#[test]
fn every_protocol() {
    let payloads = [
        Payload::Tcp,
        udp(),
        Payload::Udp(Vec::new()),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Sctp,
        Payload::Gre,
        Payload::Esp,
        Payload::Echo,
        Payload::Icmp(0, 0, vec![0, 1, 0, 2]),
        Payload::Icmp(13, 0, vec![0; 16]),
        Payload::Raw(99, vec![]),
    ];
    let rows: Vec<Row> = payloads.iter().flat_map(both_ways).collect();
    run(&rows);
}

fn udp() -> Payload {
    Payload::Udp(b"sixteen bits at a time, and one".to_vec())
}

fn both_ways(payload: &Payload) -> Vec<Row> {
    let inward = packet(OUTSIDE, GUEST_OUTSIDE, payload.clone());
    let outward = packet(GUEST, OUTSIDE, payload.clone());
    [("", Sum::Right), (", wrong checksum", Sum::Wrong(0x0101))]
        .into_iter()
        .flat_map(|(note, sum)| {
            let [inward, outward] = [&inward, &outward].map(|packet| packet.clone().sum(sum));
            [
                comes_in(format!("{payload:?} in{note}"), &inward, &inward.clone().to(GUEST)),
                comes_in(
                    format!("{payload:?} in with options{note}"),
                    &inward.clone().options(),
                    &inward.clone().options().to(GUEST),
                ),
                goes_out(
                    format!("{payload:?} out{note}"),
                    &outward,
                    &outward.clone().from(GUEST_OUTSIDE),
                ),
                goes_out(
                    format!("{payload:?} out with options{note}"),
                    &outward.clone().options(),
                    &outward.clone().options().from(GUEST_OUTSIDE),
                ),
            ]
        })
        .collect()
}

#[test]
fn no_udp_checksum_stays_none() {
    let inward = packet(OUTSIDE, GUEST_OUTSIDE, udp()).sum(Sum::Absent);
    let outward = packet(GUEST, OUTSIDE, udp()).sum(Sum::Absent);
    run(&[
        comes_in("in", &inward, &inward.clone().to(GUEST)),
        goes_out("out", &outward, &outward.clone().from(GUEST_OUTSIDE)),
    ]);
}

/// RFC 768: a computed zero is sent as all ones, because zero would say that there is no checksum.
#[test]
fn a_udp_checksum_that_becomes_zero_is_sent_as_all_ones() {
    let inward = |word: u16| packet(OUTSIDE, GUEST_OUTSIDE, Payload::Udp(word.to_be_bytes().to_vec()));
    let becomes_zero = |word: &u16| inward(*word).to(GUEST).bytes()[26..28] == [0xff, 0xff];
    let word = (0..=u16::MAX).find(becomes_zero).expect("some data have this checksum");
    run(&[comes_in("in", &inward(word), &inward(word).to(GUEST))]);
}

#[test]
fn a_wrong_header_checksum_stays_wrong() {
    let inward = packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp).header_sum(Sum::Wrong(7));
    let outward = packet(GUEST, OUTSIDE, Payload::Tcp).header_sum(Sum::Wrong(7));
    run(&[
        comes_in("in", &inward, &inward.clone().to(GUEST)),
        goes_out("out", &outward, &outward.clone().from(GUEST_OUTSIDE)),
    ]);
}

/// The worked example of a row: description, packet in, and the packet that must come out of a `Pass` verdict.
/// RFC 2003: the packet inside a tunnel is payload, so its addresses stay.
#[test]
fn addresses_inside_a_tunnel_stay() {
    let inner = packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp).bytes();
    let tunnel = packet(OUTSIDE, GUEST_OUTSIDE, Payload::Raw(4, inner));
    run(&[comes_in("IPv4 in IPv4", &tunnel, &tunnel.clone().to(GUEST))]);
}

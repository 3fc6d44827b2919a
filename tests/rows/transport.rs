//! Transport headers: RFC 3022, section 4.1, asks for the checksums that cover addresses, and for nothing else.

use std::net::Ipv4Addr;

use etherparse::TcpHeader;

use crate::{
    directions::{both_ways, comes_in_from, goes_out_to},
    harness::{Row, run},
    names::{GUEST, GUEST_OUTSIDE},
    packet::{Packet, Payload, Sum, packet},
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
/// Protocols with a checksum over the addresses, and ICMP.
const LOOKED_INTO: [u8; 5] = [ICMP, TCP, 17, 33, 136];
/// ICMP messages that are not only translated: errors and redirects.
const NOT_QUERIES: [u8; 5] = [3, 4, 5, 11, 12];

fn plain(description: &str, payload: &Payload) -> [Row; 2] {
    both_ways(description, |source, destination| {
        packet(source, destination, payload.clone()).bytes()
    })
}

/// IGMP, the tunnels, IPsec, SCTP and all that nobody has named yet.
#[test]
fn every_other_protocol_number() {
    let numbers = (0..=u8::MAX).filter(|number| !LOOKED_INTO.contains(number));
    let rows: Vec<Row> = numbers
        .flat_map(|number| plain(&format!("protocol {number}"), &Payload::Raw(number, (0..=40).collect())))
        .collect();
    run(&rows);
}

/// Where there is nothing to correct, nothing needs to be there.
#[test]
fn payloads_of_every_small_size() {
    let mut rows = Vec::new();
    for number in [2, 4, 41, 47, 50, 51, 132, 255] {
        for length in 0..24 {
            let note = format!("protocol {number}, {length} bytes");
            rows.extend(plain(&note, &Payload::Raw(number, vec![0x5a; length])));
        }
    }
    for length in 0..66 {
        rows.extend(plain(
            &format!("UDP, {length} bytes"),
            &Payload::Udp(vec![0xa5; length]),
        ));
    }
    run(&rows);
}

/// Open, simultaneous open, half-closed, reset: a translation without connections treats all alike (RFC 5382, REQ-2), and
/// hands on a SYN that nobody asked for without answering it (REQ-4).
#[test]
fn every_combination_of_tcp_flags() {
    let segment = |flags: u8| {
        move |source: Ipv4Addr, destination: Ipv4Addr| {
            let mut tcp = TcpHeader::new(443, 50_000, 7, 512);
            [tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr] =
                [0, 1, 2, 3, 4, 5, 6, 7].map(|bit| flags >> bit & 1 == 1);
            tcp.checksum = tcp
                .calc_checksum_ipv4_raw(source.octets(), destination.octets(), b"odd")
                .unwrap();
            let payload = [&tcp.to_bytes()[..], b"odd"].concat();
            packet(source, destination, Payload::Raw(TCP, payload)).bytes()
        }
    };
    let rows: Vec<Row> = (0..=u8::MAX)
        .flat_map(|flags| both_ways(&format!("flags {flags:08b}"), segment(flags)))
        .collect();
    run(&rows);
}

/// Queries, their replies and the types that nobody has named yet: RFC 5508, REQ-1.
#[test]
fn every_icmp_message_that_is_no_error() {
    let mut rows = Vec::new();
    for kind in (0..=u8::MAX).filter(|kind| !NOT_QUERIES.contains(kind)) {
        for code in [0, 1, 255] {
            // What an error would quote, if this were one.
            let message = Payload::Icmp(kind, code, vec![0x12, 0x34, 0, 1, 0x45, 0, 0, 20]);
            rows.extend(plain(&format!("type {kind}, code {code}"), &message));
        }
    }
    run(&rows);
}

/// The corners of one's complement: RFC 1624, section 3. The machine outside gets an address for which the checksum is
/// what is looked for, before the translation or after it.
#[test]
fn checksums_around_zero() {
    let mut rows = Vec::new();
    for (payload, at) in [
        (Payload::Tcp, 36),
        (Payload::Udp(vec![1, 2, 3]), 26),
        (Payload::UdpLite, 26),
        (Payload::Dccp, 26),
        // The header's own.
        (Payload::Gre, 10),
    ] {
        let seen = |source, destination| packet(source, destination, payload.clone()).bytes();
        for sum in [0x0000_u16, 0x0001, 0x00ff, 0xfeff, 0xfffe, 0xffff] {
            let is_sum = |bytes: Vec<u8>| bytes[at..at + 2] == sum.to_be_bytes();
            for (own, when) in [(GUEST_OUTSIDE, "outside"), (GUEST, "inside")] {
                let note = format!("{payload:?}, {sum:04x} {when}");
                // Zero means no checksum to UDP, and all ones is never what TCP or the header has: no such address.
                rows.extend(find(|peer| is_sum(seen(peer, own))).map(|peer| comes_in_from(&note, peer, seen)));
                rows.extend(find(|peer| is_sum(seen(own, peer))).map(|peer| goes_out_to(&note, peer, seen)));
            }
        }
    }
    assert!(
        rows.len() >= 5 * 5 * 4,
        "only {} rows: five sums can be had both ways",
        rows.len()
    );
    run(&rows);
}

fn find(right: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    (0..=u16::MAX)
        .map(|word| {
            let [a, b] = word.to_be_bytes();
            Ipv4Addr::new(198, 51, a, b)
        })
        .find(|peer| right(*peer))
}

/// A wrong checksum stays wrong by the same difference, whatever it was (RFC 1624, equation 3), and a zero that must not
/// be in UDP-Lite (RFC 3828, section 3.1) stays what it was.
#[test]
fn wrong_checksums_stay_wrong() {
    let mut rows = Vec::new();
    let wrong = |packet: Packet, by| packet.sum(Sum::Wrong(by)).bytes();
    for payload in [
        Payload::Tcp,
        Payload::Udp(vec![4; 7]),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Echo,
    ] {
        for by in [1, 0x0100, 0x7fff, 0x8000, 0xfffe] {
            let note = format!("{payload:?} wrong by {by:x}");
            rows.extend(both_ways(&note, |source, destination| {
                wrong(packet(source, destination, payload.clone()), by)
            }));
        }
    }
    rows.extend(both_ways("UDP-Lite without checksum", |source, destination| {
        packet(source, destination, Payload::UdpLite).sum(Sum::Absent).bytes()
    }));
    for by in [1, 0x0100, 0x7fff, 0x8000] {
        rows.extend(both_ways(&format!("header wrong by {by:x}"), |source, destination| {
            packet(source, destination, Payload::Sctp)
                .header_sum(Sum::Wrong(by))
                .bytes()
        }));
    }
    run(&rows);
}

/// What an Ethernet with ordinary and with large frames carries.
#[test]
fn large_packets() {
    let mut rows = Vec::new();
    for length in [1472, 1473, 2000, 2999, 3000] {
        rows.extend(plain(
            &format!("UDP, {length} bytes"),
            &Payload::Udp(vec![0xee; length]),
        ));
    }
    run(&rows);
}

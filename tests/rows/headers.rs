//! Everything in the IPv4 header but the addresses and the checksum goes through as it is: RFC 3022, section 4.1.

use etherparse::{IpDscp, IpEcn, Ipv4Header};

use crate::{
    directions::both_ways,
    harness::{Row, run},
    names::{GUEST, GUEST_OUTSIDE},
    packet::{Packet, Payload, packet},
};

/// The longest options that a header has room for.
const MOST_OPTIONS: usize = 40;

/// Both ways, with other fields in the header; etherparse computes its checksum anew.
fn with(description: &str, change: impl Fn(&mut Ipv4Header)) -> [Row; 2] {
    both_ways(description, |source, destination| {
        let bytes = packet(source, destination, Payload::Tcp).bytes();
        let (mut header, payload) = Ipv4Header::from_slice(&bytes).unwrap();
        change(&mut header);
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], payload].concat()
    })
}

fn with_options(description: &str, payload: &Payload, options: &[u8]) -> [Row; 2] {
    both_ways(description, |source, destination| {
        let packet = Packet {
            options: options.to_vec(),
            ..packet(source, destination, payload.clone())
        };
        packet.bytes()
    })
}

/// The kernel decrements it and reports where it ends: RFC 1812, section 5.2.7.3. No program looks at it.
#[test]
fn every_time_to_live() {
    let rows: Vec<Row> = (0..=u8::MAX)
        .flat_map(|hops| with(&format!("TTL {hops}"), |header| header.time_to_live = hops))
        .collect();
    run(&rows);
}

#[test]
fn every_service() {
    let rows: Vec<Row> = (0..=u8::MAX)
        .flat_map(|service| {
            with(&format!("service {service}"), |header| {
                header.dscp = IpDscp::try_new(service >> 2).unwrap();
                header.ecn = IpEcn::try_new(service & 3).unwrap();
            })
        })
        .collect();
    run(&rows);
}

/// RFC 7857 asks for RFC 6864, section 5.3.1: no two sources share an external address, so what the sender chose stays.
#[test]
fn identification_and_flags() {
    let mut rows = Vec::new();
    for identification in [0, 1, 0x00ff, 0xff00, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for dont_fragment in [false, true] {
            let note = format!("identification {identification:x}, DF {dont_fragment}");
            rows.extend(with(&note, |header| {
                header.identification = identification;
                header.dont_fragment = dont_fragment;
            }));
        }
    }
    run(&rows);
}

#[test]
fn options_of_every_length() {
    let payloads = [
        Payload::Tcp,
        Payload::Udp(vec![7; 15]),
        Payload::UdpLite,
        Payload::Dccp,
        Payload::Sctp,
        Payload::Gre,
        Payload::Esp,
        Payload::Echo,
        Payload::Raw(99, vec![9; 5]),
    ];
    let mut rows = Vec::new();
    for payload in &payloads {
        for length in (0..=MOST_OPTIONS).step_by(4) {
            let note = format!("{payload:?} behind {length} bytes of options");
            rows.extend(with_options(&note, payload, &vec![1; length]));
        }
    }
    run(&rows);
}

/// What an option means is the routers' on the path, the kernel's in this one; those that cannot be are left to it, too.
#[test]
fn options_of_every_kind() {
    let address = [198, 51, 100, 77];
    let with_address = |head: &[u8]| [head, &address].concat();
    let kinds: [(&str, Vec<u8>); 16] = [
        ("end of options", vec![0, 0, 0, 0]),
        ("end, and more behind it", vec![0, 7, 7, 4]),
        ("security", vec![130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("loose source route", with_address(&[1, 131, 7, 4])),
        ("strict source route", with_address(&[1, 137, 7, 4])),
        ("record route, empty", vec![7, 7, 4, 0, 0, 0, 0, 0]),
        ("record route, full", with_address(&[1, 7, 7, 8])),
        ("timestamp", vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            "timestamp with addresses",
            [with_address(&[68, 12, 13, 1]), vec![0; 4]].concat(),
        ),
        ("stream identifier", vec![136, 4, 0, 1]),
        ("commercial security", vec![134, 8, 0, 0, 0, 1, 2, 0]),
        ("router alert", vec![148, 4, 0, 0]),
        ("unknown", vec![94, 4, 0xaa, 0x55]),
        ("length 0", vec![7, 0, 4, 0]),
        ("length 1", vec![7, 1, 4, 0]),
        ("length behind the header", vec![7, 44, 4, 0]),
    ];
    let rows: Vec<Row> = kinds
        .iter()
        .flat_map(|(kind, options)| with_options(kind, &Payload::Udp(vec![3; 9]), options))
        .collect();
    run(&rows);
}

/// RFC 3022, section 4.6, lets a NAT leave the addresses in options alone.
#[test]
fn addresses_in_options_stay() {
    let mut rows = Vec::new();
    for recorded in [GUEST, GUEST_OUTSIDE] {
        let options = [&[1, 7, 7, 8][..], &recorded.octets()].concat();
        rows.extend(with_options(&format!("{recorded}"), &Payload::Echo, &options));
    }
    run(&rows);
}

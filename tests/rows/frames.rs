//! What is refused before anything is translated, and lengths that lie.

use std::net::Ipv4Addr;

use envnet_common::DropReason;
use envnet_fuzz::harness::Action;

use crate::{
    harness::{Harness, Outcome, Program, Row, run},
    names::{
        ELSEWHERE, EVERYBODY, GUEST, GUEST_OUTSIDE, IPV4, NEIGHBOUR, OUTSIDE, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN,
        STRANGER, STRANGER_OUTSIDE, comes_in, goes_out, incoming, is_dropped, outgoing, row,
    },
    packet::{Packet, Payload, frame, packet},
};

fn inward() -> Packet {
    packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp)
}

fn outward() -> Packet {
    packet(GUEST, OUTSIDE, Payload::Tcp)
}

fn dropped_in(description: &str, packet: &Packet, reason: DropReason, internal: Option<Ipv4Addr>) -> Row {
    is_dropped(description, Program::Ingress, incoming(packet), reason, internal)
}

fn dropped_out(description: &str, packet: &Packet, reason: DropReason, internal: Option<Ipv4Addr>) -> Row {
    is_dropped(description, Program::Egress, outgoing(packet), reason, internal)
}

#[test]
fn the_router_has_addresses_like_a_guest() {
    run(&[
        comes_in("in", &inward().to(ROUTER_OUTSIDE), &inward().to(ROUTER)),
        goes_out("out", &outward().from(ROUTER), &outward().from(ROUTER_OUTSIDE)),
    ]);
}

#[test]
fn destinations_that_are_not_mapped_here() {
    let unmapped = DropReason::DestinationUnmapped;
    run(&[
        dropped_in("nobody's", &inward().to(STRANGER_OUTSIDE), unmapped, None),
        dropped_in("another environment's", &inward().to(ELSEWHERE), unmapped, None),
        dropped_in("internal", &inward().to(GUEST), unmapped, None),
        dropped_in("somewhere else", &inward().to(OUTSIDE), unmapped, None),
        goes_out(
            "out to nobody's",
            &outward().to(STRANGER_OUTSIDE),
            &outward().from(GUEST_OUTSIDE).to(STRANGER_OUTSIDE),
        ),
        goes_out(
            "out to another environment",
            &outward().to(ELSEWHERE),
            &outward().from(GUEST_OUTSIDE).to(ELSEWHERE),
        ),
    ]);
}

#[test]
fn destinations_that_are_not_one_machine() {
    let mut rows = Vec::new();
    for address in [
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(239, 255, 255, 250),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::new(0, 1, 2, 3),
        Ipv4Addr::LOCALHOST,
    ] {
        let reason = DropReason::DestinationNotUnicast;
        rows.push(dropped_in("in", &inward().to(address), reason, None));
        rows.push(dropped_out("out", &outward().to(address), reason, Some(GUEST)));
    }
    for mac in [EVERYBODY, [1, 0, 0x5e, 0, 0, 1]] {
        let reason = DropReason::DestinationNotUnicast;
        let frames = [inward(), outward()].map(|packet| frame(mac, NEIGHBOUR, IPV4, &packet.bytes()));
        let [inward, outward] = frames;
        rows.push(is_dropped(
            "unicast in a broadcast, in",
            Program::Ingress,
            inward,
            reason,
            None,
        ));
        rows.push(is_dropped(
            "unicast in a broadcast, out",
            Program::Egress,
            outward,
            reason,
            Some(GUEST),
        ));
    }
    run(&rows);
}

#[test]
fn sources_that_cannot_be() {
    let martians = [
        "10.0.0.2",
        "10.0.0.200",
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        // The environment's own, mapped or not, from somebody outside.
        "172.16.1.2",
        "172.16.1.3",
        "172.16.1.200",
    ];
    let mut rows: Vec<Row> = martians
        .iter()
        .map(|source| {
            let packet = inward().from(source.parse().unwrap());
            dropped_in(source, &packet, DropReason::SourceMartian, Some(GUEST))
        })
        .collect();
    for foreign in ["192.168.1.1", "172.16.1.2", "0.0.0.0", "127.0.0.1", "10.0.1.2"] {
        let packet = outward().from(foreign.parse().unwrap());
        rows.push(dropped_out(foreign, &packet, DropReason::SourceForeign, None));
    }
    rows.push(dropped_out(
        "unmapped",
        &outward().from(STRANGER),
        DropReason::SourceUnmapped,
        None,
    ));
    rows.push(comes_in(
        "10.0.1.2 in",
        &inward().from([10, 0, 1, 2].into()),
        &inward().from([10, 0, 1, 2].into()).to(GUEST),
    ));
    run(&rows);
}

#[test]
fn frames_that_are_not_for_the_router() {
    let bytes = inward().bytes();
    let tagged = |ethertype| frame(ROUTER_WAN, NEIGHBOUR, ethertype, &[&[0, 5, 8, 0][..], &bytes].concat());
    let with = |ethertype| frame(ROUTER_WAN, NEIGHBOUR, ethertype, &bytes);
    let row = |description, frame, reason| is_dropped(description, Program::Ingress, frame, reason, None);
    run(&[
        row("802.1Q", tagged(0x8100), DropReason::VlanTagged),
        row("802.1ad", tagged(0x88a8), DropReason::VlanTagged),
        row("IPv6", with(0x86dd), DropReason::NotIpv4),
        row("802.3 length", with(0x0026), DropReason::NotIpv4),
        row(
            "another machine's",
            frame(NEIGHBOUR, EVERYBODY, IPV4, &bytes),
            DropReason::OtherHost,
        ),
        is_dropped(
            "IPv6 out",
            Program::Egress,
            frame(NEIGHBOUR, ROUTER_WAN, 0x86dd, &bytes),
            DropReason::NotIpv4,
            None,
        ),
    ]);
}

#[test]
fn lengths_that_lie() {
    let whole = inward().bytes();
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        frame(ROUTER_WAN, NEIGHBOUR, IPV4, &bytes)
    };
    let cut = |length: usize| frame(ROUTER_WAN, NEIGHBOUR, IPV4, &whole[..length]);
    let short = |protocol, length| incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Raw(protocol, vec![0; length])));
    let mut no_room_for_options = short(99, 4);
    no_room_for_options[14] = 0x4f;
    let row = |description, frame, reason, internal| is_dropped(description, Program::Ingress, frame, reason, internal);
    let malformed = DropReason::MalformedIpv4;
    run(&[
        row("one byte is missing", cut(whole.len() - 1), malformed, None),
        row(
            "total length one too large",
            changed(3, u8::try_from(whole.len()).unwrap() + 1),
            malformed,
            None,
        ),
        row("total length shorter than the header", changed(3, 19), malformed, None),
        row("total length zero", changed(3, 0), malformed, None),
        row("version 6", changed(0, 0x65), malformed, None),
        row("header length 16", changed(0, 0x44), malformed, None),
        row("header length behind the end", no_room_for_options, malformed, None),
        row("UDP of 7 bytes", short(17, 7), DropReason::Truncated, Some(GUEST)),
        row("TCP of 17 bytes", short(6, 17), DropReason::Truncated, Some(GUEST)),
        row("DCCP of 4 bytes", short(33, 4), DropReason::Truncated, Some(GUEST)),
        row("ICMP of 7 bytes", short(1, 7), DropReason::Truncated, Some(GUEST)),
        row("no TCP at all", short(6, 0), DropReason::Truncated, Some(GUEST)),
    ]);
}

/// Ethernet pads to 60 bytes: nothing behind the IP total length is part of the packet.
#[test]
fn padding_stays() {
    let padded = |frame: Vec<u8>| [frame, vec![0xa5; 30]].concat();
    let small = |source, destination| packet(source, destination, Payload::Udp(vec![1, 2, 3]));
    let short = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Raw(17, vec![0; 4])));
    let expected = Outcome::Pass(padded(incoming(&small(OUTSIDE, GUEST))));
    run(&[
        row(
            "in",
            Program::Ingress,
            padded(incoming(&small(OUTSIDE, GUEST_OUTSIDE))),
            expected,
        ),
        is_dropped(
            "checksum in the padding",
            Program::Ingress,
            padded(short),
            DropReason::Truncated,
            Some(GUEST),
        ),
    ]);
}

#[test]
fn an_interface_without_environment() {
    let mut harness = Harness::load();
    harness.forget_environment();
    for (program, frame) in [
        (Program::Ingress, incoming(&inward())),
        (Program::Egress, outgoing(&outward())),
    ] {
        let (action, out) = harness.execute(program, &frame);
        assert_eq!((action, out), (Action::Drop, frame));
        let drops: Vec<_> = harness
            .take_drops()
            .iter()
            .map(|(key, count)| (key.environment, key.reason, *count))
            .collect();
        assert_eq!(drops, [(0, DropReason::UnknownInterface as u32, 1)]);
    }
}

//! What a guest may say of itself, on a port of its own and on one that somebody else has plugged in: RFC 2827 (BCP 38),
//! and the same for ARP and Ethernet addresses.

use std::net::Ipv4Addr;

use envnet_common::{
    DropReason::{self, MacSpoofed, MalformedArp, MalformedIpv4, SourceSpoofed},
    Mac,
    age::Age,
    maps::{ROUTER_INSIDE_MAC, Uplink},
};

use crate::{
    arp::{NOBODY, REPLY, REQUEST, arp},
    harness::{Harness, Outcome, Program},
    host::{NOWHERE, endpoint, now, uplink},
    names::{
        ELSEWHERE, ENVIRONMENT, EVERYBODY, GUEST, GUEST_MAC, GUEST_OUTSIDE, IPV4, OTHER_ENVIRONMENT, OUTSIDE, ROUTER,
        SIBLING, SIBLING_MAC, SIBLING_OUTSIDE, STRANGER, STRANGER_OUTSIDE, sent_by,
    },
    packet::{Payload, frame, packet},
};

const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const MILLISECOND: u64 = 1_000_000;

fn tcp(source: Ipv4Addr) -> Vec<u8> {
    sent_by(GUEST_MAC, &packet(source, OUTSIDE, Payload::Tcp))
}

fn to_sibling(source: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    frame(SIBLING_MAC, mac, IPV4, &packet(source, SIBLING, Payload::Tcp).bytes())
}

fn to_everybody(source: Ipv4Addr) -> Vec<u8> {
    let datagram = packet(source, Ipv4Addr::BROADCAST, Payload::Udp(vec![1; 240]));
    frame(EVERYBODY, GUEST_MAC, IPV4, &datagram.bytes())
}

fn asks(to: [u8; 6], mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(to, GUEST_MAC, REQUEST, (mac, sender), (NOBODY, target))
}

/// Dropped and counted; and it has taught nothing.
fn refused(harness: &mut Harness, note: &str, frame: &[u8], reason: DropReason, internal: Option<Ipv4Addr>) {
    let guests = [GUEST_OUTSIDE, SIBLING_OUTSIDE];
    let before = guests.map(|guest| harness.endpoint(guest));
    let mac = frame[6..12].try_into().unwrap();
    let entry = harness.fdb_entry(ENVIRONMENT, mac);
    harness.must(note, Program::GuestIngress, frame, &Outcome::Drop(reason, internal));
    assert_eq!(guests.map(|guest| harness.endpoint(guest)), before, "{note}");
    assert_eq!(harness.fdb_entry(ENVIRONMENT, mac), entry, "{note}");
}

/// Not dropped, whichever way it goes.
fn accepted(harness: &mut Harness, note: &str, frame: &[u8]) {
    let outcome = harness.observe(Program::GuestIngress, frame).unwrap();
    assert!(!matches!(outcome, Outcome::Drop(..)), "{note}: {outcome:?}");
}

/// Whether an address is nobody's, so that siblings may have it among themselves.
fn is_free(address: Ipv4Addr) -> bool {
    [STRANGER, OUTSIDE].contains(&address)
}

fn left(harness: &mut Harness, note: &str, frame: &[u8]) {
    harness.must(note, Program::GuestIngress, frame, &Outcome::Next(frame.to_vec()));
}

#[test]
fn on_a_port_of_its_own() {
    let mut harness = Harness::load();
    for source in [
        SIBLING,
        STRANGER,
        ROUTER,
        GUEST_OUTSIDE,
        OUTSIDE,
        UNSPECIFIED,
        Ipv4Addr::BROADCAST,
    ] {
        for (way, frame) in [
            ("to the router", tcp(source)),
            ("to a sibling", to_sibling(source, GUEST_MAC)),
            ("by ARP", asks(ROUTER_INSIDE_MAC.0, GUEST_MAC, source, ROUTER)),
            ("by ARP to everybody", asks(EVERYBODY, GUEST_MAC, source, ROUTER)),
        ] {
            harness.learn(Some(GUEST));
            if is_free(source) && way == "to a sibling" {
                left(&mut harness, &format!("{source} {way}"), &frame);
                continue;
            }
            // Who has no address may ask everybody (RFC 5227).
            if source == UNSPECIFIED && way == "by ARP to everybody" {
                continue;
            }
            refused(
                &mut harness,
                &format!("{source} {way}"),
                &frame,
                SourceSpoofed,
                Some(GUEST),
            );
        }
    }
    for source in [SIBLING, ROUTER, GUEST_OUTSIDE, STRANGER, OUTSIDE] {
        harness.learn(Some(GUEST));
        let announcement = asks(EVERYBODY, GUEST_MAC, source, source);
        let reply = arp(
            SIBLING_MAC,
            GUEST_MAC,
            REPLY,
            (GUEST_MAC, source),
            (SIBLING_MAC, SIBLING),
        );
        for (what, frame) in [
            ("broadcast", to_everybody(source)),
            ("announcement", announcement),
            ("reply", reply),
        ] {
            if is_free(source) {
                left(&mut harness, &format!("{what} from {source}"), &frame);
            } else {
                refused(&mut harness, what, &frame, SourceSpoofed, Some(GUEST));
            }
        }
    }
    harness.learn(Some(GUEST));
    accepted(&mut harness, "itself", &tcp(GUEST));
    left(&mut harness, "itself, to everybody", &to_everybody(GUEST));
    left(&mut harness, "announcement", &asks(EVERYBODY, GUEST_MAC, GUEST, GUEST));
}

/// Who asks for an address by DHCP (RFC 2131), or tries one (RFC 5227), has none yet.
#[test]
fn without_an_address() {
    let mut harness = Harness::load();
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        left(&mut harness, "DHCP", &to_everybody(UNSPECIFIED));
        left(&mut harness, "probe", &asks(EVERYBODY, GUEST_MAC, UNSPECIFIED, GUEST));
        let quiet = harness.endpoint(GUEST_OUTSIDE).location;
        assert_eq!((quiet.mac.0, quiet.age.probed), (GUEST_MAC, 0));
    }
}

/// A guest that takes an external address for one of its own network asks its siblings and the router. They get the question
/// as it is; no program answers or drops it.
#[test]
fn asks_for_an_external_address() {
    let mut harness = Harness::load();
    for owner in [Some(GUEST), None] {
        for target in [ELSEWHERE, GUEST_OUTSIDE, SIBLING_OUTSIDE, STRANGER_OUTSIDE, OUTSIDE] {
            harness.learn(owner);
            let note = format!("{target}, port of {owner:?}");
            left(&mut harness, &note, &asks(EVERYBODY, GUEST_MAC, GUEST, target));
            let to_router = asks(ROUTER_INSIDE_MAC.0, GUEST_MAC, GUEST, target);
            let redirected = Outcome::Redirect(to_router.clone());
            harness.must(&note, Program::GuestIngress, &to_router, &redirected);
        }
    }
}

#[test]
fn ethernet_addresses() {
    let mut harness = Harness::load();
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        let router = frame(
            SIBLING_MAC,
            ROUTER_INSIDE_MAC.0,
            IPV4,
            &packet(GUEST, SIBLING, Payload::Tcp).bytes(),
        );
        refused(&mut harness, "the router's", &router, MacSpoofed, owner);
        let ipv6 = frame(EVERYBODY, ROUTER_INSIDE_MAC.0, 0x86dd, &[0x60; 60]);
        refused(&mut harness, "the router's, IPv6", &ipv6, MacSpoofed, owner);
        let another = asks(EVERYBODY, OTHER_MAC, GUEST, ROUTER);
        refused(&mut harness, "ARP about another", &another, MacSpoofed, owner);
    }
}

/// The configuration says which Ethernet address the guest has.
#[test]
fn a_configured_ethernet_address() {
    let mut harness = Harness::load();
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        let mut guest = endpoint(GUEST_OUTSIDE);
        guest.mac = Mac(GUEST_MAC);
        harness.set_endpoint(GUEST_OUTSIDE, &guest);
        let ipv4 = to_sibling(GUEST, OTHER_MAC);
        refused(&mut harness, "IPv4", &ipv4, MacSpoofed, owner);
        let sender = (OTHER_MAC, GUEST);
        let announcement = arp(EVERYBODY, OTHER_MAC, REQUEST, sender, (NOBODY, GUEST));
        refused(&mut harness, "ARP", &announcement, MacSpoofed, owner);
        let ipv6 = frame(SIBLING_MAC, OTHER_MAC, 0x86dd, &[0x60; 60]);
        if owner.is_some() {
            refused(&mut harness, "IPv6", &ipv6, MacSpoofed, owner);
        } else {
            accepted(&mut harness, "IPv6 of somebody else there", &ipv6);
        }
        accepted(&mut harness, "the configured one", &tcp(GUEST));
    }
    // Without one, it is what the guest says.
    harness.learn(Some(GUEST));
    accepted(&mut harness, "changed", &to_sibling(GUEST, OTHER_MAC));
    assert_eq!(harness.endpoint(GUEST_OUTSIDE).location.mac.0, OTHER_MAC);
}

/// One that the file gives to the sibling: nobody else has it, wherever it is and whatever it sends; and the sibling gets it back at once.
#[test]
fn a_promised_ethernet_address() {
    let mut harness = Harness::load();
    let ipv6 = frame(EVERYBODY, SIBLING_MAC, 0x86dd, &[0; 40]);
    let announcement = asks(EVERYBODY, SIBLING_MAC, GUEST, GUEST);
    let announcement = [&announcement[..6], &SIBLING_MAC, &announcement[12..]].concat();
    let ipv4 = to_sibling(GUEST, SIBLING_MAC);
    harness.learn(Some(GUEST));
    accepted(&mut harness, "nobody's yet", &ipv4);
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        harness.promise(ENVIRONMENT, SIBLING_MAC, SIBLING);
        for (what, frame) in [("IPv4", &ipv4), ("ARP", &announcement)] {
            refused(&mut harness, what, frame, MacSpoofed, owner);
        }
        if owner.is_some() {
            refused(&mut harness, "IPv6", &ipv6, MacSpoofed, owner);
        }
        harness.promise(OTHER_ENVIRONMENT, GUEST_MAC, SIBLING);
        accepted(&mut harness, "another environment's promise", &tcp(GUEST));
    }
}

/// The last to announce a floating address has it, and nobody else; with the Ethernet address of the machine that it is.
#[test]
fn a_floating_address() {
    let mut harness = Harness::load();
    let announcement = asks(EVERYBODY, GUEST_MAC, SIBLING, SIBLING);
    harness.learn(Some(GUEST));
    let mut floating = endpoint(SIBLING_OUTSIDE);
    floating.floating = 1;
    floating.location.interface = NOWHERE;
    floating.location.age = Age::new(now() - 100 * MILLISECOND);
    harness.set_endpoint(SIBLING_OUTSIDE, &floating);
    refused(
        &mut harness,
        "held elsewhere",
        &tcp(SIBLING),
        SourceSpoofed,
        Some(GUEST),
    );
    left(&mut harness, "announced", &announcement);
    let location = harness.endpoint(SIBLING_OUTSIDE).location;
    assert_eq!((location.mac.0, location.interface), (GUEST_MAC, 1));
    accepted(&mut harness, "held here", &tcp(SIBLING));

    let mut guest = endpoint(GUEST_OUTSIDE);
    guest.mac = Mac(OTHER_MAC);
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    refused(
        &mut harness,
        "with another Ethernet address",
        &tcp(SIBLING),
        MacSpoofed,
        Some(GUEST),
    );
}

/// Without a fast path the same is refused; what is not is the bridge's to forward.
#[test]
fn without_a_fast_path() {
    let mut harness = Harness::load();
    let uplink = Uplink {
        interface: 0,
        ..uplink()
    };
    harness.learn(Some(GUEST));
    harness.set_uplink(&uplink);
    refused(&mut harness, "spoofed", &tcp(SIBLING), SourceSpoofed, Some(GUEST));
    refused(
        &mut harness,
        "to a sibling",
        &to_sibling(SIBLING, GUEST_MAC),
        SourceSpoofed,
        Some(GUEST),
    );
    left(&mut harness, "to the outside", &tcp(GUEST));
    left(&mut harness, "to a sibling", &to_sibling(GUEST, GUEST_MAC));
    left(&mut harness, "to everybody", &to_everybody(GUEST));
}

/// Any of the environment's guests may be there, but not one that was heard elsewhere just now.
#[test]
fn on_a_port_of_others() {
    let mut harness = Harness::load();
    for source in [STRANGER, GUEST_OUTSIDE, OUTSIDE, UNSPECIFIED] {
        harness.learn(None);
        refused(&mut harness, &format!("{source}"), &tcp(source), SourceSpoofed, None);
        let announcement = asks(ROUTER_INSIDE_MAC.0, GUEST_MAC, source, ROUTER);
        refused(
            &mut harness,
            &format!("{source} by ARP"),
            &announcement,
            SourceSpoofed,
            None,
        );
    }
    refused(&mut harness, "the router", &tcp(ROUTER), MacSpoofed, None);
    for source in [GUEST, SIBLING] {
        harness.learn(None);
        accepted(&mut harness, &format!("{source}"), &tcp(source));
    }
    let heard_elsewhere = |harness: &mut Harness, owner, milliseconds| {
        harness.learn(owner);
        let mut guest = endpoint(GUEST_OUTSIDE);
        guest.location.mac = Mac(SIBLING_MAC);
        guest.location.interface = NOWHERE;
        guest.location.age = Age::new(now() - milliseconds * MILLISECOND);
        harness.set_endpoint(GUEST_OUTSIDE, &guest);
    };
    heard_elsewhere(&mut harness, None, 100);
    refused(&mut harness, "just now", &tcp(GUEST), SourceSpoofed, None);
    heard_elsewhere(&mut harness, None, 700);
    accepted(&mut harness, "a while ago", &tcp(GUEST));
    let location = harness.endpoint(GUEST_OUTSIDE).location;
    assert_eq!((location.mac.0, location.interface), (GUEST_MAC, 1));
    heard_elsewhere(&mut harness, Some(GUEST), 100);
    accepted(&mut harness, "on its own port it is at home", &tcp(GUEST));
}

#[test]
fn malformed_packets_go_nowhere() {
    let mut harness = Harness::load();
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        for to in [ROUTER_INSIDE_MAC.0, SIBLING_MAC, EVERYBODY] {
            let mut ipv4 = tcp(GUEST);
            ipv4[..6].copy_from_slice(&to);
            ipv4[14] = 0x44;
            refused(&mut harness, "IPv4", &ipv4, MalformedIpv4, owner);
            let mut question = asks(to, GUEST_MAC, GUEST, ROUTER);
            question[21] = 0;
            refused(&mut harness, "ARP", &question, MalformedArp, owner);
        }
    }
}

/// A bridge drops frames from a group or from nobody, and learns nothing from them.
#[test]
fn sources_that_no_guest_has() {
    let mut harness = Harness::load();
    for mac in [EVERYBODY, [1, 0, 0x5e, 0, 0, 1], NOBODY] {
        for packet in [
            packet(GUEST, OUTSIDE, Payload::Tcp),
            packet(SIBLING, OUTSIDE, Payload::Tcp),
        ] {
            harness.learn(Some(GUEST));
            left(&mut harness, "left to the bridge", &sent_by(mac, &packet));
            assert_eq!(harness.endpoint(GUEST_OUTSIDE).location.mac.0, GUEST_MAC);
            assert_eq!(harness.fdb_entry(ENVIRONMENT, mac), None);
        }
    }
}

//! From a guest to another environment's, to a sibling's and to its own external address: in one pass what two routers do.

use crate::{
    harness::{Harness, Outcome, Program},
    host::now,
    names::{
        ELSEWHERE, ENVIRONMENT, GUEST, GUEST_MAC, GUEST_OUTSIDE, NEIGHBOUR, OTHER_ENVIRONMENT, ROUTER_WAN, SIBLING,
        SIBLING_MAC, SIBLING_OUTSIDE, STRANGER, STRANGER_MAC, STRANGER_OUTSIDE, sent_by,
    },
    packet::{Payload, Sum, forwarded, packet},
};
use envnet_common::{age::Age, maps::ROUTER_INSIDE_MAC};

fn payloads() -> [Payload; 6] {
    [
        Payload::Tcp,
        Payload::Udp(vec![7; 33]),
        Payload::UdpLite,
        Payload::Sctp,
        Payload::Echo,
        Payload::Raw(99, vec![1, 2, 3]),
    ]
}

/// The model of it is the packet that the receiver would see, written down anew.
#[test]
fn both_addresses_in_one_pass() {
    let mut harness = Harness::load();
    for payload in payloads() {
        for sum in [Sum::Right, Sum::Wrong(0x0101)] {
            for (to, environment, internal, mac) in [
                (ELSEWHERE, OTHER_ENVIRONMENT, STRANGER, STRANGER_MAC),
                (SIBLING_OUTSIDE, ENVIRONMENT, SIBLING, SIBLING_MAC),
            ] {
                harness.learn(Some(GUEST));
                let sent = sent_by(GUEST_MAC, &packet(GUEST, to, payload.clone()).sum(sum));
                let seen = sent_by(GUEST_MAC, &packet(GUEST_OUTSIDE, internal, payload.clone()).sum(sum));
                let seen = forwarded(&seen, 2, mac, ROUTER_INSIDE_MAC.0);
                let bytes = sent.len() as u64;
                harness.must_count(
                    &format!("{payload:?} to {to}"),
                    Program::GuestIngress,
                    &sent,
                    &Outcome::Redirect(seen),
                    &[
                        ((ENVIRONMENT, GUEST), [0, 0, 1, bytes]),
                        ((environment, internal), [1, bytes, 0, 0]),
                    ],
                );
            }
        }
    }
}

#[test]
fn to_itself() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let sent = sent_by(GUEST_MAC, &packet(GUEST, GUEST_OUTSIDE, Payload::Tcp));
    let seen = sent_by(GUEST_MAC, &packet(GUEST_OUTSIDE, GUEST, Payload::Tcp));
    let seen = Outcome::Redirect(forwarded(&seen, 2, GUEST_MAC, ROUTER_INSIDE_MAC.0));
    let bytes = sent.len() as u64;
    let counted = ((ENVIRONMENT, GUEST), [1, bytes, 1, bytes]);
    harness.must_count("to itself", Program::GuestIngress, &sent, &seen, &[counted]);
}

/// The checksum may be zero between the two translations, and is none in neither.
#[test]
fn udp_checksums_around_zero() {
    let mut harness = Harness::load();
    for word in 0..=u16::MAX {
        let payload = Payload::Udp(word.to_be_bytes().to_vec());
        let between = packet(GUEST_OUTSIDE, ELSEWHERE, payload.clone());
        let after = packet(GUEST_OUTSIDE, STRANGER, payload.clone());
        if ![&between, &after]
            .iter()
            .any(|packet| packet.bytes()[26..28] == [0xff; 2])
        {
            continue;
        }
        harness.learn(Some(GUEST));
        let sent = sent_by(GUEST_MAC, &packet(GUEST, ELSEWHERE, payload));
        let seen = forwarded(&sent_by(GUEST_MAC, &after), 2, STRANGER_MAC, ROUTER_INSIDE_MAC.0);
        let bytes = sent.len() as u64;
        harness.must_count(
            &format!("{word:04x}"),
            Program::GuestIngress,
            &sent,
            &Outcome::Redirect(seen),
            &[
                ((ENVIRONMENT, GUEST), [0, 0, 1, bytes]),
                ((OTHER_ENVIRONMENT, STRANGER), [1, bytes, 0, 0]),
            ],
        );
    }
}

/// No router would ever learn a next hop for it, whoever claims it on the uplink.
#[test]
fn an_own_address_that_is_nobodys() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    harness.set_next_hop(STRANGER_OUTSIDE, NEIGHBOUR, Age::new(now()));
    let sent = sent_by(GUEST_MAC, &packet(GUEST, STRANGER_OUTSIDE, Payload::Tcp));
    let left = Outcome::Redirect(sent.clone());
    harness.must("nobody's", Program::GuestIngress, &sent, &left);
}

/// Everybody else in the pool is a neighbour on the uplink, and is sent to directly.
#[test]
fn a_neighbour_in_the_pool() {
    let mut harness = Harness::load();
    let neighbour = [172, 16, 0, 77].into();
    let mac = [2, 0, 0, 0, 0, 77];
    harness.learn(Some(GUEST));
    harness.set_next_hop(neighbour, mac, Age::new(now()));
    let sent = sent_by(GUEST_MAC, &packet(GUEST, neighbour, Payload::Tcp));
    let seen = sent_by(GUEST_MAC, &packet(GUEST_OUTSIDE, neighbour, Payload::Tcp));
    let seen = Outcome::Redirect(forwarded(&seen, 1, mac, ROUTER_WAN));
    let counted = ((ENVIRONMENT, GUEST), [0, 0, 1, sent.len() as u64]);
    harness.must_count("neighbour", Program::GuestIngress, &sent, &seen, &[counted]);
}

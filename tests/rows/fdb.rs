//! Which port an Ethernet address is behind: what a bridge learns, with a guard against who takes another's.

use envnet_common::{
    DropReason::MacSpoofed,
    age::Age,
    maps::{Location, ROUTER_INSIDE_MAC},
};
use envnet_fuzz::harness::LOOPBACK;

use crate::{
    harness::{Harness, Outcome, Program},
    host::{NOWHERE, endpoint, now},
    names::{
        ENVIRONMENT, EVERYBODY, GUEST, GUEST_MAC, GUEST_OUTSIDE, IPV4, OTHER_ENVIRONMENT, OUTSIDE, ROUTER, SIBLING,
        SIBLING_MAC, sent_by,
    },
    packet::{Payload, frame, packet},
};

const SECOND: u64 = 1_000_000_000;
/// Multicast to all IPv6 routers, ff02::2, as Ethernet sends it (RFC 2464, section 7).
const ALL_ROUTERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];
const IPV6: u16 = 0x86dd;
/// Longer than a bridge remembers.
const LONG: u64 = 301 * SECOND;

fn to_sibling() -> Vec<u8> {
    frame(
        SIBLING_MAC,
        GUEST_MAC,
        IPV4,
        &packet(GUEST, SIBLING, Payload::Tcp).bytes(),
    )
}

fn from_router(to: [u8; 6]) -> Vec<u8> {
    frame(
        to,
        ROUTER_INSIDE_MAC.0,
        IPV4,
        &packet(ROUTER, GUEST, Payload::Tcp).bytes(),
    )
}

fn redirected(frame: &[u8]) -> Outcome {
    Outcome::Redirect(frame.to_vec())
}

fn left(frame: &[u8]) -> Outcome {
    Outcome::Next(frame.to_vec())
}

#[test]
fn a_guest_that_sends_is_learned() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let before = now();
    let sent = sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    harness.observe(Program::GuestIngress, &sent).unwrap();
    let entry = harness.fdb_entry(ENVIRONMENT, GUEST_MAC).expect("learned");
    assert_eq!(entry.interface, LOOPBACK);
    assert!(entry.last_seen >= before);
    assert_eq!(harness.fdb_entry(OTHER_ENVIRONMENT, GUEST_MAC), None);
}

/// A frame that says nothing but its source refreshes the entry of its own port. It makes none, and moves none.
#[test]
fn a_frame_without_an_ip_address_refreshes_its_entry() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let solicitation = frame(ALL_ROUTERS, GUEST_MAC, IPV6, &[0x60; 48]);
    harness.observe(Program::GuestIngress, &solicitation).unwrap();
    assert_eq!(harness.fdb_entry(ENVIRONMENT, GUEST_MAC), None);

    harness.set_fdb_entry(ENVIRONMENT, GUEST_MAC, LOOPBACK, now() - SECOND / 4);
    let before = now();
    harness.observe(Program::GuestIngress, &solicitation).unwrap();
    let refreshed = harness.fdb_entry(ENVIRONMENT, GUEST_MAC).expect("refreshed");
    assert!(
        refreshed.last_seen >= before && refreshed.interface == LOOPBACK,
        "{refreshed:?}"
    );

    harness.set_fdb_entry(ENVIRONMENT, GUEST_MAC, NOWHERE, now() - SECOND);
    harness.observe(Program::GuestIngress, &solicitation).unwrap();
    let elsewhere = harness.fdb_entry(ENVIRONMENT, GUEST_MAC).expect("still there");
    assert_eq!(elsewhere.interface, NOWHERE);
}

/// Who was quiet while somebody else spoke in its name only has to speak.
#[test]
fn a_guest_takes_its_own_address_back() {
    let mut harness = Harness::load();
    let sent = sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    harness.learn(Some(GUEST));
    let mut guest = endpoint(GUEST_OUTSIDE);
    guest.location.age = Age::new(now() - SECOND);
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    harness.set_fdb_entry(ENVIRONMENT, GUEST_MAC, NOWHERE, now());
    assert!(matches!(
        harness.observe(Program::GuestIngress, &sent),
        Ok(Outcome::Redirect(_))
    ));
    assert_eq!(
        harness.fdb_entry(ENVIRONMENT, GUEST_MAC).map(|entry| entry.interface),
        Some(LOOPBACK)
    );
}

/// A guest cannot fill the table for everybody by changing its address with every frame.
#[test]
fn a_guest_has_one_address_at_a_time() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let other = [2, 0, 0, 0, 0, 0x77];
    let sent = sent_by(other, &packet(GUEST, OUTSIDE, Payload::Tcp));
    let mut guest = endpoint(GUEST_OUTSIDE);
    guest.location.age = Age::new(now());
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    harness.observe(Program::GuestIngress, &sent).unwrap();
    assert_eq!(harness.fdb_entry(ENVIRONMENT, other), None);
    guest.location.age = Age::new(now() - SECOND / 10);
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    harness.observe(Program::GuestIngress, &sent).unwrap();
    assert!(harness.fdb_entry(ENVIRONMENT, other).is_some());
}

#[test]
fn nobody_takes_the_address_of_who_speaks() {
    let mut harness = Harness::load();
    let sent = sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    for owner in [Some(GUEST), None] {
        harness.learn(owner);
        let mut guest = endpoint(GUEST_OUTSIDE);
        guest.location = Location::default();
        harness.set_endpoint(GUEST_OUTSIDE, &guest);
        harness.set_fdb_entry(ENVIRONMENT, GUEST_MAC, NOWHERE, now());
        harness.must(
            "speaks elsewhere",
            Program::GuestIngress,
            &sent,
            &Outcome::Drop(MacSpoofed, Some(GUEST)),
        );
        assert_eq!(
            harness.fdb_entry(ENVIRONMENT, GUEST_MAC).map(|entry| entry.interface),
            Some(NOWHERE)
        );
        // In another environment, every address is another's.
        harness.learn(owner);
        harness.set_fdb_entry(OTHER_ENVIRONMENT, GUEST_MAC, NOWHERE, now());
        assert_ne!(
            harness.observe(Program::GuestIngress, &sent),
            Ok(Outcome::Drop(MacSpoofed, Some(GUEST)))
        );
        // It has moved.
        harness.learn(owner);
        harness.set_fdb_entry(ENVIRONMENT, GUEST_MAC, NOWHERE, now() - 6 * SECOND / 10);
        assert_ne!(
            harness.observe(Program::GuestIngress, &sent),
            Ok(Outcome::Drop(MacSpoofed, Some(GUEST)))
        );
        assert_eq!(
            harness.fdb_entry(ENVIRONMENT, GUEST_MAC).map(|entry| entry.interface),
            Some(LOOPBACK)
        );
    }
}

/// Nor is anything else believed that such a frame says.
#[test]
fn who_takes_an_address_teaches_nothing() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    harness.set_fdb_entry(ENVIRONMENT, SIBLING_MAC, NOWHERE, now());
    let sent = sent_by(SIBLING_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    let dropped = Outcome::Drop(MacSpoofed, Some(GUEST));
    harness.must("the sibling's", Program::GuestIngress, &sent, &dropped);
    assert_eq!(harness.endpoint(GUEST_OUTSIDE).location.mac.0, GUEST_MAC);
}

#[test]
fn to_a_sibling() {
    let mut harness = Harness::load();
    let frame = to_sibling();
    let mut case = |note: &str, environment, interface, silent: u64, outcome: Outcome| {
        harness.learn(Some(GUEST));
        let Some(heard) = now().checked_sub(silent) else {
            // The kernel has not run that long, as in a guest that was just booted.
            return;
        };
        harness.set_fdb_entry(environment, SIBLING_MAC, interface, heard);
        harness.must(note, Program::GuestIngress, &frame, &outcome);
    };
    case("speaks", ENVIRONMENT, NOWHERE, 0, redirected(&frame));
    case("in another environment", OTHER_ENVIRONMENT, NOWHERE, 0, left(&frame));
    case("on the same port", ENVIRONMENT, LOOPBACK, 0, left(&frame));
    case(
        "silent, and its port is gone",
        ENVIRONMENT,
        NOWHERE,
        SECOND,
        left(&frame),
    );
    harness.learn(Some(GUEST));
    harness.must("never heard", Program::GuestIngress, &frame, &left(&frame));
    let mut to_everybody = frame.clone();
    to_everybody[..6].copy_from_slice(&EVERYBODY);
    harness.must(
        "to everybody",
        Program::GuestIngress,
        &to_everybody,
        &left(&to_everybody),
    );
}

#[test]
fn from_the_router() {
    let mut harness = Harness::load();
    let frame = from_router(GUEST_MAC);
    let mut case = |note: &str, environment, interface, silent: u64, outcome: Outcome| {
        harness.learn(Some(ROUTER));
        let Some(heard) = now().checked_sub(silent) else {
            // The kernel has not run that long, as in a guest that was just booted.
            return;
        };
        harness.set_fdb_entry(environment, GUEST_MAC, interface, heard);
        harness.must(note, Program::RouterPort, &frame, &outcome);
    };
    case("speaks", ENVIRONMENT, NOWHERE, 0, redirected(&frame));
    case("silent", ENVIRONMENT, LOOPBACK, SECOND, redirected(&frame));
    case(
        "silent, and its port is gone",
        ENVIRONMENT,
        NOWHERE,
        SECOND,
        left(&frame),
    );
    case("forgotten", ENVIRONMENT, LOOPBACK, LONG, left(&frame));
    case("in another environment", OTHER_ENVIRONMENT, LOOPBACK, 0, left(&frame));
    harness.learn(Some(ROUTER));
    harness.must("never heard", Program::RouterPort, &frame, &left(&frame));
    assert_eq!(harness.fdb_entry(ENVIRONMENT, ROUTER_INSIDE_MAC.0), None);
    for group in [EVERYBODY, [1, 0, 0x5e, 0, 0, 1]] {
        let frame = from_router(group);
        harness.must("to a group", Program::RouterPort, &frame, &left(&frame));
    }
}

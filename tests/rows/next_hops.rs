//! Learning next hops from ARP on the uplink, like the kernel's own table does.

use std::net::Ipv4Addr;

use envnet_common::age::Age;

use crate::{
    arp::{Addresses, NOBODY, REPLY, REQUEST, arp, asks},
    harness::{Harness, Program},
    host::now,
    names::{
        EVERYBODY, GUEST, GUEST_OUTSIDE, NEIGHBOUR, NEXT_HOP, OTHER_ROUTER_WAN, OUTSIDE, ROUTER_OUTSIDE, ROUTER_WAN,
        SIBLING_OUTSIDE,
    },
};

const MACHINE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 77);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 77];
const OLD: [u8; 6] = [2, 0, 0, 0, 0, 78];

/// Runs one frame and says whom `hop` is then thought to be; it is `known` before or not.
fn taught(harness: &mut Harness, frame: &[u8], hop: Ipv4Addr, known: bool) -> Option<[u8; 6]> {
    harness.learn(Some(GUEST));
    if known {
        harness.set_next_hop(hop, OLD, Age::new(now()));
    }
    harness.observe(Program::UplinkIngress, frame).unwrap();
    harness.next_hop(hop).map(|hop| hop.mac.0)
}

fn says(to: [u8; 6], from: [u8; 6], operation: u8, sender: Addresses) -> Vec<u8> {
    arp(to, from, operation, sender, (ROUTER_WAN, ROUTER_OUTSIDE))
}

#[test]
fn an_answer_to_a_router_tells() {
    let mut harness = Harness::load();
    for router in [ROUTER_WAN, OTHER_ROUTER_WAN] {
        for operation in [REPLY, REQUEST] {
            for known in [false, true] {
                let frame = says(router, MAC, operation, (MAC, MACHINE));
                assert_eq!(taught(&mut harness, &frame, MACHINE, known), Some(MAC));
            }
        }
    }
    // The router need not be in the pool.
    let frame = says(ROUTER_WAN, MAC, REPLY, (MAC, NEXT_HOP));
    assert_eq!(taught(&mut harness, &frame, NEXT_HOP, true), Some(MAC));
}

#[test]
fn what_goes_to_everybody_only_changes_what_is_known() {
    let mut harness = Harness::load();
    let announcement = arp(EVERYBODY, MAC, REQUEST, (MAC, MACHINE), (NOBODY, MACHINE));
    let reply = arp(EVERYBODY, MAC, REPLY, (MAC, MACHINE), (EVERYBODY, MACHINE));
    let question = arp(EVERYBODY, MAC, REQUEST, (MAC, MACHINE), (NOBODY, GUEST_OUTSIDE));
    // Seen because the interface is promiscuous.
    let to_another = says(NEIGHBOUR, MAC, REPLY, (MAC, MACHINE));
    for frame in [announcement, reply, question, to_another] {
        assert_eq!(taught(&mut harness, &frame, MACHINE, false), None);
        assert_eq!(taught(&mut harness, &frame, MACHINE, true), Some(MAC));
    }
}

/// Nobody outside has an external address, or is anywhere that a next hop can be; and who says two things says nothing.
#[test]
fn what_is_not_believed() {
    let mut harness = Harness::load();
    for (note, frame, hop) in [
        (
            "a guest's",
            says(ROUTER_WAN, MAC, REPLY, (MAC, GUEST_OUTSIDE)),
            GUEST_OUTSIDE,
        ),
        (
            "a sibling's",
            says(ROUTER_WAN, MAC, REPLY, (MAC, SIBLING_OUTSIDE)),
            SIBLING_OUTSIDE,
        ),
        (
            "the router's",
            says(ROUTER_WAN, MAC, REPLY, (MAC, ROUTER_OUTSIDE)),
            ROUTER_OUTSIDE,
        ),
        (
            "two Ethernet addresses",
            says(ROUTER_WAN, NEIGHBOUR, REPLY, (MAC, MACHINE)),
            MACHINE,
        ),
        (
            "behind the router",
            says(ROUTER_WAN, MAC, REPLY, (MAC, OUTSIDE)),
            OUTSIDE,
        ),
        ("internal", says(ROUTER_WAN, MAC, REPLY, (MAC, GUEST)), GUEST),
        (
            "probe",
            asks(Ipv4Addr::UNSPECIFIED, GUEST_OUTSIDE),
            Ipv4Addr::UNSPECIFIED,
        ),
    ] {
        assert_eq!(taught(&mut harness, &frame, hop, false), None, "{note}");
        assert_eq!(taught(&mut harness, &frame, hop, true), Some(OLD), "{note}");
    }
    let mut malformed = says(ROUTER_WAN, MAC, REPLY, (MAC, MACHINE));
    malformed[21] = 3;
    assert_eq!(taught(&mut harness, &malformed, MACHINE, true), Some(OLD));
}

//! ARP for external addresses, answered in the host: to who asks on the uplink, and to the host itself, which the kernel
//! would not let ask.

use std::net::Ipv4Addr;

use crate::{
    arp::{NOBODY, REPLY, REQUEST, arp},
    harness::{Harness, Outcome, Program},
    names::{
        ELSEWHERE, EVERYBODY, GUEST, GUEST_OUTSIDE, HOST, NEIGHBOUR, OTHER_ROUTER_WAN, OUTSIDE, ROUTER_OUTSIDE,
        ROUTER_WAN, STRANGER_OUTSIDE,
    },
};

const MAPPED: [(Ipv4Addr, [u8; 6]); 3] = [
    (GUEST_OUTSIDE, ROUTER_WAN),
    (ROUTER_OUTSIDE, ROUTER_WAN),
    (ELSEWHERE, OTHER_ROUTER_WAN),
];

fn question(to: [u8; 6], mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(to, mac, REQUEST, (mac, sender), (NOBODY, target))
}

fn answer(router: [u8; 6], mac: [u8; 6], asker: Ipv4Addr, target: Ipv4Addr) -> Outcome {
    Outcome::Redirect(arp(mac, router, REPLY, (router, target), (mac, asker)))
}

#[test]
fn mapped_addresses_are_answered_for() {
    let mut harness = Harness::load();
    harness.learn(None);
    for (program, mac) in [(Program::UplinkIngress, NEIGHBOUR), (Program::UplinkEgress, HOST)] {
        for (target, router) in MAPPED {
            for asker in [OUTSIDE, Ipv4Addr::UNSPECIFIED, [172, 16, 0, 5].into()] {
                let frame = question(EVERYBODY, mac, asker, target);
                let answer = answer(router, mac, asker, target);
                harness.must(
                    &format!("{asker} asks for {target}, {program:?}"),
                    program,
                    &frame,
                    &answer,
                );
            }
        }
    }
    // Unicast, as the kernel confirms what it knows.
    for (target, router) in MAPPED {
        let frame = question(router, NEIGHBOUR, OUTSIDE, target);
        let answer = answer(router, NEIGHBOUR, OUTSIDE, target);
        harness.must("unicast", Program::UplinkIngress, &frame, &answer);
    }
}

#[test]
fn nothing_else_is() {
    let mut harness = Harness::load();
    harness.learn(None);
    let mut left = |note: &str, program, frame: Vec<u8>| {
        let left = Outcome::Next(frame.clone());
        harness.must(note, program, &frame, &left);
    };
    for (program, mac) in [(Program::UplinkIngress, NEIGHBOUR), (Program::UplinkEgress, HOST)] {
        for target in [
            STRANGER_OUTSIDE,
            OUTSIDE,
            GUEST,
            [172, 16, 3, 2].into(),
            Ipv4Addr::UNSPECIFIED,
        ] {
            left(&format!("{target}"), program, question(EVERYBODY, mac, OUTSIDE, target));
        }
        left(
            "an internal sender",
            program,
            question(EVERYBODY, mac, GUEST, GUEST_OUTSIDE),
        );
        let reply = arp(EVERYBODY, mac, REPLY, (mac, OUTSIDE), (NOBODY, GUEST_OUTSIDE));
        left("a reply", program, reply);
        let mut malformed = question(EVERYBODY, mac, OUTSIDE, GUEST_OUTSIDE);
        malformed[21] = 9;
        left("malformed", program, malformed);
    }
    let ingress = Program::UplinkIngress;
    left(
        "to another machine",
        ingress,
        question(NEIGHBOUR, HOST, OUTSIDE, GUEST_OUTSIDE),
    );
    left(
        "to another router",
        ingress,
        question(OTHER_ROUTER_WAN, NEIGHBOUR, OUTSIDE, GUEST_OUTSIDE),
    );
    // The routers are on the uplink themselves, and ask each other through the kernel.
    left(
        "a router's own",
        ingress,
        question(EVERYBODY, ROUTER_WAN, ROUTER_OUTSIDE, ELSEWHERE),
    );
    // The host answers for nobody else who sends through it: a bridge's other ports, a container.
    left(
        "not the host's",
        Program::UplinkEgress,
        question(EVERYBODY, NEIGHBOUR, OUTSIDE, GUEST_OUTSIDE),
    );
}

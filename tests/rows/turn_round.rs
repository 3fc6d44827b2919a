//! The host and the routers: the kernel hands no frame from a macvlan's parent to the macvlan or back, so the frames turn
//! round on the uplink's egress.

use std::{process::Command, time::Duration};

use envnet_lab::socket;

use crate::{
    arp::{NOBODY, REQUEST, arp},
    harness::{Harness, Outcome, Program},
    host,
    names::{EVERYBODY, GUEST_OUTSIDE, HOST, IPV4, NEIGHBOUR, OTHER_ROUTER_WAN, OUTSIDE, ROUTER_OUTSIDE, ROUTER_WAN},
    packet::{Payload, frame, packet},
};

fn between(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    frame(to, from, IPV4, &packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp).bytes())
}

#[test]
fn between_the_host_and_a_router() {
    let mut harness = Harness::load();
    harness.learn(None);
    for (note, frame) in [
        ("to a router", between(ROUTER_WAN, HOST)),
        ("to another", between(OTHER_ROUTER_WAN, HOST)),
        ("from a router", between(HOST, ROUTER_WAN)),
        ("from another", between(HOST, OTHER_ROUTER_WAN)),
    ] {
        harness.must(note, Program::UplinkEgress, &frame, &Outcome::Redirect(frame.clone()));
    }
    let unicast = arp(ROUTER_WAN, HOST, REQUEST, (HOST, OUTSIDE), (NOBODY, GUEST_OUTSIDE));
    let turned = Outcome::Redirect(unicast.clone());
    harness.must(
        "the host confirms what it knows",
        Program::UplinkEgress,
        &unicast,
        &turned,
    );
}

#[test]
fn everything_else_leaves() {
    let mut harness = Harness::load();
    harness.learn(None);
    let mut near = ROUTER_WAN;
    near[5] ^= 0x80;
    for (note, frame) in [
        ("the host's own", between(NEIGHBOUR, HOST)),
        ("a router's own", between(NEIGHBOUR, ROUTER_WAN)),
        ("nearly a router", between(near, HOST)),
        ("to the host from another", between(HOST, NEIGHBOUR)),
        ("to everybody", between(EVERYBODY, HOST)),
        ("to a group", between([1, 0, 0x5e, 0, 0, 1], HOST)),
        (
            "a router asks everybody",
            arp(
                EVERYBODY,
                ROUTER_WAN,
                REQUEST,
                (ROUTER_WAN, ROUTER_OUTSIDE),
                (NOBODY, OUTSIDE),
            ),
        ),
    ] {
        harness.must(note, Program::UplinkEgress, &frame, &Outcome::Next(frame.clone()));
    }
}

/// It may ask for the host, which would otherwise not hear it.
#[test]
fn the_host_gets_a_copy_of_what_a_router_asks_everybody() {
    let mut harness = Harness::load();
    harness.learn(None);
    host::enter_another();
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    let ingress = socket::frames("lo").unwrap();
    ingress.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let question = arp(
        EVERYBODY,
        ROUTER_WAN,
        REQUEST,
        (ROUTER_WAN, ROUTER_OUTSIDE),
        (NOBODY, OUTSIDE),
    );
    let left = Outcome::Next(question.clone());
    // Only the one from a router is copied.
    let hosts = arp(EVERYBODY, HOST, REQUEST, (HOST, OUTSIDE), (NOBODY, OUTSIDE));
    harness.must(
        "the host asks",
        Program::UplinkEgress,
        &hosts,
        &Outcome::Next(hosts.clone()),
    );
    harness.must("a router asks", Program::UplinkEgress, &question, &left);
    let mut buffer = [0; 256];
    let length = ingress.recv(&mut buffer).expect("no copy");
    assert_eq!(buffer[..length], question);
}

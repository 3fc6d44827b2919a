//! The host and the gateways: the kernel hands no frame from a macvlan's parent to the macvlan or back, so the frames turn
//! round on the uplink's egress.

use std::{process::Command, time::Duration};

use envnet_lab::socket;

use crate::{
    arp::{NOBODY, REQUEST, arp},
    harness::{Harness, Outcome, Program},
    host,
    names::{EVERYBODY, GATEWAY, GUEST_OUTSIDE, HOST, IPV4, NEIGHBOUR, OTHER_GATEWAY, OUTSIDE, ROUTER_OUTSIDE},
    packet::{Payload, frame, packet},
};

fn between(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    frame(to, from, IPV4, &packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp).bytes())
}

#[test]
fn between_the_host_and_a_gateway() {
    let mut harness = Harness::load();
    harness.learn(None);
    for (note, frame) in [
        ("to a gateway", between(GATEWAY, HOST)),
        ("to another", between(OTHER_GATEWAY, HOST)),
        ("from a gateway", between(HOST, GATEWAY)),
        ("from another", between(HOST, OTHER_GATEWAY)),
    ] {
        harness.must(note, Program::UplinkEgress, &frame, &Outcome::Redirect(frame.clone()));
    }
    let unicast = arp(GATEWAY, HOST, REQUEST, (HOST, OUTSIDE), (NOBODY, GUEST_OUTSIDE));
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
    let mut near = GATEWAY;
    near[5] ^= 0x80;
    for (note, frame) in [
        ("the host's own", between(NEIGHBOUR, HOST)),
        ("a gateway's own", between(NEIGHBOUR, GATEWAY)),
        ("nearly a gateway", between(near, HOST)),
        ("to the host from another", between(HOST, NEIGHBOUR)),
        ("to everybody", between(EVERYBODY, HOST)),
        ("to a group", between([1, 0, 0x5e, 0, 0, 1], HOST)),
        (
            "a gateway asks everybody",
            arp(
                EVERYBODY,
                GATEWAY,
                REQUEST,
                (GATEWAY, ROUTER_OUTSIDE),
                (NOBODY, OUTSIDE),
            ),
        ),
    ] {
        harness.must(note, Program::UplinkEgress, &frame, &Outcome::Next(frame.clone()));
    }
}

/// It may ask for the host, which would otherwise not hear it.
#[test]
fn the_host_gets_a_copy_of_what_a_gateway_asks_everybody() {
    let mut harness = Harness::load();
    harness.learn(None);
    host::enter_another();
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    let ingress = socket::frames("lo").unwrap();
    ingress.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let question = arp(
        EVERYBODY,
        GATEWAY,
        REQUEST,
        (GATEWAY, ROUTER_OUTSIDE),
        (NOBODY, OUTSIDE),
    );
    let left = Outcome::Next(question.clone());
    // Only the one from a gateway is copied.
    let hosts = arp(EVERYBODY, HOST, REQUEST, (HOST, OUTSIDE), (NOBODY, OUTSIDE));
    harness.must(
        "the host asks",
        Program::UplinkEgress,
        &hosts,
        &Outcome::Next(hosts.clone()),
    );
    harness.must("a gateway asks", Program::UplinkEgress, &question, &left);
    let mut buffer = [0; 256];
    let length = ingress.recv(&mut buffer).expect("no copy");
    assert_eq!(buffer[..length], question);
}

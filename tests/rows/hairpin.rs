//! From a guest to an external address of its own environment: RFC 4787, REQ-9, and RFC 5508, REQ-7.
//!
//! Both stages run one after the other here, as the redirect has them do.

use crate::{
    harness::{Outcome, Program, Row, run},
    names::{GUEST, GUEST_OUTSIDE, IPV4, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN, SIBLING, SIBLING_OUTSIDE, outgoing, row},
    packet::{Packet, Payload, frame, packet},
};

/// `sent` by a guest, `between` the stages, `received` by the other one.
fn hairpin(description: &str, sent: &Packet, between: &Packet, received: &Packet) -> [Row; 2] {
    let looped = |packet: &Packet| frame(ROUTER_WAN, ROUTER_WAN, IPV4, &packet.bytes());
    [
        row(
            format!("{description}, out"),
            Program::Egress,
            outgoing(sent),
            Outcome::Redirect(looped(between)),
        ),
        row(
            format!("{description}, in"),
            Program::Ingress,
            looped(between),
            Outcome::Pass(looped(received)),
        ),
    ]
}

fn between_guests(description: &str, payload: &Payload) -> [Row; 2] {
    let seen = |from, to| packet(from, to, payload.clone());
    hairpin(
        description,
        &seen(GUEST, SIBLING_OUTSIDE),
        &seen(GUEST_OUTSIDE, SIBLING_OUTSIDE),
        &seen(GUEST_OUTSIDE, SIBLING),
    )
}

#[test]
fn to_a_sibling() {
    let udp = Payload::Udp(vec![1, 2, 3]);
    let rows = [
        ("TCP", Payload::Tcp),
        ("UDP", udp),
        ("echo", Payload::Echo),
        ("SCTP", Payload::Sctp),
    ];
    run(&rows
        .iter()
        .flat_map(|(name, payload)| between_guests(name, payload))
        .collect::<Vec<_>>());
}

#[test]
fn to_itself_and_to_the_router() {
    let seen = |from, to| packet(from, to, Payload::Tcp);
    run(&[
        hairpin(
            "itself",
            &seen(GUEST, GUEST_OUTSIDE),
            &seen(GUEST_OUTSIDE, GUEST_OUTSIDE),
            &seen(GUEST_OUTSIDE, GUEST),
        ),
        hairpin(
            "router",
            &seen(GUEST, ROUTER_OUTSIDE),
            &seen(GUEST_OUTSIDE, ROUTER_OUTSIDE),
            &seen(GUEST_OUTSIDE, ROUTER),
        ),
    ]
    .concat());
}

#[test]
fn a_later_fragment() {
    let seen = |from, to| packet(from, to, Payload::Udp(vec![5; 64])).piece(16..32);
    run(&hairpin(
        "fragment",
        &seen(GUEST, SIBLING_OUTSIDE),
        &seen(GUEST_OUTSIDE, SIBLING_OUTSIDE),
        &seen(GUEST_OUTSIDE, SIBLING),
    ));
}

/// The sibling rejects a packet of the guest's that came to it through the hairpin.
#[test]
fn an_error_between_siblings() {
    let error = |from, to, quoted_to, quoted_from| {
        let inner = packet(quoted_from, quoted_to, Payload::Udp(vec![1, 2, 3, 4]));
        packet(from, to, Payload::Error(3, 3, 28, Box::new(inner), Vec::new()))
    };
    run(&hairpin(
        "error",
        &error(SIBLING, GUEST_OUTSIDE, SIBLING, GUEST_OUTSIDE),
        &error(SIBLING_OUTSIDE, GUEST_OUTSIDE, SIBLING_OUTSIDE, GUEST_OUTSIDE),
        &error(SIBLING_OUTSIDE, GUEST, SIBLING_OUTSIDE, GUEST),
    ));
}

/// The sibling is down: the router cannot deliver what the guest has sent to it through the hairpin.
#[test]
fn an_error_of_the_router_about_a_hairpinned_packet() {
    let error = |from, to, quoted_to, quoted_from| {
        let inner = packet(quoted_from, quoted_to, Payload::Tcp);
        packet(from, to, Payload::Error(3, 1, 28, Box::new(inner), Vec::new()))
    };
    run(&hairpin(
        "error",
        &error(ROUTER, GUEST_OUTSIDE, SIBLING, GUEST_OUTSIDE),
        &error(ROUTER_OUTSIDE, GUEST_OUTSIDE, SIBLING_OUTSIDE, GUEST_OUTSIDE),
        &error(ROUTER_OUTSIDE, GUEST, SIBLING_OUTSIDE, GUEST),
    ));
}

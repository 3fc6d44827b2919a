//! ARP: RFC 826, with the probes and announcements of RFC 5227.

use std::net::Ipv4Addr;

use envnet_common::DropReason;

use crate::{
    harness::{Outcome, Program, Row, run},
    names::{
        ELSEWHERE, EVERYBODY, GUEST, GUEST_OUTSIDE, NEIGHBOUR, OUTSIDE, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN,
        SIBLING_OUTSIDE, STRANGER, STRANGER_OUTSIDE, is_dropped, row,
    },
    packet::frame,
};

pub(crate) const REQUEST: u8 = 1;
pub(crate) const REPLY: u8 = 2;
pub(crate) const NOBODY: [u8; 6] = [0; 6];
const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// Ethernet and IPv4 address, in this order.
pub(crate) type Addresses = ([u8; 6], Ipv4Addr);

/// What stands behind the Ethernet header.
fn body(operation: u8, sender: Addresses, target: Addresses) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    // Padding, as on a real Ethernet, which must stay.
    [
        &head[..],
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
        &[0xa5; 18],
    ]
    .concat()
}

/// A frame with an ARP packet: from its sender to its target, whatever Ethernet says.
pub(crate) fn arp(to: [u8; 6], from: [u8; 6], operation: u8, sender: Addresses, target: Addresses) -> Vec<u8> {
    frame(to, from, 0x0806, &body(operation, sender, target))
}

/// Somebody outside asks everybody.
pub(crate) fn asks(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(EVERYBODY, NEIGHBOUR, REQUEST, (NEIGHBOUR, sender), (NOBODY, target))
}

fn tells(sender: Addresses, target: Addresses) -> Vec<u8> {
    arp(ROUTER_WAN, sender.0, REPLY, sender, target)
}

fn answered(description: &str, sender: Ipv4Addr, target: Ipv4Addr) -> Row {
    let answer = arp(NEIGHBOUR, ROUTER_WAN, REPLY, (ROUTER_WAN, target), (NEIGHBOUR, sender));
    row(
        description,
        Program::Ingress,
        asks(sender, target),
        Outcome::Redirect(answer),
    )
}

fn refused(description: &str, frame: Vec<u8>) -> Row {
    is_dropped(description, Program::Ingress, frame, DropReason::ArpUnmapped, None)
}

fn passes(description: &str, program: Program, frame: Vec<u8>) -> Row {
    row(description, program, frame.clone(), Outcome::Pass(frame))
}

#[test]
fn requests_for_mapped_addresses_are_answered() {
    let unicast = arp(
        ROUTER_WAN,
        NEIGHBOUR,
        REQUEST,
        (NEIGHBOUR, OUTSIDE),
        (ROUTER_WAN, GUEST_OUTSIDE),
    );
    let answer = arp(
        NEIGHBOUR,
        ROUTER_WAN,
        REPLY,
        (ROUTER_WAN, GUEST_OUTSIDE),
        (NEIGHBOUR, OUTSIDE),
    );
    run(&[
        answered("guest", OUTSIDE, GUEST_OUTSIDE),
        answered("router", OUTSIDE, ROUTER_OUTSIDE),
        answered("by another environment", ELSEWHERE, GUEST_OUTSIDE),
        answered("probe", UNSPECIFIED, GUEST_OUTSIDE),
        answered("somebody announces our address", GUEST_OUTSIDE, GUEST_OUTSIDE),
        row("unicast", Program::Ingress, unicast, Outcome::Redirect(answer)),
    ]);
}

#[test]
fn nothing_else_is() {
    run(&[
        refused("nobody's", asks(OUTSIDE, STRANGER_OUTSIDE)),
        refused("another environment's", asks(OUTSIDE, ELSEWHERE)),
        refused("internal", asks(OUTSIDE, GUEST)),
        refused("the router's internal", asks(OUTSIDE, ROUTER)),
        refused("probe of nobody's", asks(UNSPECIFIED, STRANGER_OUTSIDE)),
        refused("an internal sender asks", asks(GUEST, GUEST_OUTSIDE)),
        refused("an internal sender announces itself", asks(GUEST, GUEST)),
        refused(
            "an internal sender answers",
            tells((NEIGHBOUR, ROUTER), (ROUTER_WAN, ROUTER_OUTSIDE)),
        ),
    ]);
}

#[test]
fn others_may_tell_about_themselves() {
    let other = (NEIGHBOUR, OUTSIDE);
    let translated = Outcome::Pass(tells(other, (ROUTER_WAN, ROUTER)));
    let looped = (ROUTER_WAN, SIBLING_OUTSIDE);
    let from_hairpin = Outcome::Pass(tells(looped, (ROUTER_WAN, ROUTER)));
    run(&[
        passes("announcement as a request", Program::Ingress, asks(OUTSIDE, OUTSIDE)),
        passes(
            "announcement as a reply",
            Program::Ingress,
            arp(EVERYBODY, NEIGHBOUR, REPLY, other, (EVERYBODY, OUTSIDE)),
        ),
        passes(
            "announcement of another environment's",
            Program::Ingress,
            asks(ELSEWHERE, ELSEWHERE),
        ),
        row(
            "reply to the router",
            Program::Ingress,
            tells(other, (ROUTER_WAN, ROUTER_OUTSIDE)),
            translated,
        ),
        row(
            "the router's own answer",
            Program::Ingress,
            tells(looped, (ROUTER_WAN, ROUTER_OUTSIDE)),
            from_hairpin,
        ),
        refused(
            "a false answer",
            tells((NEIGHBOUR, SIBLING_OUTSIDE), (ROUTER_WAN, ROUTER_OUTSIDE)),
        ),
        refused("announcement of nobody's", asks(STRANGER_OUTSIDE, STRANGER_OUTSIDE)),
    ]);
}

#[test]
fn malformed() {
    let changed = |at: usize, byte: u8| {
        let mut frame = asks(OUTSIDE, GUEST_OUTSIDE);
        frame[at] = byte;
        frame
    };
    let short = asks(OUTSIDE, GUEST_OUTSIDE)[..41].to_vec();
    let row = |description, frame| is_dropped(description, Program::Ingress, frame, DropReason::MalformedArp, None);
    run(&[
        row("not Ethernet", changed(15, 6)),
        row("not IPv4", changed(16, 0x86)),
        row("hardware length 8", changed(18, 8)),
        row("protocol length 16", changed(19, 16)),
        row("operation 0", changed(21, 0)),
        row("operation 3, RARP", changed(21, 3)),
        row("operation 257", changed(20, 1)),
        row("sent by a group", changed(22, 3)),
        row("27 bytes", short),
    ]);
}

/// The router asks and answers as 10.0.0.1, and the outside must not see that.
#[test]
fn what_the_router_says() {
    let says = |operation, sender: Ipv4Addr, target: Addresses| {
        arp(EVERYBODY, ROUTER_WAN, operation, (ROUTER_WAN, sender), target)
    };
    let translated = |description: &str, operation, target: Addresses| {
        let outcome = Outcome::Pass(says(operation, ROUTER_OUTSIDE, target));
        row(description, Program::Egress, says(operation, ROUTER, target), outcome)
    };
    let refused = |description, frame| is_dropped(description, Program::Egress, frame, DropReason::ArpUnmapped, None);
    let announcement = Outcome::Pass(says(REQUEST, ROUTER_OUTSIDE, (NOBODY, ROUTER_OUTSIDE)));
    run(&[
        translated("asks", REQUEST, (NOBODY, OUTSIDE)),
        translated("asks for another environment", REQUEST, (NOBODY, ELSEWHERE)),
        translated("asks for nobody", REQUEST, (NOBODY, STRANGER_OUTSIDE)),
        translated("answers", REPLY, (NEIGHBOUR, OUTSIDE)),
        row(
            "announces itself",
            Program::Egress,
            says(REQUEST, ROUTER, (NOBODY, ROUTER)),
            announcement,
        ),
        passes(
            "an answer of router_ingress",
            Program::Egress,
            says(REPLY, GUEST_OUTSIDE, (NEIGHBOUR, OUTSIDE)),
        ),
        refused("unmapped sender", says(REQUEST, STRANGER, (NOBODY, OUTSIDE))),
        refused("foreign sender", says(REQUEST, OUTSIDE, (NOBODY, OUTSIDE))),
        refused("nobody's sender", says(REPLY, STRANGER_OUTSIDE, (NEIGHBOUR, OUTSIDE))),
        refused("asks for an internal address", says(REQUEST, ROUTER, (NOBODY, GUEST))),
        refused(
            "probe of an internal address",
            says(REQUEST, UNSPECIFIED, (NOBODY, GUEST)),
        ),
        refused("tells an internal address", says(REPLY, ROUTER, (NEIGHBOUR, GUEST))),
    ]);
}

#[test]
fn the_router_is_told_about_its_own_environment() {
    let rows = [SIBLING_OUTSIDE, ROUTER_OUTSIDE].map(|target| {
        let question = arp(EVERYBODY, ROUTER_WAN, REQUEST, (ROUTER_WAN, ROUTER), (NOBODY, target));
        let answer = arp(
            ROUTER_WAN,
            ROUTER_WAN,
            REPLY,
            (ROUTER_WAN, target),
            (ROUTER_WAN, ROUTER_OUTSIDE),
        );
        row(
            format!("hairpin to {target}"),
            Program::Egress,
            question,
            Outcome::Redirect(answer),
        )
    });
    run(&rows);
}

//! Frames with a VLAN tag, on real interfaces: the kernel takes the tag out of a frame before a program sees it, and would put
//! it back where the frame leaves. Environments are untagged, so the fast path must not carry it across.

use std::{net::UdpSocket, process::Command, time::Duration};

use aya::programs::TcAttachType;
use envnet_common::maps::{Port, ROUTER_INSIDE_MAC};
use envnet_lab::socket;
use nix::net::if_::if_nametoindex;

use crate::{
    harness::{Harness, Program},
    host::{self, endpoint},
    names::{GUEST, GUEST_MAC, GUEST_OUTSIDE, NEIGHBOUR, NEXT_HOP, OUTSIDE, ROUTER_WAN, incoming, sent_by},
    packet::{Payload, forwarded, packet},
};

/// VLAN 5, a priority only, and a provider's tag.
const TAGS: [[u8; 4]; 3] = [[0x81, 0, 0, 5], [0x81, 0, 0xe0, 0], [0x88, 0xa8, 0, 5]];
/// For a frame that certainly comes.
const PATIENCE: Duration = Duration::from_secs(10);

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "ip {arguments}");
}

/// A guest on a tap, an uplink, and what is at the far end of both.
struct Wires {
    _bench: Harness,
    guest: UdpSocket,
    wire: UdpSocket,
}

fn wires() -> Wires {
    let mut harness = Harness::load();
    host::enter_another();
    for pair in [["tap", "guest"], ["uplink", "wire"]] {
        ip(&format!("link add {} type veth peer name {}", pair[0], pair[1]));
        for link in pair {
            // So that nothing is sent but what is sent here.
            ip(&format!("link set {link} addrgenmode none"));
            ip(&format!("link set {link} up"));
        }
    }
    let [tap, uplink] = ["tap", "uplink"].map(|link| if_nametoindex(link).unwrap());
    harness.learn(Some(GUEST));
    let port = Port {
        router: tap,
        exit: uplink,
        ..host::port(Some(GUEST))
    };
    harness.hash_map("PORTS").insert(tap, port, 0).unwrap();
    let mut guest = endpoint(GUEST_OUTSIDE);
    guest.location.interface = tap;
    // The test may take longer than anything is remembered.
    guest.location.age.confirmed = u64::MAX / 2;
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    harness.set_next_hop(NEXT_HOP, NEIGHBOUR, guest.location.age);
    harness.attach(Program::GuestIngress, "tap", TcAttachType::Ingress);
    harness.attach(Program::UplinkIngress, "uplink", TcAttachType::Ingress);
    let [guest, wire] = ["guest", "wire"].map(|link| socket::frames(link).unwrap());
    Wires {
        _bench: harness,
        guest,
        wire,
    }
}

/// Of several frames, only the last one, which has no tag, may arrive.
fn only_the_last_arrives(from: &UdpSocket, to: &UdpSocket, frame: &[u8], expected: &[u8]) {
    for tag in TAGS {
        let mut tagged = frame.to_vec();
        tagged.splice(12..12, tag);
        // A packet socket does not show the tag, so something else must tell them apart.
        *tagged.last_mut().unwrap() ^= 1;
        from.send(&tagged).unwrap();
    }
    from.send(frame).unwrap();
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2048];
    let length = to.recv(&mut buffer).expect("the frame without a tag does not arrive");
    assert_eq!(&buffer[..length], expected);
}

#[test]
fn no_tag_goes_out() {
    let wires = wires();
    let sent = sent_by(GUEST_MAC, &packet(GUEST, OUTSIDE, Payload::Tcp));
    let seen = sent_by(GUEST_MAC, &packet(GUEST_OUTSIDE, OUTSIDE, Payload::Tcp));
    let seen = forwarded(&seen, 1, NEIGHBOUR, ROUTER_WAN);
    only_the_last_arrives(&wires.guest, &wires.wire, &sent, &seen);
}

#[test]
fn no_tag_comes_in() {
    let wires = wires();
    let sent = incoming(&packet(OUTSIDE, GUEST_OUTSIDE, Payload::Tcp));
    let seen = incoming(&packet(OUTSIDE, GUEST, Payload::Tcp));
    let seen = forwarded(&seen, 1, GUEST_MAC, ROUTER_INSIDE_MAC.0);
    only_the_last_arrives(&wires.wire, &wires.guest, &sent, &seen);
}

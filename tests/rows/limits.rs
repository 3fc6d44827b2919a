//! How many addresses a guest may have others asked for.

use std::{net::Ipv4Addr, thread, time::Duration};

use envnet_common::{DropReason, limit::Kind, maps::Uplink};

use crate::{
    arp::{NOBODY, REQUEST, arp},
    harness::{Harness, Outcome, Program},
    host::uplink,
    names::{ELSEWHERE, EVERYBODY, GUEST, GUEST_MAC, OUTSIDE, SIBLING, sent_by},
    packet::{Payload, frame, packet},
};

/// How many of these frames the programs let pass, one after the other.
fn passed(harness: &mut Harness, frames: impl Iterator<Item = Vec<u8>>) -> (i64, i64) {
    let (mut passed, mut limited) = (0, 0);
    for frame in frames {
        match harness.observe(Program::GuestIngress, &frame).unwrap() {
            Outcome::Drop(DropReason::RateLimited, Some(GUEST)) => limited += 1,
            Outcome::Drop(..) => panic!("dropped for another reason"),
            _ => passed += 1,
        }
    }
    (passed, limited)
}

fn udp(destination: Ipv4Addr) -> Vec<u8> {
    sent_by(GUEST_MAC, &packet(GUEST, destination, Payload::Udp(vec![1; 20])))
}

/// Addresses of the pool that nobody has.
fn unused() -> impl Iterator<Item = Ipv4Addr> {
    (0..1000).map(|number: u32| Ipv4Addr::from(0xac10_fa00 + number % 256 + (number / 256) * 0x100))
}

#[test]
fn addresses_that_are_not_mapped() {
    // A second may pass meanwhile, or some.
    let slack = 10 * Kind::Contact.rate();
    for accelerated in [true, false] {
        let mut harness = Harness::load_limited();
        harness.learn(Some(GUEST));
        if !accelerated {
            harness.set_uplink(&Uplink {
                interface: 0,
                ..uplink()
            });
        }
        let (taken, limited) = passed(&mut harness, unused().map(udp));
        assert!(
            (Kind::Contact.burst()..Kind::Contact.burst() + slack).contains(&taken),
            "{taken}"
        );
        assert_eq!(taken + limited, 1000);
        // Whom it has begun to talk to, it goes on to talk to; and to all that are mapped, or behind the next hop.
        let first = unused().next().unwrap();
        for known in [first, ELSEWHERE, SIBLING, OUTSIDE] {
            let (taken, _) = passed(&mut harness, (0..500).map(|_| udp(known)));
            assert_eq!(taken, 500, "{known}");
        }
    }
}

#[test]
fn ethernet_addresses_of_nobody() {
    let mut harness = Harness::load_limited();
    harness.learn(Some(GUEST));
    // It has been heard, and its Ethernet address is known.
    thread::sleep(Duration::from_millis(60));
    assert_eq!(passed(&mut harness, [udp(OUTSIDE)].into_iter()).0, 1);
    let from = |mac| frame(EVERYBODY, mac, 0x88cc, &[0; 46]);
    let strangers = || {
        (0..1000_u16)
            .map(u16::to_be_bytes)
            .map(|[high, low]| [2, 0, 0, 9, high, low])
    };
    let (taken, limited) = passed(&mut harness, strangers().map(from));
    assert!(taken >= Kind::Source.burst() && limited > 0, "{taken} of 1000");
    // One that has passed goes on to pass, and the guest's own passes always.
    let first = strangers().next().unwrap();
    for known in [first, GUEST_MAC] {
        let (taken, _) = passed(&mut harness, (0..500).map(|_| from(known)));
        assert_eq!(taken, 500, "{known:02x?}");
    }
}

#[test]
fn arp_to_everybody() {
    let mut harness = Harness::load_limited();
    harness.learn(Some(GUEST));
    let request = |to, target| arp(to, GUEST_MAC, REQUEST, (GUEST_MAC, GUEST), (NOBODY, target));
    let (taken, limited) = passed(&mut harness, (0..2000).map(|_| request(EVERYBODY, SIBLING)));
    assert!(taken >= Kind::Arp.burst() && limited > 0, "{taken} of 2000");
    let (taken, _) = passed(&mut harness, (0..500).map(|_| udp(OUTSIDE)));
    assert_eq!(taken, 500, "nothing else is limited by that");
}

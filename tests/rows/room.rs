//! Where a packet goes must be there and have room for it; else the router reports, or asks.

use std::process::Command;

use envnet_common::{DropReason, maps::Uplink};
use envnet_fuzz::harness::LOOPBACK;

use crate::{
    harness::{Harness, Outcome, Program},
    host::{self, NOWHERE, endpoint},
    names::{ELSEWHERE, GUEST, GUEST_MAC, GUEST_OUTSIDE, OUTSIDE, incoming, sent_by},
    packet::{Payload, packet},
};
use aya::maps::DevMapHash;

const MTU: usize = 1500;
/// What is left of it for data.
const FULL: usize = MTU - 28;

/// The frames that go in, out and across, with so many bytes of data.
fn frames(length: usize) -> [(Program, Vec<u8>); 4] {
    let udp = |from, to| packet(from, to, Payload::Udp(vec![0x77; length]));
    let inward = incoming(&udp(OUTSIDE, GUEST_OUTSIDE));
    [
        (Program::UplinkIngress, inward.clone()),
        (Program::UplinkXdp, inward),
        (Program::GuestIngress, sent_by(GUEST_MAC, &udp(GUEST, OUTSIDE))),
        (Program::GuestIngress, sent_by(GUEST_MAC, &udp(GUEST, ELSEWHERE))),
    ]
}

fn is_left(harness: &mut Harness, note: &str, program: Program, frame: &[u8]) {
    let left = match program {
        Program::GuestIngress => Outcome::Redirect(frame.to_vec()),
        _ => Outcome::Next(frame.to_vec()),
    };
    harness.must(note, program, frame, &left);
}

fn is_taken(harness: &mut Harness, note: &str, program: Program, frame: &[u8]) {
    let outcome = harness.observe(program, frame).unwrap();
    assert!(
        matches!(&outcome, Outcome::Redirect(out) if out != frame),
        "{note}, {program:?}"
    );
}

#[test]
fn larger_than_the_mtu() {
    let mut harness = Harness::load();
    host::enter_another();
    let mtu = MTU.to_string();
    let set = Command::new("ip")
        .args(["link", "set", "lo", "mtu", &mtu])
        .status()
        .unwrap();
    assert!(set.success());
    let uplink = Uplink {
        mtu: u32::try_from(MTU).unwrap(),
        ..host::uplink()
    };
    for (length, fits) in [(FULL, true), (FULL + 1, false), (FULL + 500, false)] {
        for (program, frame) in frames(length) {
            harness.learn(Some(GUEST));
            harness.set_uplink(&uplink);
            let note = format!("{} bytes, {program:?}", frame.len());
            if fits {
                is_taken(&mut harness, &note, program, &frame);
            } else if program == Program::GuestIngress {
                // Nobody's link takes it.
                let refused = Outcome::Drop(DropReason::TooLong, Some(GUEST));
                harness.must(&note, program, &frame, &refused);
            } else {
                is_left(&mut harness, &note, program, &frame);
            }
        }
    }
}

/// A jumbo frame fits, but lies in several buffers, which taps do not take from XDP.
#[test]
fn a_frame_of_several_buffers() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let [_, (program, frame), ..] = frames(6000);
    is_left(&mut harness, "several buffers", program, &frame);
}

/// XDP asks the device map, from which an interface goes by itself. TC sends where it has just heard the guest: that an
/// interface is gone shows by the silence.
#[test]
fn an_interface_that_is_gone() {
    let mut harness = Harness::load();
    let [_, (program, frame), ..] = frames(20);
    harness.learn(Some(GUEST));
    is_taken(&mut harness, "there", program, &frame);
    let mut guest = endpoint(GUEST_OUTSIDE);
    guest.location.interface = NOWHERE;
    harness.set_endpoint(GUEST_OUTSIDE, &guest);
    is_left(&mut harness, "gone", program, &frame);
}

/// A device map only knows what the loader has put there: an interface that somebody else has plugged in may be missing.
#[test]
fn an_interface_that_is_not_in_the_device_map() {
    let mut harness = Harness::load();
    harness.learn(Some(GUEST));
    let mut taps: DevMapHash<_> = harness.map("TAPS").try_into().unwrap();
    taps.remove(LOOPBACK).unwrap();
    let [(tc, frame), (xdp, _), ..] = frames(20);
    is_left(&mut harness, "XDP", xdp, &frame);
    is_taken(&mut harness, "TC", tc, &frame);
}

/// Each translation is logged by the router's programs.
#[test]
fn while_translations_are_logged() {
    let mut harness = Harness::load();
    for (log, taken) in [(0, true), (1, true), (2, false)] {
        for (program, frame) in frames(20) {
            harness.learn(Some(GUEST));
            harness.set_log(log);
            if taken {
                is_taken(&mut harness, "", program, &frame);
            } else {
                is_left(&mut harness, "logged", program, &frame);
            }
        }
    }
}

/// Without an uplink entry, as before the loader has come to it.
#[test]
fn before_the_loader_is_done() {
    let mut harness = Harness::load();
    for (program, frame) in frames(20) {
        harness.must("nothing known", program, &frame, &Outcome::Next(frame.clone()));
    }
}

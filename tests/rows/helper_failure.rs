//! A helper of the kernel may fail, for want of memory. The packet may then be half written, so it is dropped, and counted
//! under its mapping.

use envnet_common::DropReason;

use crate::{
    harness::{Harness, Outcome, Program},
    names::{ELSEWHERE, GUEST, GUEST_MAC, GUEST_OUTSIDE, IPV4, NEIGHBOUR, OUTSIDE, ROUTER_WAN, incoming, sent_by},
    packet::{Payload, frame, packet},
};

/// The programs with each call of `bpf_l4_csum_replace` and of `bpf_probe_read_kernel` replaced by its failure: `r0 = -EFAULT`. By the
/// second, every packet seems to be one that a device has summed, and those need the first.
fn without_checksum_helper() -> Vec<u8> {
    const FAIL: [u8; 8] = [0xb7, 0, 0, 0, 0xf2, 0xff, 0xff, 0xff];
    let mut object = envnet::EBPF_OBJECT.to_vec();
    for helper in [11, 113] {
        let call = [0x85, 0, 0, 0, helper, 0, 0, 0];
        let mut replaced = 0;
        // Instructions are at multiples of their length.
        for instruction in object.chunks_exact_mut(call.len()) {
            if instruction == call {
                instruction.copy_from_slice(&FAIL);
                replaced += 1;
            }
        }
        assert!(replaced > 0, "no program calls helper {helper}");
    }
    object
}

#[test]
fn a_failed_write_is_counted_under_its_mapping() {
    let mut harness = Harness::load_object(&without_checksum_helper());
    let tcp = |from, to| packet(from, to, Payload::Tcp);
    let out = tcp(GUEST, OUTSIDE);
    for (description, program, sent) in [
        ("in", Program::UplinkIngress, incoming(&tcp(OUTSIDE, GUEST_OUTSIDE))),
        (
            "in, at the port",
            Program::WanPort,
            incoming(&tcp(OUTSIDE, GUEST_OUTSIDE)),
        ),
        ("out", Program::GuestIngress, sent_by(GUEST_MAC, &out)),
        (
            "across",
            Program::GuestIngress,
            sent_by(GUEST_MAC, &tcp(GUEST, ELSEWHERE)),
        ),
        (
            "slow path, in",
            Program::Ingress,
            incoming(&tcp(OUTSIDE, GUEST_OUTSIDE)),
        ),
        (
            "slow path, out",
            Program::Egress,
            frame(NEIGHBOUR, ROUTER_WAN, IPV4, &out.bytes()),
        ),
    ] {
        harness.learn(Some(GUEST));
        let dropped = Outcome::Drop(DropReason::HelperFailed, Some(GUEST));
        harness.must(description, program, &sent, &dropped);
    }
}

//! What the host itself sends on the uplink, where environments hang as macvlans: the kernel never hands a frame from a
//! macvlan's parent to the macvlan, nor back. So frames between the host and a gateway turn round here, and come in again
//! as if from the wire.

use aya_ebpf::{bindings::BPF_F_INGRESS, helpers::bpf_clone_redirect, programs::TcContext};
use envnet_common::{
    DropReason, Verdict,
    arp::Arp,
    parse::{ETHERTYPE_ARP, Ethernet},
};

use crate::{
    maps::{self, GATEWAY_PREFIX, UPLINK},
    run::Frame,
    uplink_ingress,
};

#[inline(always)]
pub(crate) fn decide(context: &TcContext, frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    // One after the other: the verifier of Linux 6.1 does not follow a match of both.
    let Ok(ethernet) = Ethernet::parse(&frame.packet) else {
        return Ok(Verdict::Next);
    };
    if frame.packet.had_tag() {
        // From a VLAN device on the uplink, which is a network of its own.
        return Ok(Verdict::Next);
    }
    let Some(uplink) = UPLINK.get(0) else {
        return Ok(Verdict::Next);
    };
    let is_gateway = |mac: envnet_common::Mac| mac.first_byte() == GATEWAY_PREFIX && maps::is_gateway(mac);
    if ethernet.destination.is_group() {
        if ethernet.ethertype != ETHERTYPE_ARP {
            return Ok(Verdict::Next);
        }
        if is_gateway(ethernet.source) {
            // A router asks for somebody, who may be the host.
            // SAFETY: the context is valid while the program runs; it is not read after its packet was cloned.
            unsafe { bpf_clone_redirect(context.skb.skb, frame.interface, u64::from(BPF_F_INGRESS)) };
            return Ok(Verdict::Next);
        }
        let Ok(arp) = Arp::parse(&frame.packet) else {
            return Ok(Verdict::Next);
        };
        if ethernet.source != uplink.mac {
            return Ok(Verdict::Next);
        }
        return match uplink_ingress::answer(frame, &ethernet, &arp, None) {
            Some(answered) => answered.map(|()| Verdict::Hairpin),
            None => Ok(Verdict::Next),
        };
    }
    let to_gateway = is_gateway(ethernet.destination);
    if to_gateway || (ethernet.destination == uplink.mac && is_gateway(ethernet.source)) {
        return Ok(Verdict::Hairpin);
    }
    Ok(Verdict::Next)
}

//! What the host itself sends on the uplink when environments are macvlans of it: the kernel never hands a frame from a
//! macvlan's parent to the macvlan, nor back. So frames between the host and a router's WAN port turn round here, and come
//! in again as if from the wire.

use envnet_common::{
    Mac, Verdict,
    arp::Arp,
    parse::{ETHERTYPE_ARP, Ethernet},
};

use crate::{
    entry::EntryPoint,
    kernel_code::Decision,
    maps::{self, ROUTER_WAN_PREFIX, UPLINK},
    run::FastContext,
    skb::DirectPacket,
    uplink_ingress,
};

#[inline(always)]
pub(crate) fn decide(context: &mut FastContext<DirectPacket<'_>>) -> Decision {
    // One after the other: the verifier of Linux 6.1 does not follow a match of both.
    let Ok(ethernet) = Ethernet::parse(&context.packet) else {
        return Ok(Verdict::Next);
    };
    if context.packet.had_tag() {
        // From a VLAN device on the uplink, which is a network of its own.
        return Ok(Verdict::Next);
    }
    let Some(uplink) = UPLINK.get(0) else {
        return Ok(Verdict::Next);
    };
    if uplink.host_barred != 0 {
        // Without this program, the kernel itself keeps them apart.
        return Ok(Verdict::Next);
    }
    let is_router_wan = |mac: Mac| mac.first_byte() == ROUTER_WAN_PREFIX && maps::is_router_wan(mac);
    if ethernet.destination.is_group() {
        if ethernet.ethertype != ETHERTYPE_ARP {
            return Ok(Verdict::Next);
        }
        if is_router_wan(ethernet.source) {
            // A router looks for a next hop, which may be the host.
            context.packet.clone_to_ingress(context.interface);
            return Ok(Verdict::Next);
        }
        let Ok(arp) = Arp::parse(&context.packet) else {
            return Ok(Verdict::Next);
        };
        if ethernet.source != uplink.mac {
            return Ok(Verdict::Next);
        }
        return uplink_ingress::answer(context, &ethernet, &arp, EntryPoint::Host).unwrap_or(Ok(Verdict::Next));
    }
    let to_router = is_router_wan(ethernet.destination);
    if to_router || (ethernet.destination == uplink.mac && is_router_wan(ethernet.source)) {
        return Ok(Verdict::RedirectSelfIngress);
    }
    Ok(Verdict::Next)
}

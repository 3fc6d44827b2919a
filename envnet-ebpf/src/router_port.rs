//! The bridge's port towards the router: a frame from the router goes straight to the port that its destination is behind.

use envnet_common::{Verdict, parse::Ethernet};

use crate::{clock, fdb, maps, run::FastContext, skb::DirectPacket};

#[inline(always)]
pub(crate) fn ingress(context: &FastContext<DirectPacket<'_>>) -> Verdict {
    let Ok(ethernet) = Ethernet::parse(&context.packet) else {
        return Verdict::Next;
    };
    let Some(port) = maps::port(context.interface) else {
        return Verdict::Next;
    };
    if ethernet.destination.is_group() {
        return Verdict::Next;
    }
    let exists = |interface| context.packet.exists(interface);
    match fdb::port_of(port.environment.number, ethernet.destination, clock::now(), exists) {
        Some(interface) => Verdict::RedirectEgress(interface),
        None => Verdict::Next,
    }
}

/// A frame to the router that the bridge forwards comes from a port without programs: `guest_ingress` would have
/// redirected it past the bridge.
#[inline(always)]
pub(crate) fn egress(context: &FastContext<DirectPacket<'_>>) -> Verdict {
    if let (Some(port), Ok(ethernet)) = (maps::port(context.interface), Ethernet::parse(&context.packet)) {
        fdb::forget_if_moved(port.environment.number, ethernet.source, clock::now());
    }
    Verdict::Next
}

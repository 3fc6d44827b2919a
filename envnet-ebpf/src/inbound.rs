//! The fast path from the uplink to a guest, the same for TC and XDP.

use envnet_common::{
    Verdict,
    forward::{self, Eligible},
    maps::{MappingKey, ROUTER_INSIDE_MAC},
    parse::Ethernet,
};

use crate::{
    clock, count,
    entry::{EntryPoint, Forwardable},
    kernel_code::Decision,
    log,
    maps::{self, ROUTER_WAN_PREFIX, UPLINK},
    neighbours,
    run::FastContext,
};

/// Translates a packet and sends it to the guest's port. `None` leaves the packet to the router, unchanged.
#[inline(always)]
pub(crate) fn decide<P: Forwardable>(
    context: &mut FastContext<P>,
    ethernet: &Ethernet,
    entry: EntryPoint,
) -> Option<Decision> {
    const HOPS: u8 = 1;
    // Most of what comes in is for the host itself.
    if ethernet.destination.first_byte() != ROUTER_WAN_PREFIX {
        return None;
    }
    let packet = &mut context.packet;
    let endpoint = maps::endpoint(forward::destination(packet)?)?;
    let uplink = UPLINK.get(0)?;
    let environment = &endpoint.environment;
    if !entry.leads_to(environment.number) || ethernet.destination != environment.mac || log::wants_translations() {
        return None;
    }
    let now = clock::now();
    let eligible = Eligible::parse(packet, HOPS)?;
    let source = eligible.ip.tail.source;
    // The router refuses these sources, and counts the drop.
    if environment.is_internal(source) || environment.is_external(source) || uplink.bars(ethernet.source) {
        return None;
    }
    let mapping = MappingKey {
        environment: environment.number,
        internal: endpoint.internal,
    };
    let (mac, interface) = neighbours::location(endpoint, now, entry.probe_mode())?;
    if !packet.can_leave_by(interface, uplink.mtu) {
        return None;
    }
    let forward = eligible.forward(None, Some(mapping.internal), HOPS)?;
    neighbours::confirm_next_hop(endpoint, uplink, ethernet, source, now);
    let size = packet.size();
    context.mapping = mapping;
    Some(forward::write(packet, &forward, mac, ROUTER_INSIDE_MAC).map(|()| {
        count::inbound(mapping, size);
        Verdict::RedirectEgress(interface)
    }))
}

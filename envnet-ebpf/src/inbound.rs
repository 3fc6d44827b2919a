//! The fast path from the uplink to a guest, the same for TC and XDP.

use envnet_common::{
    DropReason,
    apply::Write,
    forward::{self, Ordinary},
    maps::ROUTER_INSIDE_MAC,
    parse::Ethernet,
};

use crate::{
    count,
    learned::{self, Asking},
    log,
    maps::{self, GATEWAY_PREFIX, UPLINK},
};

/// Translates a packet and returns the interface it leaves by; `None` when it is the router's, and was not changed.
///
/// `only` is the environment that the program's interface leads to, if it is one. `reaches` says whether the packet can leave by
/// an interface with an MTU.
#[inline(always)]
pub(crate) fn decide<P: Write>(
    packet: &mut P,
    ethernet: &Ethernet,
    only: Option<u32>,
    asking: Asking,
    reaches: impl FnOnce(&P, u32, u32) -> bool,
) -> Option<Result<u32, DropReason>> {
    const HOPS: u8 = 1;
    // Most of what comes in is the host's own.
    if ethernet.destination.first_byte() != GATEWAY_PREFIX {
        return None;
    }
    let endpoint = maps::endpoint(forward::destination(packet)?)?;
    let uplink = UPLINK.get(0)?;
    let environment = &endpoint.environment;
    if only.is_some_and(|only| only != environment.number)
        || ethernet.destination != environment.mac
        || log::wants_translations()
    {
        return None;
    }
    let now = count::now();
    let ordinary = Ordinary::parse(packet, HOPS)?;
    let source = ordinary.ip.tail.source;
    // What the router would refuse, it shall refuse, and count.
    if environment.is_internal(source) || environment.is_external(source) {
        return None;
    }
    let (number, internal) = (environment.number, endpoint.internal);
    let (mac, interface) = learned::location(endpoint, now, asking)?;
    if !reaches(packet, interface, uplink.mtu) {
        return None;
    }
    let forward = ordinary.forward(None, Some(internal), HOPS)?;
    learned::confirm_next_hop(endpoint, uplink, ethernet, source, now);
    let size = packet.size();
    Some(forward::write(packet, &forward, mac, ROUTER_INSIDE_MAC).map(|()| {
        count::inbound(number, internal, size);
        interface
    }))
}

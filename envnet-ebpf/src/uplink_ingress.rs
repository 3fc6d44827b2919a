//! From the uplink straight to a guest's port. ARP requests for external addresses are answered, and next hops are learned
//! from ARP.

use envnet_common::{
    Verdict,
    arp::{self, Action, Arp},
    maps::MappingKey,
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet},
};

use crate::{
    clock,
    entry::EntryPoint,
    inbound,
    kernel_code::Decision,
    maps::{self, UPLINK},
    neighbours,
    run::{FastContext, lookup},
    skb::DirectPacket,
};

type Context<'a> = FastContext<DirectPacket<'a>>;

/// On the uplink itself.
#[inline(always)]
pub(crate) fn decide(context: &mut Context<'_>) -> Decision {
    ingress(context, EntryPoint::Uplink)
}

/// On the uplink bridge's port towards one environment.
#[inline(always)]
pub(crate) fn decide_at_port(context: &mut Context<'_>) -> Decision {
    match maps::port(context.interface) {
        Some(port) => {
            let environment = port.environment.number;
            ingress(context, EntryPoint::WanPort { environment })
        }
        None => Ok(Verdict::Next),
    }
}

#[inline(always)]
fn ingress(context: &mut Context<'_>, entry: EntryPoint) -> Decision {
    let Ok(ethernet) = Ethernet::parse(&context.packet) else {
        return Ok(Verdict::Next);
    };
    if context.packet.had_tag() {
        return Ok(Verdict::Next);
    }
    let decision = match ethernet.ethertype {
        ETHERTYPE_IPV4 => inbound::decide(context, &ethernet, entry),
        ETHERTYPE_ARP => arp(context, &ethernet, entry),
        _ => None,
    };
    decision.unwrap_or(Ok(Verdict::Next))
}

#[inline(always)]
fn arp(context: &mut Context<'_>, ethernet: &Ethernet, entry: EntryPoint) -> Option<Decision> {
    let arp = Arp::parse(&context.packet).ok()?;
    let uplink = UPLINK.get(0)?;
    if uplink.bars(ethernet.source) {
        // The router drops it.
        return None;
    }
    neighbours::learn_next_hop(ethernet, &arp, uplink, clock::now());
    // A router's own request, of which the host has been given a copy.
    if maps::is_router_wan(ethernet.source) {
        return None;
    }
    answer(context, ethernet, &arp, entry)
}

/// Turns a request for a mapped external address into the answer. `None` leaves everything else unchanged.
#[inline(always)]
pub(crate) fn answer(context: &mut Context<'_>, ethernet: &Ethernet, arp: &Arp, entry: EntryPoint) -> Option<Decision> {
    let endpoint = maps::endpoint(arp.target())?;
    let (environment, internal) = (endpoint.environment, endpoint.internal);
    let for_another = !ethernet.destination.is_group() && ethernet.destination != environment.mac;
    if for_another || !entry.leads_to(environment.number) {
        return None;
    }
    let Ok(Action::Answer(answer)) = arp::inbound(arp, &lookup(&environment)) else {
        return None;
    };
    context.mapping = MappingKey {
        environment: environment.number,
        internal,
    };
    Some(arp::write_answer(&mut context.packet, &answer).map(|()| entry.send_back()))
}

//! From outside to the router: external destinations become internal, and ARP requests for them are answered.

use envnet_common::{
    DropReason, Verdict, admit,
    apply::apply,
    arp::{self, Action, Arp},
    guest::Tag,
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
    translate::{Direction, translate},
};

use crate::{count, kernel_code::Decision, log, maps::UPLINK, run::SlowContext};

#[inline(always)]
pub(crate) fn decide(context: &mut SlowContext<'_>) -> Decision {
    let ethernet = Ethernet::parse(&context.packet)?;
    admit::frame_in(&ethernet, context.packet.tag() == Tag::Vlan, context.lookup.environment)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(context, &ethernet),
        ETHERTYPE_ARP if is_barred(&ethernet) => Err(DropReason::HostBarred),
        ETHERTYPE_ARP => arp(context),
        _ => Err(DropReason::NotIpv4),
    }
}

/// Whether the host has sent the frame, and must not.
#[inline(always)]
fn is_barred(ethernet: &Ethernet) -> bool {
    UPLINK.get(0).is_some_and(|uplink| uplink.bars(ethernet.source))
}

#[inline(always)]
fn ipv4(context: &mut SlowContext<'_>, ethernet: &Ethernet) -> Decision {
    let environment = context.lookup.environment;
    let ip = Ipv4::parse(&context.packet)?;
    admit::destination(ethernet, &ip)?;
    let internal = context
        .lookup
        .internal(ip.tail.destination)
        .ok_or(DropReason::DestinationUnmapped)?;
    context.internal = internal;
    admit::source_in(ethernet, &ip, environment)?;
    if is_barred(ethernet) {
        return Err(DropReason::HostBarred);
    }
    let rewrite = translate(&context.packet, &ip, Direction::Inbound, internal, |_| None)?;
    apply(&mut context.packet, &rewrite)?;
    count::inbound(context.mapping(), context.packet.size());
    log::translated(environment.number, &rewrite);
    Ok(Verdict::Pass)
}

#[inline(always)]
fn arp(context: &mut SlowContext<'_>) -> Decision {
    let packet = &mut context.packet;
    match arp::inbound(&Arp::parse(packet)?, &context.lookup)? {
        Action::Pass => Ok(Verdict::Pass),
        Action::Rewrite(arp) => arp::write(packet, &arp).map(|()| Verdict::Pass),
        Action::Answer(answer) => arp::write_answer(packet, &answer).map(|()| Verdict::RedirectSelf),
    }
}

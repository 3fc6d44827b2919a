//! From the router to the outside: internal sources become external. A packet whose source is not mapped is dropped.

use envnet_common::{
    DropReason, Verdict, admit,
    apply::{Write, apply},
    arp::{self, Action, Arp},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
    translate::{Direction, translate},
};

use crate::{clock, count, kernel_code::Decision, log, maps::UPLINK, run::SlowContext};

#[inline(always)]
pub(crate) fn decide(context: &mut SlowContext<'_>) -> Decision {
    let ethernet = Ethernet::parse(&context.packet)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(context, &ethernet),
        ETHERTYPE_ARP => arp(context),
        _ => Err(DropReason::NotIpv4),
    }
}

#[inline(always)]
fn ipv4(context: &mut SlowContext<'_>, ethernet: &Ethernet) -> Decision {
    let lookup = context.lookup;
    let environment = lookup.environment;
    let ip = Ipv4::parse(&context.packet)?;
    let Some(external) = lookup.external(ip.tail.source) else {
        return Err(admit::source_out_refusal(&ip, environment));
    };
    context.internal = ip.tail.source;
    admit::destination(ethernet, &ip)?;
    if UPLINK.get(0).is_some_and(|uplink| uplink.bars(ethernet.destination)) {
        return Err(DropReason::HostBarred);
    }
    let rewrite = translate(&context.packet, &ip, Direction::Outbound, external, |internal| {
        lookup.external(internal)
    })?;
    apply(&mut context.packet, &rewrite)?;
    count::outbound(context.mapping(), context.packet.size(), clock::now());
    log::translated(environment.number, &rewrite);

    if environment.is_external(ip.tail.destination) && lookup.internal(ip.tail.destination).is_some() {
        // No machine outside has this address, and a macvlan never receives its own frames. The packet comes in again with its
        // external source (RFC 4787, REQ-9a), for which it must be addressed to the interface.
        context
            .packet
            .write(0, environment.mac)
            .ok_or(DropReason::HelperFailed)?;
        return Ok(Verdict::RedirectSelfIngress);
    }
    Ok(Verdict::Pass)
}

#[inline(always)]
fn arp(context: &mut SlowContext<'_>) -> Decision {
    let packet = &mut context.packet;
    match arp::outbound(&Arp::parse(packet)?, &context.lookup)? {
        Action::Pass => Ok(Verdict::Pass),
        Action::Rewrite(arp) => arp::write(packet, &arp).map(|()| Verdict::Pass),
        Action::Answer(answer) => arp::write_answer(packet, &answer).map(|()| Verdict::RedirectSelfIngress),
    }
}

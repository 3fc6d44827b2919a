//! From the router to the outside: internal sources become external; what has no external one does not leave.

use envnet_common::{
    DropReason, Verdict, admit,
    apply::{Write, apply},
    arp::{self, Action, Arp},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
    translate::{Direction, translate},
};

use crate::{count, log, run::Subject};

#[inline(always)]
pub(crate) fn decide(subject: &mut Subject<'_>) -> Result<Verdict, DropReason> {
    let ethernet = Ethernet::parse(&subject.packet)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(subject, &ethernet),
        ETHERTYPE_ARP => arp(subject),
        _ => Err(DropReason::NotIpv4),
    }
}

#[inline(always)]
fn ipv4(subject: &mut Subject<'_>, ethernet: &Ethernet) -> Result<Verdict, DropReason> {
    let lookup = subject.lookup;
    let environment = lookup.environment;
    let ip = Ipv4::parse(&subject.packet)?;
    let Some(external) = lookup.external(ip.tail.source) else {
        return Err(admit::source_out_refusal(&ip, environment));
    };
    subject.internal = ip.tail.source;
    admit::destination(ethernet, &ip)?;
    let rewrite = translate(&subject.packet, &ip, Direction::Outbound, external, |internal| {
        lookup.external(internal)
    })?;
    apply(&mut subject.packet, &rewrite)?;
    count::outbound(environment.number, ip.tail.source, subject.packet.size(), count::now());
    log::translated(environment.number, &rewrite);

    if environment.is_external(ip.tail.destination) && lookup.internal(ip.tail.destination).is_some() {
        // Nobody outside has this address, and a macvlan never hears itself. The packet comes in again with its external
        // source (RFC 4787, REQ-9a), for which it must be addressed to the interface.
        subject
            .packet
            .write(0, environment.mac)
            .ok_or(DropReason::HelperFailed)?;
        return Ok(Verdict::Hairpin);
    }
    Ok(Verdict::Pass)
}

#[inline(always)]
fn arp(subject: &mut Subject<'_>) -> Result<Verdict, DropReason> {
    let packet = &mut subject.packet;
    match arp::outbound(&Arp::parse(packet)?, &subject.lookup)? {
        Action::Pass => Ok(Verdict::Pass),
        Action::Rewrite(arp) => arp::write(packet, &arp).map(|()| Verdict::Pass),
        Action::Answer(answer) => arp::write_answer(packet, &answer).map(|()| Verdict::Hairpin),
    }
}

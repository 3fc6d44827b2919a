//! From outside to the router: external destinations become internal, ARP for them is answered.

use envnet_common::{
    DropReason, Verdict, admit,
    apply::apply,
    arp::{self, Action, Arp},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
    translate::{Direction, translate},
};

use crate::{count, log, run::Subject};

#[inline(always)]
pub(crate) fn decide(subject: &mut Subject<'_>) -> Result<Verdict, DropReason> {
    let ethernet = Ethernet::parse(&subject.packet)?;
    admit::frame_in(&ethernet, subject.packet.is_tagged(), subject.lookup.environment)?;
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => ipv4(subject, &ethernet),
        ETHERTYPE_ARP => arp(subject),
        _ => Err(DropReason::NotIpv4),
    }
}

#[inline(always)]
fn ipv4(subject: &mut Subject<'_>, ethernet: &Ethernet) -> Result<Verdict, DropReason> {
    let environment = subject.lookup.environment;
    let ip = Ipv4::parse(&subject.packet)?;
    admit::destination(ethernet, &ip)?;
    let internal = subject
        .lookup
        .internal(ip.tail.destination)
        .ok_or(DropReason::DestinationUnmapped)?;
    subject.internal = internal;
    admit::source_in(ethernet, &ip, environment)?;
    let rewrite = translate(&subject.packet, &ip, Direction::Inbound, internal, |_| None)?;
    apply(&mut subject.packet, &rewrite)?;
    count::inbound(environment.number, internal, subject.packet.size());
    log::translated(environment.number, &rewrite);
    Ok(Verdict::Pass)
}

#[inline(always)]
fn arp(subject: &mut Subject<'_>) -> Result<Verdict, DropReason> {
    let packet = &mut subject.packet;
    match arp::inbound(&Arp::parse(packet)?, &subject.lookup)? {
        Action::Pass => Ok(Verdict::Pass),
        Action::Rewrite(arp) => arp::write(packet, &arp).map(|()| Verdict::Pass),
        Action::Answer(answer) => arp::write_answer(packet, &answer).map(|()| Verdict::Reply),
    }
}

//! From the uplink straight to a guest's port; ARP for external addresses is answered, and next hops are learned from it.

use envnet_common::{
    DropReason, Verdict,
    arp::{self, Action, Arp},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet},
};

use crate::{
    count, inbound,
    learned::{self, Asking},
    maps::{self, UPLINK},
    run::{Frame, lookup},
    skb::Linear,
};

/// On the uplink, where frames for every environment come in.
#[inline(always)]
pub(crate) fn decide(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    ingress(frame, None, Verdict::Reply)
}

/// On a bridge's port, where a bridge that floods hands out frames for other environments, too.
#[inline(always)]
pub(crate) fn decide_at_port(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    match maps::port(frame.interface) {
        Some(port) => ingress(frame, Some(port.environment.number), Verdict::Hairpin),
        None => Ok(Verdict::Next),
    }
}

/// `only` is the environment that this is the way to, `back` the verdict that sends a packet to where it came from.
#[inline(always)]
fn ingress(frame: &mut Frame<'_>, only: Option<u32>, back: Verdict) -> Result<Verdict, DropReason> {
    let Ok(ethernet) = Ethernet::parse(&frame.packet) else {
        return Ok(Verdict::Next);
    };
    if frame.packet.had_tag() {
        return Ok(Verdict::Next);
    }
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => {
            let reaches = |packet: &Linear<'_>, interface, mtu| packet.fits(interface, mtu);
            match inbound::decide(&mut frame.packet, &ethernet, only, Asking::Here, reaches) {
                Some(decision) => decision.map(Verdict::Send),
                None => Ok(Verdict::Next),
            }
        }
        ETHERTYPE_ARP => arp(frame, &ethernet, only, back),
        _ => Ok(Verdict::Next),
    }
}

#[inline(always)]
fn arp(frame: &mut Frame<'_>, ethernet: &Ethernet, only: Option<u32>, back: Verdict) -> Result<Verdict, DropReason> {
    let (Ok(arp), Some(uplink)) = (Arp::parse(&frame.packet), UPLINK.get(0)) else {
        return Ok(Verdict::Next);
    };
    learned::hear_hop(ethernet, &arp, uplink, count::now());
    // A gateway's own request, which the host has been given a copy of.
    if maps::is_gateway(ethernet.source) {
        return Ok(Verdict::Next);
    }
    match answer(frame, ethernet, &arp, only) {
        Some(answered) => answered.map(|()| back),
        None => Ok(Verdict::Next),
    }
}

/// Turns a request for a mapped external address into the answer; `None`, and no change, for everything else.
#[inline(always)]
pub(crate) fn answer(
    frame: &mut Frame<'_>,
    ethernet: &Ethernet,
    arp: &Arp,
    only: Option<u32>,
) -> Option<Result<(), DropReason>> {
    let environment = maps::endpoint(arp.target())?.environment;
    let elsewhere = only.is_some_and(|only| only != environment.number);
    if elsewhere || (!ethernet.destination.is_group() && ethernet.destination != environment.mac) {
        return None;
    }
    let Ok(Action::Answer(answer)) = arp::inbound(arp, &lookup(&environment)) else {
        return None;
    };
    frame.environment = environment.number;
    Some(arp::write_answer(&mut frame.packet, &answer))
}

//! The bridge's port towards the router: what comes from there goes straight to the port that the guest is behind.

use envnet_common::{Verdict, parse::Ethernet};

use crate::{count, learned, maps, run::Frame};

#[inline(always)]
pub(crate) fn ingress(frame: &mut Frame<'_>) -> Verdict {
    let Ok(ethernet) = Ethernet::parse(&frame.packet) else {
        return Verdict::Next;
    };
    let Some(port) = maps::port(frame.interface) else {
        return Verdict::Next;
    };
    if ethernet.destination.is_group() {
        return Verdict::Next;
    }
    let exists = |interface| frame.packet.exists(interface);
    match learned::station(port.environment.number, ethernet.destination, count::now(), exists) {
        Some(interface) => Verdict::Send(interface),
        None => Verdict::Next,
    }
}

/// What goes to the router through the bridge comes from where no program is, or it would have crossed over by itself.
#[inline(always)]
pub(crate) fn egress(frame: &mut Frame<'_>) -> Verdict {
    if let (Some(port), Ok(ethernet)) = (maps::port(frame.interface), Ethernet::parse(&frame.packet)) {
        learned::hear_through_bridge(port.environment.number, ethernet.source, count::now());
    }
    Verdict::Next
}

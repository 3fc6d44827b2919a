//! What comes from the router for guests: straight to the port that the guest is behind.

use envnet_common::{Verdict, parse::Ethernet};

use crate::{learned, maps, run::Frame};

#[inline(always)]
pub(crate) fn decide(frame: &mut Frame<'_>) -> Verdict {
    let Ok(ethernet) = Ethernet::parse(&frame.packet) else {
        return Verdict::Next;
    };
    let Some(port) = maps::port(frame.interface) else {
        return Verdict::Next;
    };
    if ethernet.destination.is_group() {
        return Verdict::Next;
    }
    let exists = |interface| frame.packet.fits(interface);
    match learned::station(port.environment.number, ethernet.destination, frame.now, exists) {
        Some(interface) => Verdict::Send(interface),
        None => Verdict::Next,
    }
}

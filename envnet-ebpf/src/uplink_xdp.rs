//! The fast path in before the kernel makes a buffer of the frame. It is only for uplinks whose drivers hand over finished
//! checksums: an XDP program cannot tell an unfinished one.

use envnet_common::{
    Verdict,
    parse::{ETHERTYPE_IPV4, Ethernet},
};

use crate::{entry::EntryPoint, inbound, kernel_code::Decision, run::FastContext, xdp::XdpPacket};

#[inline(always)]
pub(crate) fn decide(context: &mut FastContext<XdpPacket<'_>>) -> Decision {
    let Ok(ethernet) = Ethernet::parse(&context.packet) else {
        return Ok(Verdict::Next);
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Ok(Verdict::Next);
    }
    inbound::decide(context, &ethernet, EntryPoint::Driver).unwrap_or(Ok(Verdict::Next))
}

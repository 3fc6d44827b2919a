//! The host's copy of what guests send to everybody, or to the bridge itself. It is dropped.

use envnet_common::{DropReason, parse::Ethernet};

use crate::{clock, fdb, kernel_code::Decision, maps, run::FastContext, skb::DirectPacket};

#[inline(always)]
pub(crate) fn decide(context: &FastContext<DirectPacket<'_>>) -> Decision {
    if let (Some(port), Ok(ethernet)) = (maps::port(context.interface), Ethernet::parse(&context.packet)) {
        fdb::forget_if_moved(port.environment.number, ethernet.source, clock::now());
    }
    Err(DropReason::HostBound)
}

//! What guests say to everybody, or to the bridge: the host's copy of it, which goes no further.

use aya_ebpf::{bindings::TC_ACT_SHOT, programs::TcContext};
use envnet_common::{Address, DropReason, parse::Ethernet};

use crate::{count, learned, maps, skb::Packet};

/// Not logged like other drops: this is how it should be.
#[inline(always)]
pub(crate) fn run(context: &TcContext) -> i32 {
    let packet = Packet::new(context);
    if let (Some(port), Ok(ethernet)) = (maps::port(packet.interface()), Ethernet::parse(&packet)) {
        learned::hear_through_bridge(port.environment.number, ethernet.source, count::now());
    }
    count::dropped(0, Address::UNSPECIFIED, DropReason::HostBound);
    TC_ACT_SHOT
}

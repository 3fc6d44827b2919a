//! Refuses what a router must not forward, before anything is translated.

use crate::{
    DropReason,
    maps::Environment,
    parse::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Ipv4},
};

/// Frames that came in with a VLAN tag, or for another machine: an interface in promiscuous mode, or behind a bridge
/// that floods, sees those, and must neither answer nor forward them.
#[inline(always)]
pub fn frame_in(ethernet: &Ethernet, tagged: bool, environment: &Environment) -> Result<(), DropReason> {
    if tagged || matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
        return Err(DropReason::VlanTagged);
    }
    if !ethernet.destination.is_group() && ethernet.destination != environment.mac {
        return Err(DropReason::OtherHost);
    }
    Ok(())
}

/// Destinations that are not one machine: 0/8, loopback (127/8), multicast, and 240/4 with the broadcast address
/// (RFC 1812, section 5.3.7). A unicast address in a link-layer broadcast is refused as well (section 5.3.4).
#[inline(always)]
pub fn destination(ethernet: &Ethernet, ip: &Ipv4) -> Result<(), DropReason> {
    if ethernet.destination.is_group() || ip.tail.destination.is_nobody() {
        return Err(DropReason::DestinationNotUnicast);
    }
    Ok(())
}

/// Sources that no packet from outside can have: internal, "this network" (0/8), loopback (127/8), multicast, and
/// 240/4 with the broadcast address (RFC 1812, section 5.3.7); and the environment's own external addresses
/// (section 5.3.8), which only a hairpin brings, in a frame that `gwE` itself has sent.
#[inline(always)]
pub fn source_in(ethernet: &Ethernet, ip: &Ipv4, environment: &Environment) -> Result<(), DropReason> {
    let source = ip.tail.source;
    let spoofed = environment.is_external(source) && ethernet.source != environment.mac;
    if source.is_nobody() || environment.is_internal(source) || spoofed {
        return Err(DropReason::SourceMartian);
    }
    Ok(())
}

/// Why a source without mapping may not leave: [`DropReason::SourceUnmapped`] when it is internal, else
/// [`DropReason::SourceForeign`].
#[must_use]
#[inline(always)]
pub fn source_out_refusal(ip: &Ipv4, environment: &Environment) -> DropReason {
    if environment.is_internal(ip.tail.source) {
        DropReason::SourceUnmapped
    } else {
        DropReason::SourceForeign
    }
}

//! Refuses what a router must not forward, before anything is translated.

use crate::{
    DropReason,
    maps::Environment,
    parse::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Ipv4},
};

/// Refuses frames with a VLAN tag, and frames for another machine. An interface in promiscuous mode, or behind a bridge
/// that floods, receives those, and must neither answer nor forward them.
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

/// Refuses destinations that a router does not forward to. 169.254/16 is one link's (RFC 3927, section 2.6.2), and clouds have
/// their metadata service there. The others are not one machine: 0/8, loopback (127/8), multicast, and 240/4 with the broadcast address
/// (RFC 1812, section 5.3.7). A unicast address in a link-layer broadcast is refused as well (section 5.3.4).
#[inline(always)]
pub fn destination(ethernet: &Ethernet, ip: &Ipv4) -> Result<(), DropReason> {
    if ethernet.destination.is_group() || !ip.tail.destination.is_unicast_host() {
        return Err(DropReason::DestinationNotUnicast);
    }
    if ip.tail.destination.is_link_local() {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}

/// Refuses sources that no packet from outside can have: internal, "this network" (0/8), loopback (127/8), multicast, and
/// 240/4 with the broadcast address (RFC 1812, section 5.3.7); link-local ones (RFC 3927, section 2.6.2); and the environment's own external addresses
/// (section 5.3.8), except in a hairpin, which is a frame that `gwE` itself has sent.
#[inline(always)]
pub fn source_in(ethernet: &Ethernet, ip: &Ipv4, environment: &Environment) -> Result<(), DropReason> {
    let source = ip.tail.source;
    let spoofed = environment.is_external(source) && ethernet.source != environment.mac;
    if !source.is_unicast_host() || environment.is_internal(source) || spoofed {
        return Err(DropReason::SourceMartian);
    }
    if source.is_link_local() {
        return Err(DropReason::LinkLocal);
    }
    Ok(())
}

/// The reason to drop a packet whose source has no mapping: [`DropReason::SourceUnmapped`] when it is internal, else
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

//! What comes from a guest's port: nothing spoofed; then straight to a sibling, to the router, to another environment, or
//! out of the uplink. The bridge is left with what goes to everybody and to stations not heard yet.

use envnet_common::{
    Address, DropReason, Verdict,
    arp::Arp,
    forward::{self, Ordinary},
    maps::{Endpoint, Port, ROUTER_INSIDE_MAC},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
};

use crate::{
    count,
    learned::{self, Asking, Claim},
    log,
    maps::{self, UPLINK},
    run::Frame,
};

#[inline(always)]
pub(crate) fn decide(frame: &mut Frame<'_>) -> Result<Verdict, DropReason> {
    let Ok(ethernet) = Ethernet::parse(&frame.packet) else {
        return Ok(Verdict::Next);
    };
    let Some(port) = maps::port(frame.interface) else {
        return Ok(Verdict::Next);
    };
    if ethernet.source.is_group() || !ethernet.source.is_set() {
        // No station's address (IEEE 802.3, 3.2.3): the bridge drops the frame, and nothing is learned from it.
        return Ok(Verdict::Next);
    }
    let now = count::now();
    frame.environment = port.environment.number;
    frame.internal = port.internal;
    let source = source(frame, &ethernet)?;
    if ethernet.source == ROUTER_INSIDE_MAC {
        return Err(DropReason::MacSpoofed);
    }
    // On a port of its own, a guest is known whatever it sends.
    let address = source.unwrap_or(port.internal);
    let guest = if source.is_some() || port.internal != Address::UNSPECIFIED {
        Some(guest(frame, &port, &ethernet, address, now)?)
    } else {
        None
    };
    frame.internal = address;
    let (mac, interface) = (ethernet.source, frame.interface);
    match guest {
        // What was just heard of the guest holds for its station, too.
        Some(guest) if source.is_some() => {
            let environment = port.environment.number;
            if learned::is_news(guest, mac, interface, now) {
                let claim = learned::claim(guest, mac, interface, now);
                learned::hear_station(environment, mac, interface, now, claim)?;
                if claim != Claim::Mere {
                    learned::hear_guest(guest, environment, mac, interface, now);
                }
            }
        }
        _ => learned::hear_station(port.environment.number, mac, interface, now, Claim::Mere)?,
    }

    if ethernet.destination != ROUTER_INSIDE_MAC {
        return Ok(sibling(frame, &port, &ethernet, now));
    }
    if frame.packet.had_tag() {
        // Another network as far as the router is concerned; the tag would leave with the packet.
        return Ok(Verdict::Next);
    }
    if ethernet.ethertype == ETHERTYPE_IPV4
        && let Some(decision) = out(frame, &port, now)
    {
        return decision;
    }
    frame.packet.address_to_host().ok_or(DropReason::HelperFailed)?;
    Ok(Verdict::Cross(port.router))
}

/// The internal address that the frame says it comes from; none when it says nothing, or that its sender has none yet.
#[inline(always)]
fn source(frame: &Frame<'_>, ethernet: &Ethernet) -> Result<Option<Address>, DropReason> {
    if frame.packet.is_tagged() {
        // A network of the guests' own, with addresses of its own, which nobody else takes part in.
        return Ok(None);
    }
    let source = match ethernet.ethertype {
        ETHERTYPE_IPV4 => Ipv4::parse(&frame.packet)?.tail.source,
        ETHERTYPE_ARP => {
            let arp = Arp::parse(&frame.packet)?;
            if arp.sender_mac() != ethernet.source {
                return Err(DropReason::MacSpoofed);
            }
            arp.sender()
        }
        _ => return Ok(None),
    };
    // Who asks for an address by DHCP (RFC 2131, section 4.1) or probes one (RFC 5227, section 2.1.1) has none, and
    // speaks to everybody.
    let has_none = source == Address::UNSPECIFIED && ethernet.destination.is_group();
    Ok((!has_none).then_some(source))
}

/// The guest with this internal address, if it can be the sender of the frame.
#[inline(always)]
fn guest(
    frame: &Frame<'_>,
    port: &Port,
    ethernet: &Ethernet,
    address: Address,
    now: u64,
) -> Result<&'static mut Endpoint, DropReason> {
    let environment = &port.environment;
    let own_port = port.internal != Address::UNSPECIFIED;
    if own_port && address != port.internal {
        return Err(DropReason::SourceSpoofed);
    }
    let guest = maps::endpoint(external(port, address)).ok_or(DropReason::SourceSpoofed)?;
    let location = &guest.location;
    // Where guests share a port, or it is not known whose it is, an address stays where it was heard as long as it is
    // heard there.
    let elsewhere = location.interface != frame.interface && learned::is_heard(&location.age, now);
    if guest.internal != address || guest.environment.number != environment.number || (!own_port && elsewhere) {
        return Err(DropReason::SourceSpoofed);
    }
    if guest.mac.is_set() && guest.mac != ethernet.source {
        return Err(DropReason::MacSpoofed);
    }
    Ok(guest)
}

/// The external address that an internal one has, if it is mapped.
#[inline(always)]
fn external(port: &Port, internal: Address) -> Address {
    let environment = &port.environment;
    internal.rebase(environment.external, environment.mask)
}

/// To a sibling, if it was heard.
#[inline(always)]
fn sibling(frame: &Frame<'_>, port: &Port, ethernet: &Ethernet, now: u64) -> Verdict {
    if ethernet.destination.is_group() {
        return Verdict::Next;
    }
    let exists = |interface| frame.packet.exists(interface);
    match learned::station(port.environment.number, ethernet.destination, now, exists) {
        Some(interface) if interface != frame.interface => Verdict::Send(interface),
        _ => Verdict::Next,
    }
}

/// Out of the environment; `None` when that is the router's business, and the packet was not changed.
#[inline(always)]
fn out(frame: &mut Frame<'_>, port: &Port, now: u64) -> Option<Result<Verdict, DropReason>> {
    const HOPS: u8 = 1;
    let ordinary = Ordinary::parse(&frame.packet, HOPS)?;
    let (source, destination) = (ordinary.ip.tail.source, ordinary.ip.tail.destination);
    let environment = &port.environment;
    if environment.is_internal(destination) || log::wants_translations() {
        return None;
    }
    let size = frame.packet.size();
    let own = external(port, source);
    let uplink = UPLINK.get(0)?;

    if let Some(other) = maps::endpoint(destination) {
        // Two routers would have forwarded it, or one twice.
        const HOPS: u8 = 2;
        let (number, internal) = (other.environment.number, other.internal);
        if !ordinary.lasts(HOPS) {
            return None;
        }
        let (mac, interface) = learned::location(other, now, Asking::Later)?;
        if !frame.packet.fits(interface, uplink.mtu) {
            return None;
        }
        let forward = ordinary.forward(Some(own), Some(internal), HOPS)?;
        return Some(
            forward::write(&mut frame.packet, &forward, mac, ROUTER_INSIDE_MAC).map(|()| {
                count::outbound(environment.number, source, size, now);
                count::inbound(number, internal, size);
                Verdict::Send(interface)
            }),
        );
    }

    if environment.is_external(destination) {
        // Nobody's: the router believes nobody outside who claims to have it.
        return None;
    }
    let hop = learned::next_hop(uplink.next_hop(destination)?, now)?;
    if !frame.packet.fits(port.exit, uplink.mtu) {
        return None;
    }
    let forward = ordinary.forward(Some(own), None, HOPS)?;
    Some(
        forward::write(&mut frame.packet, &forward, hop, environment.mac).map(|()| {
            count::outbound(environment.number, source, size, now);
            // The host itself is not out there.
            if port.exit_is_port != 0 || hop == uplink.mac {
                Verdict::Receive(port.exit)
            } else {
                Verdict::Send(port.exit)
            }
        }),
    )
}

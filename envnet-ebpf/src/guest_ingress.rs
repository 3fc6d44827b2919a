//! Frames from a guest's port. Spoofed ones are dropped. The others go straight to a sibling, to the router, to another
//! environment, or out of the uplink. The bridge gets broadcasts, multicasts, and frames to addresses not learned yet.

use envnet_common::{
    Address, DropReason, Verdict,
    arp::Arp,
    forward::{self, Eligible},
    maps::{Endpoint, MappingKey, Port, ROUTER_INSIDE_MAC},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Ipv4, Read},
};

use crate::{
    clock, count,
    fdb::{self, Claim},
    kernel_code::Decision,
    log,
    maps::{self, UPLINK},
    neighbours::{self, ProbeMode},
    run::FastContext,
    skb::DirectPacket,
};

type Context<'a> = FastContext<DirectPacket<'a>>;

#[inline(always)]
pub(crate) fn decide(context: &mut Context<'_>) -> Decision {
    let Ok(ethernet) = Ethernet::parse(&context.packet) else {
        return Ok(Verdict::Next);
    };
    let Some(port) = maps::port(context.interface) else {
        return Ok(Verdict::Next);
    };
    if ethernet.source.is_group() || !ethernet.source.is_set() {
        // Not a valid source (IEEE 802.3, 3.2.3): the bridge drops the frame, and nothing is learned from it.
        return Ok(Verdict::Next);
    }
    let now = clock::now();
    context.mapping = MappingKey {
        environment: port.environment.number,
        internal: port.internal,
    };
    let source = source(context, &ethernet)?;
    if ethernet.source == ROUTER_INSIDE_MAC {
        return Err(DropReason::MacSpoofed);
    }
    // A port with one guest identifies it, whatever it sends.
    let address = source.unwrap_or(port.internal);
    let guest = if source.is_some() || port.internal != Address::UNSPECIFIED {
        Some(guest(context, &port, &ethernet, address, now)?)
    } else {
        None
    };
    context.mapping.internal = address;
    let (mac, interface) = (ethernet.source, context.interface);
    match guest {
        // The location of the guest and the entry in the FDB are written together.
        Some(guest) if source.is_some() => {
            let environment = port.environment.number;
            if neighbours::is_news(guest, mac, interface, now) {
                let claim = fdb::claim(guest, mac, interface, now);
                fdb::learn(environment, mac, interface, now, claim)?;
                if claim != Claim::Unverified {
                    neighbours::learn_location(guest, environment, mac, interface, now);
                }
            }
        }
        _ => fdb::learn(port.environment.number, mac, interface, now, Claim::Unverified)?,
    }

    if ethernet.destination != ROUTER_INSIDE_MAC {
        return Ok(sibling(context, &port, &ethernet, now));
    }
    if context.packet.had_tag() {
        // The router does not take part in a VLAN of the guests, and the tag would leave with the packet.
        return Ok(Verdict::Next);
    }
    if ethernet.ethertype == ETHERTYPE_IPV4
        && let Some(decision) = out(context, &port, now)
    {
        return decision;
    }
    context.packet.address_to_host().ok_or(DropReason::HelperFailed)?;
    Ok(Verdict::RedirectPeer(port.router))
}

/// The internal address that the frame gives as its source; `None` when it gives none, or its sender has none yet.
#[inline(always)]
fn source(context: &Context<'_>, ethernet: &Ethernet) -> Result<Option<Address>, DropReason> {
    if context.packet.is_tagged() {
        // A VLAN of the guests has addresses of its own.
        return Ok(None);
    }
    let source = match ethernet.ethertype {
        ETHERTYPE_IPV4 => Ipv4::parse(&context.packet)?.tail.source,
        ETHERTYPE_ARP => {
            let arp = Arp::parse(&context.packet)?;
            if arp.sender_mac() != ethernet.source {
                return Err(DropReason::MacSpoofed);
            }
            arp.sender()
        }
        _ => return Ok(None),
    };
    // A guest that asks for an address by DHCP (RFC 2131, section 4.1) or probes one (RFC 5227, section 2.1.1) has none yet,
    // and sends a broadcast.
    let has_none = source == Address::UNSPECIFIED && ethernet.destination.is_group();
    Ok((!has_none).then_some(source))
}

/// The guest with this internal address, if it can be the sender of the frame.
#[inline(always)]
fn guest(
    context: &Context<'_>,
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
    // On a port that does not belong to one guest, an address that is fresh on another port is refused.
    let elsewhere = location.interface != context.interface && neighbours::is_fresh(&location.age, now);
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

/// To a sibling whose address has been learned.
#[inline(always)]
fn sibling(context: &Context<'_>, port: &Port, ethernet: &Ethernet, now: u64) -> Verdict {
    if ethernet.destination.is_group() {
        return Verdict::Next;
    }
    let exists = |interface| context.packet.exists(interface);
    match fdb::port_of(port.environment.number, ethernet.destination, now, exists) {
        Some(interface) if interface != context.interface => Verdict::RedirectEgress(interface),
        _ => Verdict::Next,
    }
}

/// Out of the environment. `None` leaves the packet to the router, unchanged.
#[inline(always)]
fn out(context: &mut Context<'_>, port: &Port, now: u64) -> Option<Decision> {
    const HOPS: u8 = 1;
    let eligible = Eligible::parse(&context.packet, HOPS)?;
    let (source, destination) = (eligible.ip.tail.source, eligible.ip.tail.destination);
    let environment = &port.environment;
    if environment.is_internal(destination) || log::wants_translations() {
        return None;
    }
    let size = context.packet.size();
    let sender = MappingKey {
        environment: environment.number,
        internal: source,
    };
    let own = external(port, source);
    let uplink = UPLINK.get(0)?;

    if let Some(other) = maps::endpoint(destination) {
        // Two routers would have forwarded it, or one router twice.
        const HOPS: u8 = 2;
        let receiver = MappingKey {
            environment: other.environment.number,
            internal: other.internal,
        };
        if !eligible.has_ttl_for(HOPS) {
            return None;
        }
        let (mac, interface) = neighbours::location(other, now, ProbeMode::Defer)?;
        if !context.packet.fits(interface, uplink.mtu) {
            return None;
        }
        let forward = eligible.forward(Some(own), Some(receiver.internal), HOPS)?;
        return Some(
            forward::write(&mut context.packet, &forward, mac, ROUTER_INSIDE_MAC).map(|()| {
                count::outbound(sender, size, now);
                count::inbound(receiver, size);
                Verdict::RedirectEgress(interface)
            }),
        );
    }

    if environment.is_external(destination) {
        // Not mapped. The router refuses ARP from outside for it.
        return None;
    }
    let hop = neighbours::next_hop(uplink.next_hop_towards(destination)?, now)?;
    if !context.packet.fits(port.exit, uplink.mtu) {
        return None;
    }
    let forward = eligible.forward(Some(own), None, HOPS)?;
    Some(
        forward::write(&mut context.packet, &forward, hop, environment.mac).map(|()| {
            count::outbound(sender, size, now);
            // The host itself is not on the wire.
            if port.exit_is_port != 0 || hop == uplink.mac {
                Verdict::RedirectIngress(port.exit)
            } else {
                Verdict::RedirectEgress(port.exit)
            }
        }),
    )
}

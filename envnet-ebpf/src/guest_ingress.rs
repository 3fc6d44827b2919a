//! Frames from a guest's port. Spoofed ones are dropped. The others go straight to a sibling, to the router, to another
//! environment, or out of the uplink. The bridge gets broadcasts, multicasts, and frames to addresses not learned yet.

use envnet_common::{
    Address, DropReason, Verdict,
    arp::Arp,
    forward::{self, Eligible},
    guest::{self, Tag},
    limit::Kind,
    maps::{Endpoint, MappingKey, Port, ROUTER_INSIDE_MAC, Uplink},
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Read},
};

use crate::{
    clock, count,
    fdb::{self, Claim},
    kernel_code::Decision,
    limits, log,
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
    let uplink = UPLINK.get(0).ok_or(DropReason::HelperFailed)?;
    admit(context, &port, &ethernet, uplink, now)?;
    if ethernet.destination.is_group() && ethernet.ethertype == ETHERTYPE_ARP {
        limits::take(context.interface, Kind::Arp, now)?;
    }
    if uplink.interface == 0 {
        if ethernet.destination == ROUTER_INSIDE_MAC && ethernet.ethertype == ETHERTYPE_IPV4 {
            limit_contacts(context, &port, uplink, now)?;
        }
        // There is no fast path.
        return Ok(Verdict::Next);
    }

    if ethernet.destination != ROUTER_INSIDE_MAC {
        return Ok(sibling(context, &port, &ethernet, now));
    }
    if ethernet.ethertype == ETHERTYPE_IPV4 {
        // A priority tag would leave with the packet; the router takes it off.
        if !context.packet.had_tag()
            && let Some(decision) = out(context, &port, now)
        {
            return decision;
        }
        limit_contacts(context, &port, uplink, now)?;
    }
    context.packet.address_to_host().ok_or(DropReason::HelperFailed)?;
    Ok(Verdict::RedirectPeer(port.router))
}

/// A packet for the router: limits those to addresses on its links that are not mapped, for each of which it has to ask.
#[inline(always)]
fn limit_contacts(context: &Context<'_>, port: &Port, uplink: &Uplink, now: u64) -> Result<(), DropReason> {
    let Some(destination) = forward::destination(&context.packet) else {
        return Ok(());
    };
    let outside = uplink.next_hop_towards(destination) == Some(destination);
    let external = if port.environment.is_internal(destination) {
        external(port, destination)
    } else if outside {
        destination
    } else {
        return Ok(());
    };
    if maps::endpoint(external).is_some() {
        return Ok(());
    }
    limits::contact(context.interface, destination, now)
}

/// Refuses what a guest must not send, whatever becomes of it, and learns where the guest is.
#[inline(always)]
fn admit(
    context: &mut Context<'_>,
    port: &Port,
    ethernet: &Ethernet,
    uplink: &Uplink,
    now: u64,
) -> Result<(), DropReason> {
    let packet = &context.packet;
    let tag = packet.tag();
    let source = guest::source(packet, ethernet, tag, packet.unfinished())?;
    if ethernet.source == ROUTER_INSIDE_MAC {
        return Err(DropReason::MacSpoofed);
    }
    if tag == Tag::Vlan && ethernet.destination == ROUTER_INSIDE_MAC {
        // The router does not take part in a VLAN of the guests.
        return Err(DropReason::VlanTagged);
    }
    if !packet.fits(context.interface, uplink.mtu) {
        return Err(DropReason::TooLong);
    }
    let (mac, interface, environment) = (ethernet.source, context.interface, port.environment.number);
    let is_pool = |address: Address| address.network(uplink.mask) == uplink.pool;
    // Of what belongs to nobody, siblings may have anything among themselves; but nobody outside could answer.
    let given = source.and_then(|address| Some((known(port, address)?, address)));
    if let (Some(address), None) = (source, &given)
        && (!address.is_unicast_host() || is_pool(address) || is_for_router(context, port, ethernet))
    {
        return Err(DropReason::SourceSpoofed);
    }
    let Some((guest, address)) = sender(context, port, ethernet, given, now)? else {
        return fdb::learn(environment, mac, interface, now, Claim::Unverified);
    };
    context.mapping.internal = address;
    if source != Some(address) {
        return fdb::learn(environment, mac, interface, now, Claim::Unverified);
    }
    // The location of the guest and the entry in the FDB are written together.
    if neighbours::is_news(guest, mac, interface, now) {
        // Nobody else can have an Ethernet address that is promised to the guest on its own port.
        let promised = port.internal == address && guest.mac.is_set();
        let claim = if promised {
            Claim::Confirmed
        } else {
            fdb::claim(guest, mac, interface, now)
        };
        fdb::learn(environment, mac, interface, now, claim)?;
        if claim != Claim::Unverified {
            neighbours::learn_location(guest, environment, mac, interface, now);
        }
    }
    Ok(())
}

/// The guest that has sent a frame, with its internal address, as far as one can tell: by the mapped address that it gives as its
/// source, by the port, or by the Ethernet address.
#[inline(always)]
fn sender(
    context: &Context<'_>,
    port: &Port,
    ethernet: &Ethernet,
    given: Option<(&'static mut Endpoint, Address)>,
    now: u64,
) -> Result<Option<(&'static mut Endpoint, Address)>, DropReason> {
    let environment = &port.environment;
    let own_port = port.internal != Address::UNSPECIFIED;
    let by_mac = || maps::guest_with(environment.number, ethernet.source);
    let (guest, address) = if let Some(given) = given {
        given
    } else {
        let Some(address) = own_port.then_some(port.internal).or_else(by_mac) else {
            return Ok(None);
        };
        (known(port, address).ok_or(DropReason::SourceSpoofed)?, address)
    };
    let (mac, interface) = (ethernet.source, context.interface);
    // Who holds a floating address sends it from its own port, with an Ethernet address of its own.
    let holder = own_port && address != port.internal;
    if holder && guest.floating == 0 {
        return Err(DropReason::SourceSpoofed);
    }
    // On a port that does not belong to the guest, an address that is fresh on another port is refused; but a floating one goes to
    // the last who announces it.
    let elsewhere = guest.location.interface != interface && neighbours::is_fresh(&guest.location.age, now);
    let announced = guest.floating != 0 && ethernet.ethertype == ETHERTYPE_ARP;
    if (!own_port || holder) && elsewhere && !announced {
        return Err(DropReason::SourceSpoofed);
    }
    let machine = if holder { port.internal } else { address };
    let configured = if holder {
        known(port, machine).ok_or(DropReason::SourceSpoofed)?.mac
    } else {
        guest.mac
    };
    let spoofed = if configured.is_set() {
        configured != mac
    } else {
        // The look-up is not needed for what was heard a moment ago.
        neighbours::is_news(guest, mac, interface, now) && by_mac().is_some_and(|owner| owner != machine)
    };
    if spoofed {
        return Err(DropReason::MacSpoofed);
    }
    Ok(Some((guest, address)))
}

/// The guest of the environment with this internal address, or its router.
#[inline(always)]
fn known(port: &Port, address: Address) -> Option<&'static mut Endpoint> {
    if !port.environment.is_internal(address) {
        return None;
    }
    let guest = maps::endpoint(external(port, address))?;
    (guest.internal == address && guest.environment.number == port.environment.number).then_some(guest)
}

/// Whether a frame is to the router, or ARP that asks for it: the router would note the sender.
#[inline(always)]
fn is_for_router(context: &Context<'_>, port: &Port, ethernet: &Ethernet) -> bool {
    if ethernet.destination == ROUTER_INSIDE_MAC {
        return true;
    }
    if ethernet.ethertype != ETHERTYPE_ARP {
        return false;
    }
    let Ok(arp) = Arp::parse(&context.packet) else {
        return true;
    };
    known(port, arp.target()).is_some_and(|target| target.mac == ROUTER_INSIDE_MAC)
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
    if uplink.bars(hop) {
        // The router drops it.
        return None;
    }
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

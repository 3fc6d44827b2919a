//! What the fast path learns about its neighbours, guests and next hops, and whether it is still reachable that way.

use aya_ebpf::bindings::{BPF_ANY, BPF_EXIST};
use envnet_common::{
    Address, Mac,
    age::{Age, NeighbourState, elapsed},
    arp::Arp,
    maps::{Endpoint, NextHop, Uplink},
    parse::Ethernet,
};

use crate::maps::{self, NEXT_HOPS};

const MILLISECOND: i64 = 1_000_000;

/// What to do about an entry that should be probed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeMode {
    /// The router sees the packet next: now and then a packet is left to it, and its neighbour table then asks by ARP.
    Send,
    /// Another program of the fast path sees the packet before the router, and probes. This one must not note a probe, or
    /// the other would not send it.
    Defer,
}

/// Whether an entry of this age can be used for this packet. Notes a probe.
#[inline(always)]
fn is_usable(age: &mut Age, now: u64, mode: ProbeMode) -> bool {
    match age.state(now) {
        NeighbourState::Reachable => true,
        NeighbourState::Probe => {
            if mode == ProbeMode::Send {
                age.probed = now;
            }
            false
        }
        NeighbourState::Failed => false,
    }
}

/// Whether an entry of this age was confirmed recently enough to be used at all.
#[inline(always)]
pub(crate) fn is_fresh(age: &Age, now: u64) -> bool {
    age.state(now) != NeighbourState::Failed
}

/// The Ethernet address of a guest and the interface of its port, if both are known.
#[inline(always)]
pub(crate) fn location(endpoint: &mut Endpoint, now: u64, mode: ProbeMode) -> Option<(Mac, u32)> {
    let environment = endpoint.environment.number;
    let location = &mut endpoint.location;
    // A late write may have hit an entry that meanwhile belongs to a guest of another environment.
    if location.environment != environment {
        return None;
    }
    is_usable(&mut location.age, now, mode).then_some((location.mac, location.interface))
}

/// Whether a frame of a guest changes its location, or is the next one to confirm it.
#[inline(always)]
pub(crate) fn is_news(endpoint: &Endpoint, mac: Mac, interface: u32, now: u64) -> bool {
    let location = &endpoint.location;
    location.interface != interface || location.mac != mac || location.age.is_due(now)
}

/// Writes down the location of a guest that has just sent a frame.
#[inline(always)]
pub(crate) fn learn_location(endpoint: &mut Endpoint, environment: u32, mac: Mac, interface: u32, now: u64) {
    let location = &mut endpoint.location;
    location.mac = mac;
    location.interface = interface;
    location.environment = environment;
    location.age = Age::new(now);
}

/// The Ethernet address of a next hop, if it is known.
#[inline(always)]
pub(crate) fn next_hop(address: Address, now: u64) -> Option<Mac> {
    let hop = NEXT_HOPS.get_ptr_mut(address)?;
    // SAFETY: the entry is plain data. Only the time of the last probe is written to it, which does no harm to another
    // address that the entry may be reused for meanwhile.
    let hop = unsafe { &mut *hop };
    is_usable(&mut hop.age, now, ProbeMode::Send).then_some(hop.mac)
}

/// A packet from `source` confirms the next hop towards it, if that has sent the frame. It may not have: routers that share
/// an address often send from an Ethernet address of their own.
#[inline(always)]
pub(crate) fn confirm_next_hop(
    endpoint: &mut Endpoint,
    uplink: &Uplink,
    ethernet: &Ethernet,
    source: Address,
    now: u64,
) {
    const EVERY: i64 = 50 * MILLISECOND;
    if elapsed(endpoint.location.confirmed_hop, now) < EVERY {
        return;
    }
    endpoint.location.confirmed_hop = now;
    let Some(address) = uplink.next_hop_towards(source) else {
        return;
    };
    // SAFETY: no reference to the entry is kept.
    let mac = unsafe { NEXT_HOPS.get(address) }.map(|hop| hop.mac);
    if mac == Some(ethernet.source) {
        write_hop(address, ethernet.source, now, BPF_EXIST);
    }
}

/// Inserted rather than written to, because an entry may be reused for another address meanwhile. If it fails, the next
/// packet takes the slow path.
#[inline(always)]
fn write_hop(address: Address, mac: Mac, now: u64, flags: u32) {
    let hop = NextHop {
        mac,
        reserved: [0; 2],
        age: Age::new(now),
    };
    let _ = NEXT_HOPS.insert(address, hop, u64::from(flags));
}

/// Learns the Ethernet address of an ARP packet's sender. As in the kernel's neighbour table, only a packet to one of the
/// routers' WAN ports makes a new entry, usually the answer to a request; any other packet updates an existing entry.
#[inline(always)]
pub(crate) fn learn_next_hop(ethernet: &Ethernet, arp: &Arp, uplink: &Uplink, now: u64) {
    let sender = arp.sender();
    let is_mapped = maps::endpoint(sender).is_some();
    let is_on_link = uplink.next_hop_towards(sender) == Some(sender);
    if is_mapped || !sender.is_unicast_host() || arp.sender_mac() != ethernet.source || !is_on_link {
        return;
    }
    // SAFETY: no reference to the entry is kept.
    if unsafe { NEXT_HOPS.get(sender) }.is_some() || maps::is_router_wan(ethernet.destination) {
        write_hop(sender, ethernet.source, now, BPF_ANY);
    }
}

//! What the fast path learns from the packets it sees, and whether it is still to be believed.

use aya_ebpf::bindings::{BPF_ANY, BPF_EXIST};
use envnet_common::{
    Address, DropReason, Mac,
    age::{Age, Trust, elapsed},
    arp::Arp,
    maps::{Endpoint, NextHop, Station, StationKey, Uplink},
    parse::Ethernet,
};

use crate::maps::{self, NEXT_HOPS, STATIONS};

const SECOND: i64 = 1_000_000_000;
/// How long a bridge remembers a station by default, and so does the fast path.
const STATION_FORGOTTEN_AFTER: i64 = 300 * SECOND;
/// How long nobody else may use the address of a station that has spoken.
const STATION_GUARDED_FOR: i64 = SECOND / 2;
/// A station is looked for only when it was silent for this long; interfaces seldom vanish under one that speaks.
const STATION_SURE_FOR: i64 = SECOND / 2;
const STATION_WRITTEN_EVERY: i64 = SECOND / 10;

/// Who can ask, when a packet rather should.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// The last program before the router that has the answer: it lets a packet through to it now and then.
    Here,
    /// Another program comes before that router, and would find that somebody has just asked.
    Later,
}

/// Whether something of this age can be used for this packet; notes when it asks.
#[inline(always)]
fn usable(age: &mut Age, now: u64, asking: Asking) -> bool {
    match age.trust(now) {
        Trust::Good => true,
        Trust::Ask => {
            if asking == Asking::Here {
                age.asked = now;
            }
            false
        }
        Trust::Gone => false,
    }
}

/// Whether something of this age was heard lately.
#[inline(always)]
pub(crate) fn is_heard(age: &Age, now: u64) -> bool {
    age.trust(now) != Trust::Gone
}

/// Where a guest is, if that is known: its Ethernet address and the interface of its port.
#[inline(always)]
pub(crate) fn location(endpoint: &mut Endpoint, now: u64, asking: Asking) -> Option<(Mac, u32)> {
    let environment = endpoint.environment.number;
    let location = &mut endpoint.location;
    // What was written late to an entry that had become another's is not its own.
    if location.environment != environment {
        return None;
    }
    usable(&mut location.age, now, asking).then_some((location.mac, location.interface))
}

/// Whether it is worth writing down that a guest was heard on a port.
#[inline(always)]
pub(crate) fn is_news(endpoint: &Endpoint, mac: Mac, interface: u32, now: u64) -> bool {
    let location = &endpoint.location;
    location.interface != interface || location.mac != mac || location.age.is_due(now)
}

/// What a guest's frame says about its station. A guest whose address has just changed is not believed again so soon: it
/// could fill the table with others.
#[inline(always)]
pub(crate) fn claim(endpoint: &Endpoint, mac: Mac, interface: u32, now: u64) -> Claim {
    let location = &endpoint.location;
    if location.interface != interface {
        Claim::Guest
    } else if location.mac == mac {
        Claim::Established
    } else if location.age.is_due(now) {
        Claim::Guest
    } else {
        Claim::Mere
    }
}

/// A guest was heard on a port.
#[inline(always)]
pub(crate) fn hear_guest(endpoint: &mut Endpoint, environment: u32, mac: Mac, interface: u32, now: u64) {
    let location = &mut endpoint.location;
    location.mac = mac;
    location.interface = interface;
    location.environment = environment;
    location.age = Age::new(now);
}

/// What a frame says about the station it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing but its source address.
    Mere,
    /// It is from the guest, whose address has been checked.
    Guest,
    /// It is from the guest where that has been all the time, so that whoever else has spoken in its name is refuted.
    Established,
}

/// A frame came in with this source on a port of an environment: the port is where its sender is from now on. Refused
/// while the same address speaks on another port.
#[inline(always)]
pub(crate) fn hear_station(
    environment: u32,
    mac: Mac,
    interface: u32,
    now: u64,
    claim: Claim,
) -> Result<(), DropReason> {
    let key = StationKey::new(environment, mac);
    // A mere claim makes no entry but confirms one: `hear_through_bridge` sees the guest's broadcasts and would remove it.
    let mut writes = claim != Claim::Mere;
    // SAFETY: the entry stays readable until the program ends; it is copied because it may be reused for another key.
    if let Some(known) = unsafe { STATIONS.get(key) }.copied() {
        let silent = elapsed(known.heard, now);
        let elsewhere = known.interface != interface;
        if elsewhere && silent < STATION_GUARDED_FOR && claim != Claim::Established {
            return Err(DropReason::MacSpoofed);
        }
        if !elsewhere && silent < STATION_WRITTEN_EVERY {
            return Ok(());
        }
        writes |= !elsewhere;
    }
    if writes {
        let station = Station {
            interface,
            reserved: 0,
            heard: now,
        };
        // Inserted rather than written to, for the same reason. No harm if it fails: the bridge knows, too.
        let _ = STATIONS.insert(key, station, u64::from(BPF_ANY));
    }
    Ok(())
}

/// A frame has come through the bridge: had it come from a port with programs, its sender would just have been heard; if
/// it was not, it is on another port by now, which the bridge knows.
#[inline(always)]
pub(crate) fn hear_through_bridge(environment: u32, mac: Mac, now: u64) {
    let key = StationKey::new(environment, mac);
    // SAFETY: nothing is kept of the entry.
    let heard = unsafe { STATIONS.get(key) }.map(|station| station.heard);
    if heard.is_some_and(|heard| elapsed(heard, now) > 2 * STATION_WRITTEN_EVERY) {
        // Somebody else may have removed it already.
        let _ = STATIONS.remove(key);
    }
}

/// The port a station is behind; `exists` is asked about one that has been silent for a while.
#[inline(always)]
pub(crate) fn station(environment: u32, mac: Mac, now: u64, exists: impl FnOnce(u32) -> bool) -> Option<u32> {
    // SAFETY: the entry stays readable until the program ends; it is copied because it may be reused for another key.
    let station = unsafe { STATIONS.get(StationKey::new(environment, mac)) }.copied()?;
    let silent = elapsed(station.heard, now);
    let usable = silent < STATION_SURE_FOR || (silent < STATION_FORGOTTEN_AFTER && exists(station.interface));
    usable.then_some(station.interface)
}

/// The Ethernet address of a next hop, if it is known.
#[inline(always)]
pub(crate) fn next_hop(address: Address, now: u64) -> Option<Mac> {
    let hop = NEXT_HOPS.get_ptr_mut(address)?;
    // SAFETY: the entry is plain data. Only when it was last asked about is written to it, which does no harm to another
    // address that the entry may be reused for meanwhile.
    let hop = unsafe { &mut *hop };
    usable(&mut hop.age, now, Asking::Here).then_some(hop.mac)
}

/// A packet from `source` came in: if its next hop is the one who sent the frame, that one is alive. It may be another, as
/// routers that share an address often send from an Ethernet address of their own.
#[inline(always)]
pub(crate) fn confirm_next_hop(
    endpoint: &mut Endpoint,
    uplink: &Uplink,
    ethernet: &Ethernet,
    source: Address,
    now: u64,
) {
    const EVERY: i64 = SECOND / 20;
    if elapsed(endpoint.location.confirmed_hop, now) < EVERY {
        return;
    }
    endpoint.location.confirmed_hop = now;
    let Some(address) = uplink.next_hop(source) else {
        return;
    };
    // SAFETY: nothing is kept of the entry.
    let mac = unsafe { NEXT_HOPS.get(address) }.map(|hop| hop.mac);
    if mac == Some(ethernet.source) {
        write_hop(address, ethernet.source, now, BPF_EXIST);
    }
}

/// Inserted rather than written to, because an entry may be reused for another address meanwhile. No harm if it fails: the
/// next packet asks the router.
#[inline(always)]
fn write_hop(address: Address, mac: Mac, now: u64, flags: u32) {
    let hop = NextHop {
        mac,
        reserved: [0; 2],
        age: Age::new(now),
    };
    let _ = NEXT_HOPS.insert(address, hop, u64::from(flags));
}

/// ARP from outside tells where its sender is. As in the kernel's own table, a new entry is only made by what was sent to
/// one of our gateways, usually because it has asked; everything else changes an entry that is there.
#[inline(always)]
pub(crate) fn hear_hop(ethernet: &Ethernet, arp: &Arp, uplink: &Uplink, now: u64) {
    let sender = arp.sender();
    let ours = maps::endpoint(sender).is_some();
    if ours || sender.is_nobody() || arp.sender_mac() != ethernet.source || uplink.next_hop(sender) != Some(sender) {
        return;
    }
    // SAFETY: nothing is kept of the entry.
    if unsafe { NEXT_HOPS.get(sender) }.is_some() || maps::is_gateway(ethernet.destination) {
        write_hop(sender, ethernet.source, now, BPF_ANY);
    }
}

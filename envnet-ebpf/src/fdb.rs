//! The fast path's forwarding database: which port of its bridge an Ethernet address is behind.

use aya_ebpf::bindings::BPF_ANY;
use envnet_common::{
    DropReason, Mac,
    age::elapsed,
    maps::{Endpoint, FdbEntry, FdbKey},
};

use crate::{limits, maps::FDB};

const SECOND: i64 = 1_000_000_000;
/// The default ageing time of a Linux bridge.
const AGEING_TIME: i64 = 300 * SECOND;
/// How long another port may not use an address after its last frame.
const GUARDED_FOR: i64 = SECOND / 2;
/// The kernel is asked whether the port still exists only after this much silence.
const SURE_FOR: i64 = SECOND / 2;
const WRITTEN_EVERY: i64 = SECOND / 10;

/// How far a frame's source address can be trusted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing was checked. The address is guarded against it, and not learned from it; a known address stays known.
    Unverified,
    /// The frame comes from a guest whose IP address was checked. It is learned.
    Verified,
    /// The guest was on this port with this address all the time. It overrides a claim of another port.
    Confirmed,
}

/// How far a guest's frame can be trusted. A guest whose address has just changed is not trusted again so soon: it could
/// fill the map with other addresses.
#[inline(always)]
pub(crate) fn claim(endpoint: &Endpoint, mac: Mac, interface: u32, now: u64) -> Claim {
    let location = &endpoint.location;
    if location.interface != interface {
        Claim::Verified
    } else if location.mac == mac {
        Claim::Confirmed
    } else if location.age.is_due(now) {
        Claim::Verified
    } else {
        Claim::Unverified
    }
}

/// A frame with this source came in by a port. A verified or confirmed claim makes the port the one that the address is
/// behind; an unverified one only refreshes the entry of its own port. An address that another port has just used is refused,
/// except to a confirmed claim.
#[inline(always)]
pub(crate) fn learn(environment: u32, mac: Mac, interface: u32, now: u64, claim: Claim) -> Result<(), DropReason> {
    let key = FdbKey::new(environment, mac);
    let mut writes = claim != Claim::Unverified;
    // SAFETY: the entry stays readable until the program ends; it is copied because it may be reused for another key.
    if let Some(known) = unsafe { FDB.get(key) }.copied() {
        let silent = elapsed(known.last_seen, now);
        let elsewhere = known.interface != interface;
        if elsewhere && silent < GUARDED_FOR && claim != Claim::Confirmed {
            return Err(DropReason::MacSpoofed);
        }
        if !elsewhere && silent < WRITTEN_EVERY {
            return Ok(());
        }
        // `forget_if_moved` sees the guest's broadcasts on the bridge and would remove an entry that is not refreshed.
        writes |= !elsewhere;
    } else if !writes {
        limits::source(interface, mac, now)?;
    }
    if writes {
        let entry = FdbEntry {
            interface,
            reserved: 0,
            last_seen: now,
        };
        // Inserted rather than written to, for the same reason. If it fails, the bridge forwards the frames.
        let _ = FDB.insert(key, entry, u64::from(BPF_ANY));
    }
    Ok(())
}

/// The bridge has forwarded a frame with this source. From a port with programs it would just have been learned; if it was
/// not, the address has moved to a port without programs, which only the bridge knows.
#[inline(always)]
pub(crate) fn forget_if_moved(environment: u32, mac: Mac, now: u64) {
    let key = FdbKey::new(environment, mac);
    // SAFETY: no reference to the entry is kept.
    let last_seen = unsafe { FDB.get(key) }.map(|entry| entry.last_seen);
    if last_seen.is_some_and(|last_seen| elapsed(last_seen, now) > 2 * WRITTEN_EVERY) {
        // Another CPU may have removed it already.
        let _ = FDB.remove(key);
    }
}

/// The port that an address is behind, if it is known; `exists` is called for one that has been silent for a while.
#[inline(always)]
pub(crate) fn port_of(environment: u32, mac: Mac, now: u64, exists: impl FnOnce(u32) -> bool) -> Option<u32> {
    // SAFETY: the entry stays readable until the program ends; it is copied because it may be reused for another key.
    let entry = unsafe { FDB.get(FdbKey::new(environment, mac)) }.copied()?;
    let silent = elapsed(entry.last_seen, now);
    let usable = silent < SURE_FOR || (silent < AGEING_TIME && exists(entry.interface));
    usable.then_some(entry.interface)
}

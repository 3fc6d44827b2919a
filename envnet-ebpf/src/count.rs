//! Packet and drop counters. The maps are per CPU, so a plain addition loses nothing.

use aya_ebpf::bindings::BPF_NOEXIST;
use envnet_common::{
    Address, DropReason,
    maps::{Counters, DropKey, MappingKey},
};

use crate::maps::{COUNTERS, DROPS};

/// The key of drops that concern no mapping, or none that is known yet.
pub(crate) const NO_MAPPING: MappingKey = MappingKey {
    environment: 0,
    internal: Address::UNSPECIFIED,
};

/// Counts a packet translated from external to internal.
#[inline(always)]
pub(crate) fn inbound(mapping: MappingKey, bytes: usize) {
    if let Some(counters) = counters(mapping) {
        counters.packets_in += 1;
        counters.bytes_in += bytes as u64;
    }
}

/// Counts a packet translated from internal to external; `now` is the time of [`clock`](crate::clock).
#[inline(always)]
pub(crate) fn outbound(mapping: MappingKey, bytes: usize, now: u64) {
    if let Some(counters) = counters(mapping) {
        counters.packets_out += 1;
        counters.bytes_out += bytes as u64;
        counters.last_seen = now;
    }
}

#[inline(always)]
fn counters(mapping: MappingKey) -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(mapping)?;
    // SAFETY: the entry is this CPU's own, and no other program that counts runs on this CPU meanwhile. If the entry is
    // removed now, its memory stays an entry of this map until the program ends: at worst one count is lost.
    Some(unsafe { &mut *counters })
}

/// Counts a dropped packet under the mapping that it concerns.
///
/// Not inlined, because every drop of every program ends here.
#[inline(never)]
pub(crate) fn dropped(environment: u32, internal: Address, reason: DropReason) {
    let reason = reason as u32;
    let key = DropKey {
        environment,
        internal,
        reason,
    };
    // Another CPU may insert the entry between the first and the second attempt, hence the third.
    if add_one(key) || DROPS.insert(key, 1, u64::from(BPF_NOEXIST)).is_ok() || add_one(key) {
        return;
    }
    // The map is full. The loader has inserted this entry for every reason.
    add_one(DropKey {
        environment: NO_MAPPING.environment,
        internal: NO_MAPPING.internal,
        reason,
    });
}

#[inline(always)]
fn add_one(key: DropKey) -> bool {
    let Some(packets) = DROPS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: as in `counters`.
    unsafe { *packets += 1 };
    true
}

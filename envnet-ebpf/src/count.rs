//! Counts what happened to packets. The maps are per CPU, so a plain addition loses nothing.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_coarse_ns};
use envnet_common::{
    Address, DropReason,
    maps::{Counters, DropKey, MappingKey},
};

use crate::maps::{COUNTERS, DROPS};

/// Counts a packet translated from external to internal.
#[inline(always)]
pub(crate) fn inbound(environment: u32, internal: Address, bytes: usize) {
    if let Some(counters) = counters(environment, internal) {
        counters.packets_in += 1;
        counters.bytes_in += bytes as u64;
    }
}

/// Counts a packet translated from internal to external; `now` is as in [`now`].
#[inline(always)]
pub(crate) fn outbound(environment: u32, internal: Address, bytes: usize, now: u64) {
    if let Some(counters) = counters(environment, internal) {
        counters.packets_out += 1;
        counters.bytes_out += bytes as u64;
        counters.last_seen = now;
    }
}

#[inline(always)]
fn counters(environment: u32, internal: Address) -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(MappingKey { environment, internal })?;
    // SAFETY: the entry is this CPU's own, and no other program that counts runs on this CPU meanwhile. Should the entry
    // be removed now, its memory is still an entry of this map until the program ends: a count may be lost, no more.
    Some(unsafe { &mut *counters })
}

/// The time, to a tick, in nanoseconds of `CLOCK_MONOTONIC_COARSE`: reading a clock device for every packet is dear.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Counts a dropped packet; `internal` is unspecified when no mapping is concerned.
///
/// A function of its own in the kernel, too, because every drop ends here.
#[inline(never)]
pub(crate) fn dropped(environment: u32, internal: Address, reason: DropReason) {
    let reason = reason as u32;
    let key = DropKey {
        environment,
        internal,
        reason,
    };
    // Another CPU may insert the entry first, hence the second look.
    if add_one(key) || DROPS.insert(key, 1, u64::from(BPF_NOEXIST)).is_ok() || add_one(key) {
        return;
    }
    // The map is full. The loader has put these entries there, one for each reason.
    add_one(DropKey {
        environment: 0,
        internal: Address::UNSPECIFIED,
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

//! Counts what happened to packets. The maps are per CPU, so a plain addition loses nothing.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
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

/// Counts a packet translated from internal to external.
#[inline(always)]
pub(crate) fn outbound(environment: u32, internal: Address, bytes: usize) {
    if let Some(counters) = counters(environment, internal) {
        counters.packets_out += 1;
        counters.bytes_out += bytes as u64;
        // SAFETY: the helper takes no arguments and cannot fail.
        counters.last_seen = unsafe { bpf_ktime_get_ns() };
    }
}

#[inline(always)]
fn counters(environment: u32, internal: Address) -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(MappingKey { environment, internal })?;
    // SAFETY: the entry is this CPU's own, no other program runs on this CPU meanwhile, and the kernel frees an entry
    // that is removed only after all programs that may have found it have ended.
    Some(unsafe { &mut *counters })
}

/// Counts a dropped packet; `internal` is unspecified when no mapping is concerned.
#[inline(always)]
pub(crate) fn dropped(environment: u32, internal: Address, reason: DropReason) {
    let reason = reason as u32;
    if !count_drop(DropKey { environment, internal, reason }) {
        // The map is full. The loader has put these entries there, one for each reason.
        count_drop(DropKey { environment: 0, internal: Address::UNSPECIFIED, reason });
    }
}

/// A function of its own in the kernel, too, as it is called twice.
#[inline(always)]
fn count_drop(key: DropKey) -> bool {
    if let Some(packets) = DROPS.get_ptr_mut(key) {
        // SAFETY: as in `counters`.
        unsafe { *packets += 1 };
        return true;
    }
    if DROPS.insert(key, 1, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // Another CPU was faster.
    let Some(packets) = DROPS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: as in `counters`.
    unsafe { *packets += 1 };
    true
}

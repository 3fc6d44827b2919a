//! The programs' clock.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE`, exact to a tick. Reading a precise clock for every packet is too expensive.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes no arguments and cannot fail.
    unsafe { bpf_ktime_get_coarse_ns() }
}

//! How long a learned entry may be used: a small version of neighbour unreachability detection (RFC 4861, section 7.3).
//!
//! The fast path forwards by what it has learned, and is not told of changes. So an entry that was not confirmed for a while
//! is probed: now and then a packet goes through the router, whose neighbour table then asks by ARP, and a program learns
//! from the answer. Without an answer the entry fails, and all packets go through the router until the entry is learned
//! again. All times are in nanoseconds of `CLOCK_MONOTONIC_COARSE`.

use bytemuck::{Pod, Zeroable};

const MILLISECOND: i64 = 1_000_000;
/// Every packet confirms, but only one in this time is written down: writing to a shared cache line is expensive.
const CONFIRM_EVERY: i64 = 50 * MILLISECOND;
/// An entry stays reachable for this long without confirmation. After that, a packet probes it every [`PROBE_EVERY`].
const REACHABLE_TIME: i64 = 250 * MILLISECOND;
const PROBE_EVERY: i64 = 25 * MILLISECOND;
/// An entry fails after this long without confirmation.
const FAILED_AFTER: i64 = 600 * MILLISECOND;

/// The time from `then` to `now`. It is negative when another CPU, whose clock is a tick ahead, has written `then`.
#[must_use]
#[inline(always)]
pub const fn elapsed(then: u64, now: u64) -> i64 {
    now.wrapping_sub(then).cast_signed()
}

/// When an entry was last confirmed and last probed. Zero: never.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Age {
    /// When it was confirmed.
    pub confirmed: u64,
    /// When a packet last probed it.
    pub probed: u64,
}

/// The state of an entry, in the words of RFC 4861, section 7.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// It can be used.
    Reachable,
    /// It can be used, but this packet should go through the router and probe it.
    Probe,
    /// It must not be used.
    Failed,
}

impl Age {
    /// Just confirmed.
    #[must_use]
    #[inline(always)]
    pub const fn new(now: u64) -> Self {
        Self {
            confirmed: now,
            probed: 0,
        }
    }

    /// Whether the next confirmation is to be written down.
    #[must_use]
    #[inline(always)]
    pub const fn is_due(&self, now: u64) -> bool {
        // Unsigned: a confirmation from the future would otherwise block the next ones.
        now.wrapping_sub(self.confirmed) >= CONFIRM_EVERY.cast_unsigned()
    }

    /// The state at the time `now`. A packet that probes sets [`Age::probed`] to `now`.
    #[must_use]
    #[inline(always)]
    pub const fn state(&self, now: u64) -> NeighbourState {
        let since = elapsed(self.confirmed, now);
        if self.confirmed == 0 || since >= FAILED_AFTER {
            NeighbourState::Failed
        } else if since >= REACHABLE_TIME && elapsed(self.probed, now) >= PROBE_EVERY {
            NeighbourState::Probe
        } else {
            NeighbourState::Reachable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(time: i64) -> u64 {
        time.cast_unsigned()
    }

    #[test]
    fn an_unconfirmed_entry_is_probed_and_then_fails() {
        use NeighbourState::{Failed, Probe, Reachable};
        let age = Age::new(1);
        assert_eq!(age.state(1), Reachable);
        assert_eq!(age.state(0), Reachable, "another CPU's clock is behind");
        assert_eq!(age.state(at(REACHABLE_TIME)), Reachable);
        assert_eq!(age.state(at(REACHABLE_TIME + 1)), Probe);
        let probed = Age {
            probed: at(REACHABLE_TIME + 1),
            ..age
        };
        assert_eq!(probed.state(at(REACHABLE_TIME + PROBE_EVERY)), Reachable);
        assert_eq!(probed.state(at(REACHABLE_TIME + PROBE_EVERY + 1)), Probe);
        assert_eq!(probed.state(at(FAILED_AFTER + 1)), Failed);
        assert_eq!(Age::default().state(1), Failed);
    }

    #[test]
    fn a_confirmation_is_written_now_and_then() {
        let age = Age::new(at(MILLISECOND));
        assert!(!age.is_due(at(MILLISECOND + 1)));
        assert!(age.is_due(at(MILLISECOND + CONFIRM_EVERY)));
    }
}

//! How long what was learned is believed.
//!
//! The fast path sends by what it has heard, and nobody tells it when that is no longer so. So an entry that was not
//! confirmed for a while is doubted: now and then a packet goes through the router, whose neighbour table then asks by ARP,
//! and the answer passes a program that learns from it. Without an answer the entry is forgotten, and everything goes
//! through the router until something is heard. All times are in nanoseconds of `CLOCK_MONOTONIC_COARSE`.

use bytemuck::{Pod, Zeroable};

const MILLISECOND: i64 = 1_000_000;
/// Every packet confirms, but only every so often is it written down: a shared cache line is dear.
const CONFIRM_EVERY: i64 = 50 * MILLISECOND;
/// After this, a packet is sent to ask, every [`ASK_EVERY`].
const DOUBTED_AFTER: i64 = 250 * MILLISECOND;
const ASK_EVERY: i64 = 25 * MILLISECOND;
/// After this, nothing is believed any more.
const FORGOTTEN_AFTER: i64 = 600 * MILLISECOND;

/// The time from `then` to `now`. Less than nothing when another CPU, whose clock is a tick ahead, has written it down.
#[must_use]
#[inline(always)]
pub const fn elapsed(then: u64, now: u64) -> i64 {
    now.wrapping_sub(then).cast_signed()
}

/// When something was last confirmed, and last asked about. Zero: never.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Age {
    /// When it was confirmed.
    pub confirmed: u64,
    /// When a packet was last sent to ask.
    pub asked: u64,
}

/// What an [`Age`] says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It can be used.
    Good,
    /// It can be used, but this packet should rather ask.
    Ask,
    /// It must not be used.
    Gone,
}

impl Age {
    /// Just confirmed.
    #[must_use]
    #[inline(always)]
    pub const fn new(now: u64) -> Self {
        Self {
            confirmed: now,
            asked: 0,
        }
    }

    /// Whether another confirmation need be written down.
    #[must_use]
    #[inline(always)]
    pub const fn is_due(&self, now: u64) -> bool {
        // Unsigned: a confirmation from the future would keep others from being written down.
        now.wrapping_sub(self.confirmed) >= CONFIRM_EVERY.cast_unsigned()
    }

    /// What to do with an entry of this age. After [`Trust::Ask`], [`Age::asked`] is to be set to `now`.
    #[must_use]
    #[inline(always)]
    pub const fn trust(&self, now: u64) -> Trust {
        let since = elapsed(self.confirmed, now);
        if self.confirmed == 0 || since >= FORGOTTEN_AFTER {
            Trust::Gone
        } else if since >= DOUBTED_AFTER && elapsed(self.asked, now) >= ASK_EVERY {
            Trust::Ask
        } else {
            Trust::Good
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
    fn trust_wanes() {
        let age = Age::new(1);
        assert_eq!(age.trust(1), Trust::Good);
        assert_eq!(age.trust(0), Trust::Good, "another CPU's clock is behind");
        assert_eq!(age.trust(at(DOUBTED_AFTER)), Trust::Good);
        assert_eq!(age.trust(at(DOUBTED_AFTER + 1)), Trust::Ask);
        let asked = Age {
            asked: at(DOUBTED_AFTER + 1),
            ..age
        };
        assert_eq!(asked.trust(at(DOUBTED_AFTER + ASK_EVERY)), Trust::Good);
        assert_eq!(asked.trust(at(DOUBTED_AFTER + ASK_EVERY + 1)), Trust::Ask);
        assert_eq!(asked.trust(at(FORGOTTEN_AFTER + 1)), Trust::Gone);
        assert_eq!(Age::default().trust(1), Trust::Gone);
    }

    #[test]
    fn a_confirmation_is_written_now_and_then() {
        let age = Age::new(at(MILLISECOND));
        assert!(!age.is_due(at(MILLISECOND + 1)));
        assert!(age.is_due(at(MILLISECOND + CONFIRM_EVERY)));
    }
}

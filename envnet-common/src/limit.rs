//! How much a guest may have the routers do that costs other guests: a token bucket for each kind and port.
//!
//! A packet to an address that nobody has spoken for makes the router ask for it by ARP: ten broadcasts on the uplink, thirty among
//! the siblings, and an entry of the neighbour table, which all namespaces of the machine share. What is limited is how many such
//! addresses a guest may try, not how much it sends to one.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac, age::elapsed};

const SECOND: i64 = 1_000_000_000;

/// Key of [`BUCKETS`](crate::maps::BUCKETS).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct BucketKey {
    /// Index of the port, in host order.
    pub interface: u32,
    /// Number of the [`Kind`], in host order.
    pub kind: u32,
}

/// Key of [`CONTACTS`](crate::maps::CONTACTS).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ContactKey {
    /// Index of the port, in host order.
    pub interface: u32,
    /// Whom the guest has sent something to.
    pub destination: Address,
}

/// Key of [`SOURCES`](crate::maps::SOURCES).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SourceKey {
    /// Index of the port, in host order.
    pub interface: u32,
    /// An Ethernet address that was sent from there.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Addresses on a link that are not mapped, each of which the router asks for.
    Contact = 1,
    /// ARP requests to all siblings.
    Arp = 2,
    /// Ethernet addresses that are sent from and are not known to be a guest's, each of which the bridge notes.
    Source = 3,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Contact, Self::Arp, Self::Source];

    /// How many in a second, in the long run.
    #[must_use]
    pub const fn rate(self) -> i64 {
        match self {
            Self::Contact | Self::Source => 20,
            Self::Arp => 100,
        }
    }

    /// How many at once, after a pause. Enough to ask for all of a /24 by ARP.
    #[must_use]
    pub const fn burst(self) -> i64 {
        match self {
            Self::Contact | Self::Source => 64,
            Self::Arp => 256,
        }
    }
}

/// Value of [`BUCKETS`](crate::maps::BUCKETS): a bucket as the time at which it is full again, which needs one field only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Bucket {
    /// In nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub full_at: u64,
}

impl Bucket {
    /// Takes a token at the time `now`, if there is one. Two processors that take at the same time may both get the same one.
    #[inline(always)]
    pub const fn take(&mut self, kind: Kind, now: u64) -> bool {
        let token = SECOND / kind.rate();
        let missing = elapsed(now, self.full_at);
        let missing = if missing > 0 { missing } else { 0 };
        if missing > token * (kind.burst() - 1) {
            return false;
        }
        self.full_at = now.wrapping_add((missing + token).cast_unsigned());
        true
    }
}

/// For how long an address that was sent to, or from, needs no further token.
const KNOWN_FOR: i64 = 10 * SECOND;

/// Whether a token that was taken at the time `then` still counts.
#[must_use]
#[inline(always)]
pub const fn is_known(then: u64, now: u64) -> bool {
    elapsed(then, now) < KNOWN_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        for kind in Kind::ALL {
            let mut bucket = Bucket::default();
            let start = 1_000 * SECOND;
            let taken = |bucket: &mut Bucket, now: i64| {
                let mut tries = 0..10_000;
                tries
                    .by_ref()
                    .take_while(|_| bucket.take(kind, now.cast_unsigned()))
                    .count()
            };
            let burst = usize::try_from(kind.burst()).expect("positive");
            let rate = usize::try_from(kind.rate()).expect("positive");
            assert_eq!(taken(&mut bucket, start), burst, "{kind:?}");
            assert_eq!(taken(&mut bucket, start), 0);
            assert_eq!(taken(&mut bucket, start + SECOND), rate);
            assert_eq!(taken(&mut bucket, start + 1_000 * SECOND), burst, "it holds no more");
        }
    }

    #[test]
    fn a_clock_that_is_a_tick_behind_does_no_harm() {
        let mut bucket = Bucket::default();
        let now = 1_000 * SECOND;
        assert!(bucket.take(Kind::Contact, now.cast_unsigned()));
        assert!(bucket.take(Kind::Contact, (now - 4_000_000).cast_unsigned()));
        assert!(is_known(now.cast_unsigned(), (now - 4_000_000).cast_unsigned()));
        assert!(!is_known(now.cast_unsigned(), (now + KNOWN_FOR).cast_unsigned()));
    }
}

//! Limits what a guest may have the routers and its siblings do.

use aya_ebpf::{bindings::BPF_ANY, maps::LruHashMap};
use envnet_common::{
    Address, DropReason, Mac,
    limit::{Bucket, BucketKey, ContactKey, Kind, SourceKey, is_known},
};

use crate::maps::{BUCKETS, CONTACTS, SOURCES};

/// Whether there are limits. Tests that send millions of packets from one port load the programs without.
#[unsafe(no_mangle)]
static LIMITED: u32 = 1;

/// A guest sends to an address that somebody has to be asked for, unless it did so a moment ago.
#[inline(always)]
pub(crate) fn contact(interface: u32, destination: Address, now: u64) -> Result<(), DropReason> {
    once(
        &CONTACTS,
        ContactKey { interface, destination },
        (interface, Kind::Contact),
        now,
    )
}

/// A frame comes from an Ethernet address that is not known to be a guest's.
#[inline(always)]
pub(crate) fn source(interface: u32, mac: Mac, now: u64) -> Result<(), DropReason> {
    let key = SourceKey {
        interface,
        mac,
        reserved: [0; 2],
    };
    once(&SOURCES, key, (interface, Kind::Source), now)
}

/// Takes a token for what is not known yet, and notes it.
#[inline(always)]
fn once<K>(known: &LruHashMap<K, u64>, key: K, (interface, kind): (u32, Kind), now: u64) -> Result<(), DropReason> {
    // SAFETY: no reference to the entry is kept.
    if unsafe { known.get(&key) }.is_some_and(|then| is_known(*then, now)) {
        return Ok(());
    }
    take(interface, kind, now)?;
    // If it fails, the next packet takes another token.
    let _ = known.insert(&key, now, u64::from(BPF_ANY));
    Ok(())
}

/// Takes a token of a port's bucket.
///
/// Not inlined, because it is seldom called and has a place of its own on the stack.
#[inline(never)]
pub(crate) fn take(interface: u32, kind: Kind, now: u64) -> Result<(), DropReason> {
    // SAFETY: the variable is initialized. The compiler must not take it for what it will hold.
    if unsafe { core::ptr::read_volatile(&raw const LIMITED) } == 0 {
        return Ok(());
    }
    let key = BucketKey {
        interface,
        kind: kind as u32,
    };
    // SAFETY: the entry is copied, because it may be reused for another key.
    let mut bucket = unsafe { BUCKETS.get(key) }.copied().unwrap_or(Bucket::default());
    if !bucket.take(kind, now) {
        return Err(DropReason::RateLimited);
    }
    let _ = BUCKETS.insert(key, bucket, u64::from(BPF_ANY));
    Ok(())
}

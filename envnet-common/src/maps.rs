//! Names and layouts of the BPF maps.
//!
//! The loader fills [`ENVIRONMENTS`], [`MAPPINGS`] and [`SETTINGS`]; the programs fill [`COUNTERS`] and [`DROPS`]. Every
//! type is `Pod` with no padding, because the kernel compares hash keys byte by byte.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac};

/// Hash map: interface index of `gwE` in its router namespace (`u32`, host order) → [`Environment`].
pub const ENVIRONMENTS: &str = "ENVIRONMENTS";
/// Hash map: [`MappingKey`] → [`Mapping`]; one entry per guest and one for the router itself.
pub const MAPPINGS: &str = "MAPPINGS";
/// Per-CPU hash map: [`MappingKey`] → [`Counters`]; the loader inserts the entry beside the mapping's.
pub const COUNTERS: &str = "COUNTERS";
/// Per-CPU hash map: [`DropKey`] → `u64` packets. The programs insert entries as drops happen.
pub const DROPS: &str = "DROPS";
/// Array of one [`Settings`].
pub const SETTINGS: &str = "SETTINGS";

/// Every map that is pinned, in no particular order.
pub const ALL: [&str; 5] = [ENVIRONMENTS, MAPPINGS, COUNTERS, DROPS, SETTINGS];

/// Version of the layouts in this module. It is part of the path the maps are pinned under, so that a program never
/// meets a map it does not understand; raise it with every change of a type here.
pub const LAYOUT_VERSION: u32 = 1;

/// What a program needs to know about the environment whose `gwE` it runs on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Environment {
    /// The environment's number E, in host order.
    pub number: u32,
    /// Network address of the internal prefix (10.0.0.0).
    pub internal: Address,
    /// Network address of the environment's external subnet (172.16.E.0).
    pub external: Address,
    /// Network mask of both (255.255.255.0): host bits are kept by the translation.
    pub mask: Address,
    /// Ethernet address of `gwE`, with which ARP for external addresses is answered.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl Environment {
    /// Whether `address` is in the internal prefix.
    #[must_use]
    #[inline(always)]
    pub fn is_internal(&self, address: Address) -> bool {
        address.network(self.mask) == self.internal
    }

    /// Whether `address` is in the environment's external subnet.
    #[must_use]
    #[inline(always)]
    pub fn is_external(&self, address: Address) -> bool {
        address.network(self.mask) == self.external
    }
}

/// Key of [`MAPPINGS`] and [`COUNTERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct MappingKey {
    /// The environment's number E, in host order.
    pub environment: u32,
    /// The internal address.
    pub internal: Address,
}

/// Value of [`MAPPINGS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    /// The external address.
    pub external: Address,
}

/// Value of [`COUNTERS`], one per CPU. Bytes are those of the whole frame, Ethernet header included.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Packets translated from external to internal.
    pub packets_in: u64,
    /// Bytes of those packets.
    pub bytes_in: u64,
    /// Packets translated from internal to external.
    pub packets_out: u64,
    /// Bytes of those packets.
    pub bytes_out: u64,
    /// When this mapping's internal address last sent something through the router, in nanoseconds of `CLOCK_MONOTONIC`
    /// (`bpf_ktime_get_ns`); 0 when never.
    pub last_seen: u64,
}

/// Key of [`DROPS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct DropKey {
    /// The environment's number E in host order, or 0 when the packet could not be attributed to one.
    pub environment: u32,
    /// The internal address of the mapping concerned, or [`Address::UNSPECIFIED`] when there is none.
    pub internal: Address,
    /// Number of the [`DropReason`](crate::DropReason), in host order.
    pub reason: u32,
}

/// Value of [`SETTINGS`]: what can be switched while packets flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// 0: the programs log nothing; 1: every drop; 2: every translation, too.
    pub log: u32,
}

const _: () = {
    assert!(size_of::<Environment>() == 24);
    assert!(size_of::<MappingKey>() == 8);
    assert!(size_of::<Mapping>() == 4);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<DropKey>() == 12);
};

/// What lets the loader read and write these types: aya's own marker for plain data.
#[cfg(feature = "aya")]
mod loader {
    use super::{Counters, DropKey, Environment, Mapping, MappingKey, Settings};

    macro_rules! pod {
        ($($name:ident)+) => {
            $(
                // SAFETY: bytemuck's `Pod`, derived with its checks for padding and invalid values, asks for all that
                // aya's does.
                unsafe impl aya::Pod for $name where $name: bytemuck::Pod {}
            )+
        };
    }

    pod!(Counters DropKey Environment Mapping MappingKey Settings);
}

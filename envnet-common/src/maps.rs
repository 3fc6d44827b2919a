//! Names and layouts of the BPF maps.
//!
//! The slow path has [`ENVIRONMENTS`], [`MAPPINGS`] and [`SETTINGS`], which the loader fills, and [`COUNTERS`] and [`DROPS`],
//! which the programs fill. The fast path adds [`UPLINK`], [`ROUTER_WANS`], [`PORTS`], [`TAPS`] and [`GUEST_MACS`]
//! from the loader, [`ENDPOINTS`] from the loader with a [`Location`] that the programs learn, and [`FDB`], [`NEXT_HOPS`], [`BUCKETS`],
//! [`CONTACTS`] and [`SOURCES`], which are only learned. Every type is `Pod` with no padding, because the kernel compares hash keys byte by byte.

use bytemuck::{Pod, Zeroable};

use crate::{Address, Mac, age::Age};

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

/// Array of one [`Uplink`].
pub const UPLINK: &str = "UPLINK";
/// Hash map: Ethernet address of a `gwE`, a router's WAN port ([`RouterWanKey`]) → environment number E (`u32`, host order).
pub const ROUTER_WANS: &str = "ROUTER_WANS";
/// Hash map: interface index of a port of some `brE` in the host (`u32`, host order) → [`Port`].
pub const PORTS: &str = "PORTS";
/// Device map of those ports that are taps, for XDP. The kernel removes an entry together with its interface.
pub const TAPS: &str = "TAPS";
/// Hash map: external address → [`Endpoint`]; one entry per mapping.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Hash map: [`FdbKey`] of a configured Ethernet address → internal address ([`Address`]) of the guest that it is promised to.
pub const GUEST_MACS: &str = "GUEST_MACS";
/// LRU hash map, the forwarding database: [`FdbKey`] → [`FdbEntry`].
pub const FDB: &str = "FDB";
/// LRU hash map: [`BucketKey`](crate::limit::BucketKey) → [`Bucket`](crate::limit::Bucket).
pub const BUCKETS: &str = "BUCKETS";
/// LRU hash map: [`ContactKey`](crate::limit::ContactKey) → when a token was taken for it, in nanoseconds of `CLOCK_MONOTONIC_COARSE`
/// (`u64`).
pub const CONTACTS: &str = "CONTACTS";
/// LRU hash map: [`SourceKey`](crate::limit::SourceKey) → the same (`u64`).
pub const SOURCES: &str = "SOURCES";
/// LRU hash map: address of a next hop on the uplink → [`NextHop`].
pub const NEXT_HOPS: &str = "NEXT_HOPS";

/// Every map that is pinned, in no particular order.
pub const ALL: [&str; 16] = [
    ENVIRONMENTS,
    MAPPINGS,
    COUNTERS,
    DROPS,
    SETTINGS,
    UPLINK,
    ROUTER_WANS,
    PORTS,
    TAPS,
    ENDPOINTS,
    GUEST_MACS,
    FDB,
    NEXT_HOPS,
    BUCKETS,
    CONTACTS,
    SOURCES,
];

/// Most entries of [`ENVIRONMENTS`] and [`ROUTER_WANS`].
pub const MAX_ENVIRONMENTS: u32 = 65_536;
/// Most entries of [`MAPPINGS`], [`COUNTERS`], [`ENDPOINTS`] and [`GUEST_MACS`].
pub const MAX_MAPPINGS: u32 = 262_144;
/// Most entries of [`PORTS`].
pub const MAX_PORTS: u32 = 262_144;
/// Most entries of [`TAPS`].
pub const MAX_TAPS: u32 = 65_536;

/// Version of the layouts in this module. It is part of the path the maps are pinned under, so that a program never
/// meets a map it does not understand; raise it with every change of a type here.
pub const LAYOUT_VERSION: u32 = 2;

/// The router's Ethernet address on the inside, the same in every environment of every host, so that the ARP cache of a
/// restored guest stays valid. Locally administered.
pub const ROUTER_INSIDE_MAC: Mac = Mac([0x02, 0x65, 0x6e, 0x76, 0x00, 0x01]);

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
    /// When this mapping's internal address last sent something out, in nanoseconds of `CLOCK_MONOTONIC_COARSE`; 0 when
    /// never.
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

/// Value of [`SETTINGS`]: options that can change while packets flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// 0: the programs log nothing; 1: every drop; 2: every translation, too.
    pub log: u32,
}

/// Value of [`UPLINK`]: the outside, which all environments share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Uplink {
    /// Its interface index in the host, in host order; 0 when there is no fast path.
    pub interface: u32,
    /// Its MTU in bytes, in host order; everything behind it has the same.
    pub mtu: u32,
    /// Network address of the pool of external addresses (172.16.0.0), all of which are on the uplink's link.
    pub pool: Address,
    /// The pool's network mask.
    pub mask: Address,
    /// Next hop towards every address outside the pool; [`Address::UNSPECIFIED`] when there is none.
    pub next_hop: Address,
    /// Its Ethernet address: the host's own.
    pub mac: Mac,
    /// 1 when guests and host must not reach each other.
    pub host_barred: u8,
    /// Explicit padding, zero.
    pub reserved: u8,
}

impl Uplink {
    /// Whether this is the Ethernet address of a host that guests must not reach, nor be reached by.
    #[must_use]
    #[inline(always)]
    pub fn bars(&self, mac: Mac) -> bool {
        self.host_barred != 0 && mac == self.mac
    }

    /// The next hop towards `destination`, the same as by the router's routes.
    #[must_use]
    #[inline(always)]
    pub fn next_hop_towards(&self, destination: Address) -> Option<Address> {
        if destination.network(self.mask) == self.pool {
            return Some(destination);
        }
        (self.next_hop != Address::UNSPECIFIED).then_some(self.next_hop)
    }
}

/// Key of [`ROUTER_WANS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct RouterWanKey {
    /// The Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl From<Mac> for RouterWanKey {
    #[inline(always)]
    fn from(mac: Mac) -> Self {
        Self { mac, reserved: [0; 2] }
    }
}

/// Value of [`PORTS`]: a port of an environment's bridge.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// The environment.
    pub environment: Environment,
    /// The only internal address that may send here; [`Address::UNSPECIFIED`] on a port that is not envnet's, which any
    /// guest of the environment may be behind.
    pub internal: Address,
    /// Index of the bridge's port towards the router, in host order.
    pub router: u32,
    /// Index of the interface that translated packets leave by, in host order.
    pub exit: u32,
    /// 1 when they enter there instead: it is a bridge's port, and the bridge then forwards them as if the router had sent
    /// them.
    pub exit_is_port: u32,
}

/// Value of [`ENDPOINTS`]: a mapping as the fast path sees it. The loader sets all but [`Endpoint::location`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// The environment.
    pub environment: Environment,
    /// The internal address.
    pub internal: Address,
    /// The guest's configured Ethernet address, or zero: then the guest may use any.
    pub mac: Mac,
    /// 1 when any guest of the environment may hold the address: the last to announce it has it.
    pub floating: u8,
    /// Explicit padding, zero.
    pub reserved: [u8; 5],
    /// Where the guest is. The programs learn it; the loader inserts zero, for unknown.
    pub location: Location,
}

/// Where a guest's last frame came from. Several CPUs may write it at the same time. A reader may then combine the old
/// address with the new interface, or the reverse, for one packet, which no guest accepts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Location {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
    /// The interface of its port, in host order; 0 for unknown.
    pub interface: u32,
    /// Number E of the environment that it was learned in, in host order.
    pub environment: u32,
    /// When the location was last confirmed and probed.
    pub age: Age,
    /// When traffic to the guest last confirmed a next hop, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub confirmed_hop: u64,
}

/// Key of [`FDB`] and [`GUEST_MACS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FdbKey {
    /// The environment's number E, in host order.
    pub environment: u32,
    /// The Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl FdbKey {
    /// The key of `mac` in environment E.
    #[must_use]
    #[inline(always)]
    pub const fn new(environment: u32, mac: Mac) -> Self {
        Self {
            environment,
            mac,
            reserved: [0; 2],
        }
    }
}

/// Value of [`FDB`]: which port an Ethernet address is behind, as in a bridge's forwarding database.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FdbEntry {
    /// Index of the port, in host order.
    pub interface: u32,
    /// Explicit padding, zero.
    pub reserved: u32,
    /// When a frame with this source was last noted, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub last_seen: u64,
}

/// Value of [`NEXT_HOPS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NextHop {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
    /// When it was last confirmed and probed.
    pub age: Age,
}

const _: () = {
    assert!(size_of::<Environment>() == 24);
    assert!(size_of::<Uplink>() == 28);
    assert!(size_of::<Port>() == 40);
    assert!(size_of::<Endpoint>() == 80);
    assert!(size_of::<FdbEntry>() == 16);
    assert!(size_of::<NextHop>() == 24);
    assert!(size_of::<MappingKey>() == 8);
    assert!(size_of::<Mapping>() == 4);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<DropKey>() == 12);
};

/// Lets the loader read and write these types: aya has its own marker for plain data.
#[cfg(feature = "aya")]
mod loader {
    use super::{
        Counters, DropKey, Endpoint, Environment, FdbEntry, FdbKey, Mapping, MappingKey, NextHop, Port, RouterWanKey,
        Settings, Uplink,
    };
    use crate::Address;

    macro_rules! pod {
        ($($name:ident)+) => {
            $(
                // SAFETY: bytemuck's `Pod`, derived with its checks for padding and invalid values, asks for all that
                // aya's does.
                unsafe impl aya::Pod for $name where $name: bytemuck::Pod {}
            )+
        };
    }

    pod!(
        Address Counters DropKey Endpoint Environment RouterWanKey Mapping MappingKey NextHop Port Settings FdbEntry FdbKey
        Uplink
    );
}

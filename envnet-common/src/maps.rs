//! Names and layouts of the BPF maps.
//!
//! The slow path has [`ENVIRONMENTS`], [`MAPPINGS`] and [`SETTINGS`], which the loader fills, and [`COUNTERS`] and [`DROPS`],
//! which the programs fill. The fast path adds [`UPLINK`], [`GATEWAYS`], [`PORTS`] and [`TAPS`] from the loader,
//! [`ENDPOINTS`] from the loader with a place in it for what the programs learn, and [`STATIONS`] and [`NEXT_HOPS`],
//! which are only learned. Every type is `Pod` with no padding, because the kernel compares hash keys byte by byte.

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
/// Hash map: Ethernet address of a `gwE` ([`GatewayKey`]) → environment number E (`u32`, host order).
pub const GATEWAYS: &str = "GATEWAYS";
/// Hash map: interface index of a port of some `brE` in the host (`u32`, host order) → [`Port`].
pub const PORTS: &str = "PORTS";
/// Device map of those of them that are taps, for XDP: an entry goes with its interface.
pub const TAPS: &str = "TAPS";
/// Hash map: external address → [`Endpoint`]; one entry per mapping.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// LRU hash map: [`StationKey`] → [`Station`].
pub const STATIONS: &str = "STATIONS";
/// LRU hash map: address of a next hop on the uplink → [`NextHop`].
pub const NEXT_HOPS: &str = "NEXT_HOPS";

/// Every map that is pinned, in no particular order.
pub const ALL: [&str; 12] = [
    ENVIRONMENTS,
    MAPPINGS,
    COUNTERS,
    DROPS,
    SETTINGS,
    UPLINK,
    GATEWAYS,
    PORTS,
    TAPS,
    ENDPOINTS,
    STATIONS,
    NEXT_HOPS,
];

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

/// Value of [`SETTINGS`]: what can be switched while packets flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// 0: the programs log nothing; 1: every drop; 2: every translation, too.
    pub log: u32,
}

/// Value of [`UPLINK`]: what environments have in common outside.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Uplink {
    /// Its interface index in the host, in host order.
    pub interface: u32,
    /// Its MTU in bytes, in host order; everything behind it has the same.
    pub mtu: u32,
    /// Network address of the pool of external addresses (172.16.0.0), all of which are on the uplink's link.
    pub pool: Address,
    /// The pool's network mask.
    pub mask: Address,
    /// Next hop of everything else; [`Address::UNSPECIFIED`] when there is none.
    pub gateway: Address,
    /// Its Ethernet address: the host's own.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl Uplink {
    /// The next hop towards `destination`, which is what the router's routes say, too.
    #[must_use]
    #[inline(always)]
    pub fn next_hop(&self, destination: Address) -> Option<Address> {
        if destination.network(self.mask) == self.pool {
            return Some(destination);
        }
        (self.gateway != Address::UNSPECIFIED).then_some(self.gateway)
    }
}

/// Key of [`GATEWAYS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct GatewayKey {
    /// The Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl From<Mac> for GatewayKey {
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
    /// The only internal address that may send here; [`Address::UNSPECIFIED`] on a port that somebody else has plugged
    /// in, where any guest of the environment may be.
    pub internal: Address,
    /// Index of the bridge's port towards the router, in host order.
    pub router: u32,
    /// Index of the interface that translated packets leave by, in host order.
    pub exit: u32,
    /// 1 when they enter there instead: the port of a bridge, which then switches them as if the router had sent them.
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
    /// The guest's configured Ethernet address, or zero: then it is whatever the guest says.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 6],
    /// Where the guest is. The programs learn it; the loader starts with zero, for unknown.
    pub location: Location,
}

/// Where a guest was last heard. Several CPUs may write one at the same time: a reader may then see an address of before with
/// an interface of after, or the reverse, for one packet, which nobody takes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Location {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
    /// The interface of its port, in host order; 0 for unknown.
    pub interface: u32,
    /// Number E of the environment it was heard in, in host order.
    pub environment: u32,
    /// When the guest was last heard there, and what came of asking since.
    pub age: Age,
    /// When its traffic last confirmed a next hop, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub confirmed_hop: u64,
}

/// Key of [`STATIONS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct StationKey {
    /// The environment's number E, in host order.
    pub environment: u32,
    /// The station's Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
}

impl StationKey {
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

/// Value of [`STATIONS`]: which port an Ethernet address is behind, as a bridge would know.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Station {
    /// Index of the port, in host order.
    pub interface: u32,
    /// Explicit padding, zero.
    pub reserved: u32,
    /// When it last sent something, in nanoseconds of `CLOCK_MONOTONIC_COARSE`.
    pub heard: u64,
}

/// Value of [`NEXT_HOPS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NextHop {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Explicit padding, zero.
    pub reserved: [u8; 2],
    /// When it was last heard, and what came of asking since.
    pub age: Age,
}

const _: () = {
    assert!(size_of::<Environment>() == 24);
    assert!(size_of::<Uplink>() == 28);
    assert!(size_of::<Port>() == 40);
    assert!(size_of::<Endpoint>() == 80);
    assert!(size_of::<Station>() == 16);
    assert!(size_of::<NextHop>() == 24);
    assert!(size_of::<MappingKey>() == 8);
    assert!(size_of::<Mapping>() == 4);
    assert!(size_of::<Counters>() == 40);
    assert!(size_of::<DropKey>() == 12);
};

/// What lets the loader read and write these types: aya's own marker for plain data.
#[cfg(feature = "aya")]
mod loader {
    use super::{
        Counters, DropKey, Endpoint, Environment, GatewayKey, Mapping, MappingKey, NextHop, Port, Settings, Station,
        StationKey, Uplink,
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
        Address Counters DropKey Endpoint Environment GatewayKey Mapping MappingKey NextHop Port Settings Station StationKey
        Uplink
    );
}

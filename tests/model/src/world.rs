//! One environment as the outside sees it: prefixes, the router's Ethernet address, and a table of mappings; and the host
//! that has two of them.

use std::net::Ipv4Addr;

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The first address.
    pub network: Ipv4Addr,
    /// How many leading bits are fixed.
    pub length: u32,
}

impl Prefix {
    /// Whether the prefix has this address.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let host_bits = 32 - self.length;
        u64::from(address.to_bits()) >> host_bits == u64::from(self.network.to_bits()) >> host_bits
    }

    /// A one for every fixed bit.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - self.length).unwrap_or(0))
    }

    /// How many addresses there are.
    #[must_use]
    pub fn size(self) -> u64 {
        1 << (32 - self.length)
    }

    /// The address with this host part.
    #[must_use]
    pub fn nth(self, at: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits().wrapping_add(at))
    }
}

/// An internal address and the external one that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The environment this is true in.
    pub environment: u32,
    /// What the guest calls itself.
    pub internal: Ipv4Addr,
    /// What the outside calls it.
    pub external: Ipv4Addr,
    /// The Ethernet address of the guest; the router is no guest.
    pub guest_mac: Option<[u8; 6]>,
}

/// The environment whose `gwE` is looked at, and the mappings of all environments.
#[derive(Clone, Debug)]
pub struct World {
    /// What people call this world.
    pub name: &'static str,
    /// The environment's number.
    pub environment: u32,
    /// The guests' prefix.
    pub internal: Prefix,
    /// The environment's external subnet.
    pub external: Prefix,
    /// Ethernet address of `gwE`.
    pub router_wan: [u8; 6],
    /// Everybody's mappings.
    pub mappings: Vec<Mapping>,
}

/// What the fast path knows: it runs where all environments meet.
#[derive(Clone, Debug)]
pub struct Host {
    /// The environment at whose port or router a frame is seen, and another one.
    pub environments: [World; 2],
    /// Ethernet address of every router, on the inside.
    pub router_inside: [u8; 6],
    /// The addresses on the uplink's own link.
    pub link: Prefix,
    /// Where the routers send what is for nobody on that link.
    pub next_hop: Ipv4Addr,
    /// Its Ethernet address.
    pub next_hop_mac: [u8; 6],
}

impl Host {
    /// The environment at whose port or router a frame is seen.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.environments[0]
    }
}

impl World {
    /// This environment's own mappings.
    pub fn own(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings
            .iter()
            .filter(|mapping| mapping.environment == self.environment)
    }

    /// The mapping with this external address.
    #[must_use]
    pub fn by_external(&self, external: Ipv4Addr) -> Option<&Mapping> {
        self.own().find(|mapping| mapping.external == external)
    }

    /// The mapping with this internal address.
    #[must_use]
    pub fn by_internal(&self, internal: Ipv4Addr) -> Option<&Mapping> {
        self.own().find(|mapping| mapping.internal == internal)
    }

    /// Who has this external address.
    #[must_use]
    pub fn internal_of(&self, external: Ipv4Addr) -> Option<Ipv4Addr> {
        self.by_external(external).map(|mapping| mapping.internal)
    }

    /// What the outside calls this guest.
    #[must_use]
    pub fn external_of(&self, internal: Ipv4Addr) -> Option<Ipv4Addr> {
        self.by_internal(internal).map(|mapping| mapping.external)
    }
}

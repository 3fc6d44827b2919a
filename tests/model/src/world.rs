//! One environment as the outside sees it: prefixes, the router's Ethernet address, and a table of mappings.

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

    /// How many addresses there are.
    #[must_use]
    pub fn size(self) -> u64 {
        1 << (32 - self.length)
    }

    /// The address at this place in the prefix.
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

impl World {
    /// This environment's own mappings.
    pub fn own(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings
            .iter()
            .filter(|mapping| mapping.environment == self.environment)
    }

    /// Who has this external address.
    #[must_use]
    pub fn internal_of(&self, external: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut own = self.own();
        own.find(|mapping| mapping.external == external)
            .map(|mapping| mapping.internal)
    }

    /// What the outside calls this guest.
    #[must_use]
    pub fn external_of(&self, internal: Ipv4Addr) -> Option<Ipv4Addr> {
        let mut own = self.own();
        own.find(|mapping| mapping.internal == internal)
            .map(|mapping| mapping.external)
    }
}

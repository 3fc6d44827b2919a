//! The laboratory's addresses, and the machines that have them.

use std::net::Ipv4Addr;

/// Length of the internal prefix.
pub const INTERNAL_PREFIX: u8 = 24;
/// Network address of the internal prefix.
pub const INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
/// The router's internal address.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The upstream router's address: the outside is the next hop of envnet's routers.
pub const UPSTREAM: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
/// An address further outside, reached through the upstream router only.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The prefix that environments have their external addresses from.
pub const EXTERNAL: &str = "172.16.0.0/16";
/// The highest number of environments the external prefix has room for.
pub const MOST_ENVIRONMENTS: u8 = 255;

/// One machine of the set that every environment has a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: &'static str,
    /// The last byte of its addresses.
    pub number: u8,
    /// Its Ethernet address.
    pub mac: &'static str,
}

/// The set.
pub const ROLES: [Role; 2] = [
    Role {
        name: "dc",
        number: 2,
        mac: "52:54:00:00:00:02",
    },
    Role {
        name: "member",
        number: 3,
        mac: "52:54:00:00:00:03",
    },
];

impl Role {
    /// The address the guest knows.
    #[must_use]
    pub fn internal(&self) -> Ipv4Addr {
        internal(self.number)
    }

    /// The address the outside uses.
    #[must_use]
    pub fn external(&self, environment: u8) -> Ipv4Addr {
        external(environment, self.number)
    }

    /// The tap in the host's namespace.
    #[must_use]
    pub fn tap(&self, environment: u8) -> String {
        format!("vm{environment}.{}", self.number)
    }

    /// The other machine of the set.
    #[must_use]
    pub fn sibling(&self) -> Self {
        let [first, second] = ROLES;
        if *self == first { second } else { first }
    }
}

/// The internal address of machine `number`.
#[must_use]
pub fn internal(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// The external address of machine `number` in an environment.
#[must_use]
pub fn external(environment: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, environment, number)
}

//! The environments that packets are made for: the usual one, and address plans whose arithmetic is odd.

use std::{net::Ipv4Addr, sync::LazyLock};

use envnet_model::{Mapping, Prefix, World};

struct Plan {
    name: &'static str,
    environment: u32,
    internal: [u8; 4],
    external: [u8; 4],
    length: u32,
    /// Where in the prefix the router and the guests are.
    mapped: &'static [u32],
}

const PLANS: [Plan; 8] = [
    plan("usual", 1, [10, 0, 0, 0], [172, 16, 1, 0], 24, &[1, 2, 3]),
    plan("late", 255, [10, 0, 0, 0], [172, 16, 255, 0], 24, &[1, 2, 128, 254]),
    plan(
        "wide",
        3,
        [192, 168, 0, 0],
        [172, 19, 0, 0],
        16,
        &[1, 2, 255, 256, 0xfffe],
    ),
    plan("narrow", 7, [10, 1, 2, 248], [100, 64, 0, 28], 30, &[1, 2]),
    plan(
        "between bytes",
        9,
        [10, 0, 2, 0],
        [172, 16, 18, 0],
        23,
        &[1, 2, 255, 256, 510],
    ),
    // The difference between the prefixes is zero in one's complement: no checksum changes (the idea of RFC 6296).
    plan("neutral", 2, [10, 0, 0, 0], [8, 0, 2, 0], 24, &[1, 2, 3]),
    // Prefixes side by side: one bit tells internal from external.
    plan("neighbours", 0, [10, 0, 0, 0], [10, 0, 1, 0], 24, &[1, 2, 3, 255]),
    // As many one bits as unicast addresses can have.
    plan(
        "ones",
        65_535,
        [10, 255, 255, 0],
        [223, 255, 255, 0],
        24,
        &[1, 2, 254, 255],
    ),
];

/// Every world; the first is the one of the packet rows.
pub static WORLDS: LazyLock<Vec<World>> = LazyLock::new(|| PLANS.iter().map(Plan::world).collect());

/// The world of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static World> {
    WORLDS.iter().find(|world| world.name == name)
}

const fn plan(
    name: &'static str,
    environment: u32,
    internal: [u8; 4],
    external: [u8; 4],
    length: u32,
    mapped: &'static [u32],
) -> Plan {
    Plan {
        name,
        environment,
        internal,
        external,
        length,
        mapped,
    }
}

/// Where every world's other environment has its external addresses.
const ELSEWHERE: [u8; 4] = [172, 30, 0, 0];

/// The world as the other environment's router sees it.
#[must_use]
pub fn elsewhere(world: &World) -> World {
    World {
        environment: world.environment + 1,
        external: Prefix {
            network: ELSEWHERE.into(),
            ..world.external
        },
        router_wan: [0xfe, 0, 0, 0, 0, 2],
        ..world.clone()
    }
}

impl Plan {
    fn world(&self) -> World {
        let prefix = |network: [u8; 4]| Prefix {
            network: Ipv4Addr::from(network),
            length: self.length,
        };
        let (internal, external) = (prefix(self.internal), prefix(self.external));
        // Another environment, with the same internal addresses and one that is mapped there only.
        let elsewhere = prefix(ELSEWHERE);
        let only_there = u32::try_from(internal.size() / 2 + 1).unwrap_or(0);
        let of = |environment, at, external: Prefix| Mapping {
            environment,
            internal: internal.nth(at),
            external: external.nth(at),
        };
        let own = self.mapped.iter().map(|&at| of(self.environment, at, external));
        let others = self.mapped.iter().copied().chain([only_there]);
        World {
            name: self.name,
            environment: self.environment,
            internal,
            external,
            router_wan: [0xfe, 0, 0, 0, 0, 1],
            mappings: own
                .chain(others.map(|at| of(self.environment + 1, at, elsewhere)))
                .collect(),
        }
    }
}

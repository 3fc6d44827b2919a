//! The environments that packets are made for: the usual one, and address plans whose arithmetic is odd.

use std::{net::Ipv4Addr, sync::LazyLock};

use envnet_common::maps::ROUTER_INSIDE_MAC;
use envnet_model::{Host, Mapping, Prefix, World};

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

/// A host with every plan; the first is like the one of the packet rows.
pub static HOSTS: LazyLock<Vec<Host>> = LazyLock::new(|| PLANS.iter().map(|plan| host(plan.world())).collect());

/// The host whose world has that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Host> {
    HOSTS.iter().find(|host| host.world().name == name)
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

/// A host with the world and the other environment. No packet is made with an address of its link.
fn host(world: World) -> Host {
    let elsewhere = World {
        environment: world.environment + 1,
        external: Prefix {
            network: ELSEWHERE.into(),
            ..world.external
        },
        router_wan: [0xfe, 0, 0, 0, 0, 2],
        ..world.clone()
    };
    Host {
        environments: [world, elsewhere],
        router_inside: ROUTER_INSIDE_MAC.0,
        link: Prefix {
            network: Ipv4Addr::new(192, 0, 2, 0),
            length: 24,
        },
        next_hop: Ipv4Addr::new(192, 0, 2, 1),
        next_hop_mac: [2, 0, 0, 0, 0, 0xee],
    }
}

/// The Ethernet address of whoever has this internal address.
#[must_use]
pub fn guest_mac(internal: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = internal.octets();
    [2, a, b, c, d, 0]
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
            guest_mac: Some(guest_mac(internal.nth(at))),
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

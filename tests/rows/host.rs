//! The host that the fast path's programs run in: an uplink, two guests and one of another environment, all of them on the
//! one interface that there is, and all that can be known of them.

use std::{fs::File, net::Ipv4Addr, sync::LazyLock, thread};

use aya::maps::Array;
use envnet_common::{
    Address, Mac,
    age::Age,
    maps::{Endpoint, FdbEntry, FdbKey, NextHop, Port, ROUTER_INSIDE_MAC, Settings, Uplink},
};
use envnet_fuzz::{harness::LOOPBACK, host};
use envnet_model::{Host, Mapping, Prefix, World};
use nix::{
    sched::{CloneFlags, setns, unshare},
    time::{ClockId, clock_gettime},
};

use crate::{
    harness::Harness,
    names::{
        ELSEWHERE, ENVIRONMENT, EXTERNAL, GUEST, GUEST_MAC, GUEST_OUTSIDE, HOST, INTERNAL, NEIGHBOUR, NEXT_HOP,
        OTHER_ENVIRONMENT, OTHER_EXTERNAL, OTHER_ROUTER_WAN, POOL, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN, SIBLING,
        SIBLING_MAC, SIBLING_OUTSIDE, STRANGER, STRANGER_MAC,
    },
};

/// An interface that does not exist.
pub(crate) const NOWHERE: u32 = 0x7fff_fff0;

/// Which guest the port belongs to that a frame comes in by; none when somebody else has plugged it in.
pub(crate) type Owner = Option<Ipv4Addr>;

/// Network namespaces take long to remove, so all tests share this one. It has no name, and goes with the process.
static NAMESPACE: LazyLock<File> = LazyLock::new(|| {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("cannot make a network namespace: these tests need root");
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::spawn(make).join().unwrap()
});

/// Takes the thread away from the machine's own interfaces: a program that clones a frame really sends it.
pub(crate) fn enter() {
    setns(&*NAMESPACE, CloneFlags::CLONE_NEWNET).unwrap();
}

/// Gives the thread a network namespace of its own, in which it may change things.
pub(crate) fn enter_another() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
}

/// The programs' clock, in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

/// Everything that can be known.
pub(crate) static KNOWN: LazyLock<Host> = LazyLock::new(|| {
    let prefix = |network, length| Prefix { network, length };
    let mapping = |environment, internal, external, guest_mac| Mapping {
        environment,
        internal,
        external,
        guest_mac,
    };
    let world = World {
        name: "rows",
        environment: ENVIRONMENT,
        internal: prefix(INTERNAL, 24),
        external: prefix(EXTERNAL, 24),
        router_wan: ROUTER_WAN,
        mappings: vec![
            mapping(ENVIRONMENT, ROUTER, ROUTER_OUTSIDE, None),
            mapping(ENVIRONMENT, GUEST, GUEST_OUTSIDE, Some(GUEST_MAC)),
            mapping(ENVIRONMENT, SIBLING, SIBLING_OUTSIDE, Some(SIBLING_MAC)),
            mapping(OTHER_ENVIRONMENT, STRANGER, ELSEWHERE, Some(STRANGER_MAC)),
        ],
    };
    let other = World {
        environment: OTHER_ENVIRONMENT,
        external: prefix(OTHER_EXTERNAL, 24),
        router_wan: OTHER_ROUTER_WAN,
        ..world.clone()
    };
    Host {
        environments: [world, other],
        router_inside: ROUTER_INSIDE_MAC.0,
        link: prefix(POOL, 16),
        next_hop: NEXT_HOP,
        next_hop_mac: NEIGHBOUR,
    }
});

/// The endpoint with this external address, as it is known.
pub(crate) fn endpoint(external: Ipv4Addr) -> Endpoint {
    let mut known = KNOWN.environments.iter();
    let found = known.find_map(|world| Some(host::endpoint(world, world.by_external(external)?)));
    found.unwrap()
}

pub(crate) fn port(owner: Owner) -> Port {
    host::port(KNOWN.world(), owner)
}

pub(crate) fn uplink() -> Uplink {
    Uplink {
        mac: Mac(HOST),
        ..host::uplink(&KNOWN)
    }
}

impl Harness {
    /// Makes everything known and fresh, and forgets what rows have taught.
    pub(crate) fn learn(&mut self, owner: Owner) {
        host::learn(self.object(), Some(&KNOWN), owner).unwrap();
        self.set_uplink(&uplink());
    }

    pub(crate) fn set_port(&mut self, port: &Port) {
        self.hash_map("PORTS").insert(LOOPBACK, *port, 0).unwrap();
    }

    pub(crate) fn set_uplink(&mut self, uplink: &Uplink) {
        let mut map: Array<_, Uplink> = self.map("UPLINK").try_into().unwrap();
        map.set(0, *uplink, 0).unwrap();
    }

    pub(crate) fn set_log(&mut self, log: u32) {
        let mut map: Array<_, Settings> = self.map("SETTINGS").try_into().unwrap();
        map.set(0, Settings { log }, 0).unwrap();
    }

    pub(crate) fn set_endpoint(&mut self, external: Ipv4Addr, endpoint: &Endpoint) {
        let key = Address::from(external);
        self.hash_map("ENDPOINTS").insert(key, *endpoint, 0).unwrap();
    }

    pub(crate) fn endpoint(&mut self, external: Ipv4Addr) -> Endpoint {
        self.hash_map("ENDPOINTS").get(&Address::from(external), 0).unwrap()
    }

    pub(crate) fn set_next_hop(&mut self, hop: Ipv4Addr, mac: [u8; 6], age: Age) {
        let value = host::next_hop(mac, age);
        self.hash_map("NEXT_HOPS").insert(Address::from(hop), value, 0).unwrap();
    }

    pub(crate) fn next_hop(&mut self, hop: Ipv4Addr) -> Option<NextHop> {
        self.hash_map("NEXT_HOPS").get(&Address::from(hop), 0).ok()
    }

    pub(crate) fn set_fdb_entry(&mut self, environment: u32, mac: [u8; 6], interface: u32, last_seen: u64) {
        let entry = FdbEntry {
            interface,
            reserved: 0,
            last_seen,
        };
        let key = FdbKey::new(environment, Mac(mac));
        self.hash_map("FDB").insert(key, entry, 0).unwrap();
    }

    /// Promises an Ethernet address to a guest.
    pub(crate) fn promise(&mut self, environment: u32, mac: [u8; 6], guest: Ipv4Addr) {
        let key = FdbKey::new(environment, Mac(mac));
        self.hash_map("GUEST_MACS")
            .insert(key, Address::from(guest), 0)
            .unwrap();
    }

    pub(crate) fn fdb_entry(&mut self, environment: u32, mac: [u8; 6]) -> Option<FdbEntry> {
        let key = FdbKey::new(environment, Mac(mac));
        self.hash_map("FDB").get(&key, 0).ok()
    }
}

//! The host that the fast path's programs run in: an uplink, two guests and one of another environment, all of them on the
//! one interface that there is, and all that can be known of them.

use std::{fs::File, net::Ipv4Addr, sync::LazyLock, thread};

use aya::maps::{Array, DevMapHash};
use envnet_common::{
    Address, Mac,
    age::Age,
    maps::{
        Endpoint, Environment, FdbEntry, FdbKey, Location, NextHop, Port, ROUTER_INSIDE_MAC, RouterWanKey, Settings,
        Uplink,
    },
};
use envnet_fuzz::harness::LOOPBACK;
use nix::{
    sched::{CloneFlags, setns, unshare},
    time::{ClockId, clock_gettime},
};

use crate::{
    harness::Harness,
    names::{
        ELSEWHERE, ENVIRONMENT, EXTERNAL, GUEST, GUEST_MAC, GUEST_OUTSIDE, HOST, INTERNAL, MASK, NEIGHBOUR, NEXT_HOP,
        OTHER_ENVIRONMENT, OTHER_EXTERNAL, OTHER_ROUTER_WAN, POOL, POOL_MASK, ROUTER, ROUTER_OUTSIDE, ROUTER_WAN,
        SIBLING, SIBLING_MAC, SIBLING_OUTSIDE, STRANGER, STRANGER_MAC,
    },
};

/// An interface that does not exist.
pub(crate) const NOWHERE: u32 = 0x7fff_fff0;
/// Longer than any frame in the rows.
const MTU: u32 = 9000;

/// Heard in the future, and so for a long time.
const FRESH: Age = Age {
    confirmed: u64::MAX / 2,
    probed: 0,
};

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

pub(crate) fn environment(number: u32) -> Environment {
    let (external, mac) = match number {
        OTHER_ENVIRONMENT => (OTHER_EXTERNAL, OTHER_ROUTER_WAN),
        _ => (EXTERNAL, ROUTER_WAN),
    };
    Environment {
        number,
        internal: INTERNAL.into(),
        external: external.into(),
        mask: MASK.into(),
        mac: Mac(mac),
        reserved: [0; 2],
    }
}

/// A guest whose Ethernet address was heard on the one interface.
pub(crate) fn endpoint(number: u32, internal: Ipv4Addr, mac: [u8; 6]) -> Endpoint {
    Endpoint {
        environment: environment(number),
        internal: internal.into(),
        mac: Mac::default(),
        reserved: [0; 6],
        location: Location {
            mac: Mac(mac),
            interface: LOOPBACK,
            environment: number,
            age: FRESH,
            ..Location::default()
        },
    }
}

pub(crate) fn port(owner: Owner) -> Port {
    Port {
        environment: environment(ENVIRONMENT),
        internal: owner.map_or(Address::UNSPECIFIED, Into::into),
        router: LOOPBACK,
        exit: LOOPBACK,
        exit_is_port: 0,
    }
}

pub(crate) fn uplink() -> Uplink {
    Uplink {
        interface: LOOPBACK,
        mtu: MTU,
        pool: POOL.into(),
        mask: POOL_MASK.into(),
        next_hop: NEXT_HOP.into(),
        mac: Mac(HOST),
        reserved: [0; 2],
    }
}

impl Harness {
    /// Makes everything known and fresh, and forgets what rows have taught.
    pub(crate) fn learn(&mut self, owner: Owner) {
        self.set_port(&port(owner));
        self.set_uplink(&uplink());
        let mut taps: DevMapHash<_> = self.map("TAPS").try_into().unwrap();
        taps.insert(LOOPBACK, LOOPBACK, None, 0).unwrap();
        for (mac, number) in [(ROUTER_WAN, ENVIRONMENT), (OTHER_ROUTER_WAN, OTHER_ENVIRONMENT)] {
            self.hash_map("ROUTER_WANS")
                .insert(RouterWanKey::from(Mac(mac)), number, 0)
                .unwrap();
        }
        let router = Endpoint {
            mac: ROUTER_INSIDE_MAC,
            location: Location::default(),
            ..endpoint(ENVIRONMENT, ROUTER, [0; 6])
        };
        for (external, endpoint) in [
            (ROUTER_OUTSIDE, router),
            (GUEST_OUTSIDE, endpoint(ENVIRONMENT, GUEST, GUEST_MAC)),
            (SIBLING_OUTSIDE, endpoint(ENVIRONMENT, SIBLING, SIBLING_MAC)),
            (ELSEWHERE, endpoint(OTHER_ENVIRONMENT, STRANGER, STRANGER_MAC)),
        ] {
            self.set_endpoint(external, &endpoint);
        }
        self.forget::<FdbKey, FdbEntry>("FDB");
        self.forget::<Address, NextHop>("NEXT_HOPS");
        self.set_next_hop(NEXT_HOP, NEIGHBOUR, FRESH);
    }

    fn forget<K: aya::Pod, V: aya::Pod>(&mut self, name: &str) {
        let mut map = self.hash_map::<K, V>(name);
        let keys: Vec<K> = map.keys().map(Result::unwrap).collect();
        for key in keys {
            map.remove(&key).unwrap();
        }
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
        let value = NextHop {
            mac: Mac(mac),
            reserved: [0; 2],
            age,
        };
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

    pub(crate) fn fdb_entry(&mut self, environment: u32, mac: [u8; 6]) -> Option<FdbEntry> {
        let key = FdbKey::new(environment, Mac(mac));
        self.hash_map("FDB").get(&key, 0).ok()
    }
}

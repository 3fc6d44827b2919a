//! The fast path's maps, filled as if everything was known: every guest was just heard, all on the loopback interface, and
//! one next hop leads everywhere.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, DevMapHash, HashMap, MapData},
};
use envnet_common::{
    Address, Mac,
    age::Age,
    maps::{
        ENDPOINTS, Endpoint, Location, NEXT_HOPS, NextHop, PORTS, Port, ROUTER_WANS, RouterWanKey, TAPS, UPLINK, Uplink,
    },
};
use envnet_model::World;

use crate::{harness::LOOPBACK, pure, worlds};

/// The Ethernet address of the one next hop.
pub(crate) const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
/// Its address, and the rest of its link: no packet is made with one of these.
const NEXT_HOP: Address = Address([192, 0, 2, 1]);
const LINK: Address = Address([192, 0, 2, 0]);
const LINK_MASK: Address = Address([255, 255, 255, 0]);
/// Longer than any frame.
const MTU: u32 = 9000;
/// Heard in the future, and so for a long time.
const FRESH: Age = Age {
    confirmed: u64::MAX / 2,
    probed: 0,
};

/// The Ethernet address of the guest with this internal address.
pub(crate) fn guest_mac(internal: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = internal.octets();
    [2, a, b, c, d, 0]
}

/// The maps that only the fast path has.
pub(crate) struct Host {
    ports: HashMap<MapData, u32, Port>,
    router_wans: HashMap<MapData, RouterWanKey, u32>,
    endpoints: HashMap<MapData, Address, Endpoint>,
    next_hops: HashMap<MapData, Address, NextHop>,
    uplink: Array<MapData, Uplink>,
    taps: DevMapHash<MapData>,
    /// What was learned when the world was entered.
    known: Vec<(Address, Endpoint)>,
}

impl Host {
    pub(crate) fn take(programs: &mut Ebpf) -> Result<Self> {
        let mut take = |name: &str| programs.take_map(name).with_context(|| format!("no map {name}"));
        Ok(Self {
            ports: HashMap::try_from(take(PORTS)?)?,
            router_wans: HashMap::try_from(take(ROUTER_WANS)?)?,
            endpoints: HashMap::try_from(take(ENDPOINTS)?)?,
            next_hops: HashMap::try_from(take(NEXT_HOPS)?)?,
            uplink: Array::try_from(take(UPLINK)?)?,
            taps: DevMapHash::try_from(take(TAPS)?)?,
            known: Vec::new(),
        })
    }

    /// Replaces everything: `world` and its other environment, or nothing.
    pub(crate) fn enter(&mut self, world: Option<&World>) -> Result<()> {
        for (external, _) in self.known.drain(..) {
            self.endpoints.remove(&external)?;
        }
        let Some(world) = world else {
            if self.ports.get(&LOOPBACK, 0).is_ok() {
                self.ports.remove(&LOOPBACK)?;
            }
            return Ok(());
        };
        let worlds = [world.clone(), worlds::elsewhere(world)];
        for world in &worlds {
            let router_wan = RouterWanKey::from(Mac(world.router_wan));
            self.router_wans.insert(router_wan, world.environment, 0)?;
            self.known.extend(world.own().map(|mapping| {
                let endpoint = Endpoint {
                    environment: pure::environment(world),
                    internal: mapping.internal.into(),
                    mac: Mac::default(),
                    reserved: [0; 6],
                    location: Location {
                        mac: Mac(guest_mac(mapping.internal)),
                        interface: LOOPBACK,
                        environment: world.environment,
                        age: FRESH,
                        ..Location::default()
                    },
                };
                (mapping.external.into(), endpoint)
            }));
        }
        let port = Port {
            environment: pure::environment(world),
            internal: Address::UNSPECIFIED,
            router: LOOPBACK,
            exit: LOOPBACK,
            exit_is_port: 0,
        };
        self.ports.insert(LOOPBACK, port, 0)?;
        let uplink = Uplink {
            interface: LOOPBACK,
            mtu: MTU,
            pool: LINK,
            mask: LINK_MASK,
            next_hop: NEXT_HOP,
            ..Uplink::default()
        };
        self.uplink.set(0, uplink, 0)?;
        self.taps.insert(LOOPBACK, LOOPBACK, None, 0)?;
        self.refresh()
    }

    /// Makes everything known again, however long ago it was heard.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        for (external, endpoint) in &self.known {
            self.endpoints.insert(external, endpoint, 0)?;
        }
        let hop = NextHop {
            mac: Mac(NEXT_HOP_MAC),
            reserved: [0; 2],
            age: FRESH,
        };
        Ok(self.next_hops.insert(NEXT_HOP, hop, 0)?)
    }
}

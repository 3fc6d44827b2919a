//! The fast path's maps, filled as if everything was known: every guest was just heard, all on the loopback interface, and
//! so was the next hop. For the rows and for the fuzzer.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, DevMapHash, HashMap, Map},
};
use envnet_common::{
    Address, Mac,
    age::Age,
    maps::{
        ENDPOINTS, Endpoint, FDB, FdbEntry, FdbKey, Location, NEXT_HOPS, NextHop, PORTS, Port, ROUTER_INSIDE_MAC,
        ROUTER_WANS, RouterWanKey, TAPS, UPLINK, Uplink,
    },
};
use envnet_model::{Host, Mapping, World};

use crate::{harness::LOOPBACK, pure};

/// Longer than any frame.
const MTU: u32 = 9000;
/// Heard in the future, and so for a long time.
pub const FRESH: Age = Age {
    confirmed: u64::MAX / 2,
    probed: 0,
};

/// A guest that was heard, or the router, which nobody hears on a port.
#[must_use]
pub fn endpoint(world: &World, mapping: &Mapping) -> Endpoint {
    let location = mapping.guest_mac.map(|mac| Location {
        mac: Mac(mac),
        interface: LOOPBACK,
        environment: world.environment,
        age: FRESH,
        ..Location::default()
    });
    Endpoint {
        environment: pure::environment(world),
        internal: mapping.internal.into(),
        // A guest may have any Ethernet address.
        mac: location.map_or(ROUTER_INSIDE_MAC, |_| Mac::default()),
        floating: 0,
        reserved: [0; 5],
        location: location.unwrap_or_default(),
    }
}

/// A port of the environment's bridge: a guest's own, or one where any of them may be.
#[must_use]
pub fn port(world: &World, owner: Option<Ipv4Addr>) -> Port {
    Port {
        environment: pure::environment(world),
        internal: owner.map_or(Address::UNSPECIFIED, Into::into),
        router: LOOPBACK,
        exit: LOOPBACK,
        exit_is_port: 0,
    }
}

/// The uplink of a host whose own Ethernet address is not known.
#[must_use]
pub fn uplink(host: &Host) -> Uplink {
    Uplink {
        interface: LOOPBACK,
        mtu: MTU,
        pool: host.link.network.into(),
        mask: host.link.mask().into(),
        next_hop: host.next_hop.into(),
        ..Uplink::default()
    }
}

/// A next hop that was heard at some time.
#[must_use]
pub fn next_hop(mac: [u8; 6], age: Age) -> NextHop {
    NextHop {
        mac: Mac(mac),
        reserved: [0; 2],
        age,
    }
}

/// Makes everything of the host known and fresh, or nothing, and forgets what frames have taught.
pub fn learn(object: &mut Ebpf, host: Option<&Host>, owner: Option<Ipv4Addr>) -> Result<()> {
    forget::<u32, Port>(object, PORTS)?;
    forget::<Address, Endpoint>(object, ENDPOINTS)?;
    forget::<FdbKey, FdbEntry>(object, FDB)?;
    forget::<Address, NextHop>(object, NEXT_HOPS)?;
    let Some(host) = host else {
        return Ok(());
    };
    insert(object, PORTS, LOOPBACK, port(host.world(), owner))?;
    for world in &host.environments {
        let router_wan = RouterWanKey::from(Mac(world.router_wan));
        insert(object, ROUTER_WANS, router_wan, world.environment)?;
        for mapping in world.own() {
            let key = Address::from(mapping.external);
            insert(object, ENDPOINTS, key, endpoint(world, mapping))?;
        }
    }
    let key = Address::from(host.next_hop);
    insert(object, NEXT_HOPS, key, next_hop(host.next_hop_mac, FRESH))?;
    let mut taps = DevMapHash::try_from(map(object, TAPS)?)?;
    taps.insert(LOOPBACK, LOOPBACK, None, 0)?;
    let mut uplinks = Array::try_from(map(object, UPLINK)?)?;
    Ok(uplinks.set(0, uplink(host), 0)?)
}

fn map<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    object.map_mut(name).with_context(|| format!("no map {name}"))
}

fn insert<K: Pod, V: Pod>(object: &mut Ebpf, name: &str, key: K, value: V) -> Result<()> {
    let mut map = HashMap::<_, K, V>::try_from(map(object, name)?)?;
    Ok(map.insert(key, value, 0)?)
}

fn forget<K: Pod, V: Pod>(object: &mut Ebpf, name: &str) -> Result<()> {
    let mut map = HashMap::<_, K, V>::try_from(map(object, name)?)?;
    let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}

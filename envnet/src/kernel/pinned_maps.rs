//! The pinned maps, typed: what the loader tells the programs, and what they tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, MapInfo, PerCpuHashMap};
use envnet_common::{
    Address,
    maps::{
        self, Counters, DropKey, Endpoint, Environment, FdbEntry, FdbKey, LAYOUT_VERSION, Mapping, MappingKey, NextHop,
        Port, RouterWanKey, Settings, Uplink,
    },
};

use super::{Error, Explain as _, Result, bpffs, former, netns::Netns};
use crate::names::Instance;

/// `BPF_NOEXIST`: inserts only where there is no entry.
const NO_OTHER: u64 = 1;

/// Where the maps of an instance are pinned; the version of their layouts is part of it.
#[must_use]
pub fn directory(instance: &Instance) -> PathBuf {
    bpffs::directory(instance).join(format!("maps-v{LAYOUT_VERSION}"))
}

/// The layouts' version that a directory of maps is named after, if it is one.
#[must_use]
pub fn layout_of(name: &str) -> Option<u32> {
    name.strip_prefix("maps-v")?.parse().ok()
}

/// Whether the maps that programs use (`used`, by number) are those that are pinned. They are not when somebody has taken pins
/// away and others were made since: the programs would not see what is written to those.
pub fn are_used(instance: &Instance, used: &BTreeSet<u32>) -> Result<bool> {
    let directory = directory(instance);
    let mut pinned = BTreeSet::new();
    for name in maps::ALL {
        let Ok(map) = MapInfo::from_pin(former::map_pin(&directory, name)) else {
            return Ok(false);
        };
        pinned.insert(map.id());
    }
    for number in used.difference(&pinned) {
        let map = MapInfo::from_id(*number).explain(|| "cannot ask for a program's maps")?;
        if former::map_names().any(|name| map.name_as_str() == Some(name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The instance's pinned maps.
pub struct PinnedMaps {
    /// Interface index of `gwE` → environment.
    pub environments: HashMap<MapData, u32, Environment>,
    /// Internal address → external address.
    pub mappings: HashMap<MapData, MappingKey, Mapping>,
    /// What was translated, per mapping.
    pub counters: PerCpuHashMap<MapData, MappingKey, Counters>,
    /// What was dropped, and why.
    pub drops: PerCpuHashMap<MapData, DropKey, u64>,
    /// What can be switched while packets flow.
    pub settings: Array<MapData, Settings>,
    /// The uplink; all zero when there is no fast path.
    pub uplink: Array<MapData, Uplink>,
    /// Ethernet address of `gwE` → E.
    pub router_wans: HashMap<MapData, RouterWanKey, u32>,
    /// Interface index → port.
    pub ports: HashMap<MapData, u32, Port>,
    /// Those of them that are taps, as XDP needs them.
    pub taps: DevMapHash<MapData>,
    /// External address → mapping, and where the guest is.
    pub endpoints: HashMap<MapData, Address, Endpoint>,
    /// Ethernet address → the guest that it is promised to.
    pub guest_macs: HashMap<MapData, FdbKey, Address>,
    /// Which port an Ethernet address is behind.
    pub fdb: HashMap<MapData, FdbKey, FdbEntry>,
    /// Ethernet addresses of next hops.
    pub next_hops: HashMap<MapData, Address, NextHop>,
}

impl PinnedMaps {
    /// Opens the pinned maps, if there are any.
    pub fn open(instance: &Instance) -> Result<Option<Self>> {
        let directory = directory(instance);
        if !maps::ALL.iter().all(|name| former::map_pin(&directory, name).exists()) {
            return Ok(None);
        }
        let map = |name: &str| -> Result<MapData> {
            MapData::from_pin(former::map_pin(&directory, name))
                .explain(|| format!("cannot open the pinned map {name}"))
        };
        Ok(Some(Self {
            environments: Map::HashMap(map(maps::ENVIRONMENTS)?).try_into()?,
            mappings: Map::HashMap(map(maps::MAPPINGS)?).try_into()?,
            counters: Map::PerCpuHashMap(map(maps::COUNTERS)?).try_into()?,
            drops: Map::PerCpuHashMap(map(maps::DROPS)?).try_into()?,
            settings: Map::Array(map(maps::SETTINGS)?).try_into()?,
            uplink: Map::Array(map(maps::UPLINK)?).try_into()?,
            router_wans: Map::HashMap(map(maps::ROUTER_WANS)?).try_into()?,
            ports: Map::HashMap(map(maps::PORTS)?).try_into()?,
            taps: Map::DevMapHash(map(maps::TAPS)?).try_into()?,
            endpoints: Map::HashMap(map(maps::ENDPOINTS)?).try_into()?,
            guest_macs: Map::HashMap(map(maps::GUEST_MACS)?).try_into()?,
            fdb: Map::LruHashMap(map(maps::FDB)?).try_into()?,
            next_hops: Map::LruHashMap(map(maps::NEXT_HOPS)?).try_into()?,
        }))
    }

    /// Adds an environment or changes one.
    pub fn insert_environment(&mut self, index: u32, new: Environment, old: Option<Environment>) -> Result<()> {
        if let Some(old) = old.filter(|old| old.mac != new.mac) {
            absent_is_fine(self.router_wans.remove(&RouterWanKey::from(old.mac)))?;
        }
        patiently(|| Ok(self.router_wans.insert(RouterWanKey::from(new.mac), new.number, 0)?))?;
        patiently(|| Ok(self.environments.insert(index, new, 0)?))
    }

    /// Adds a port or changes one. The interface must be one of the host's; `is_tap` says whether it is one that XDP
    /// may send to.
    pub fn insert_port(&mut self, host: &Netns, index: u32, port: Port, is_tap: bool) -> Result<()> {
        if is_tap {
            // The kernel looks for the device in the caller's namespace.
            host.run(|| patiently(|| Ok(self.taps.insert(index, index, None, 0)?)))??;
        }
        patiently(|| Ok(self.ports.insert(index, port, 0)?))
    }

    /// Tells the programs at the ports about a guest.
    pub fn insert_endpoint(&mut self, external: Address, endpoint: Endpoint) -> Result<()> {
        patiently(|| Ok(self.endpoints.insert(external, endpoint, 0)?))
    }

    /// Promises an Ethernet address to the guest with this internal address.
    pub fn insert_guest_mac(&mut self, key: FdbKey, guest: Address) -> Result<()> {
        patiently(|| Ok(self.guest_macs.insert(key, guest, 0)?))
    }

    /// Takes promises back; no error for one that is not there.
    pub fn remove_guest_macs(&mut self, keys: &[FdbKey]) -> Result<()> {
        keys.iter()
            .try_for_each(|key| absent_is_fine(self.guest_macs.remove(key)))
    }

    /// Removes ports, and who was heard there; no error for one that is not there.
    pub fn remove_ports(&mut self, indices: &[u32]) -> Result<()> {
        for index in indices {
            absent_is_fine(self.taps.remove(*index))?;
            absent_is_fine(self.ports.remove(index))?;
        }
        self.remove_fdb_entries(|_, entry| indices.contains(&entry.interface))
    }

    /// Takes mappings from the fast path; no error for one that is not there.
    pub fn remove_endpoints(&mut self, external: &[Address]) -> Result<()> {
        external
            .iter()
            .try_for_each(|external| absent_is_fine(self.endpoints.remove(external)))
    }

    /// Adds a mapping or changes one; its counters start at zero when it is new.
    pub fn insert_mapping(&mut self, key: MappingKey, mapping: Mapping) -> Result<()> {
        patiently(|| present_is_fine(self.counters.insert(key, per_cpu(Counters::default())?, NO_OTHER)))?;
        patiently(|| Ok(self.mappings.insert(key, mapping, 0)?))
    }

    /// Removes mappings with their counters and drops; no error for one that is not there.
    pub fn remove_mappings(&mut self, keys: &[MappingKey]) -> Result<()> {
        for key in keys {
            absent_is_fine(self.mappings.remove(key))?;
            absent_is_fine(self.counters.remove(key))?;
        }
        self.remove_drops(|drop| {
            keys.iter()
                .any(|key| drop.environment == key.environment && drop.internal == key.internal)
        })
    }

    /// Removes environments, by interface index and number, with all they have in the maps.
    pub fn remove_environments(&mut self, environments: &BTreeMap<u32, u32>) -> Result<()> {
        let numbers: BTreeSet<u32> = environments.values().copied().collect();
        for index in environments.keys() {
            absent_is_fine(self.environments.remove(index))?;
        }
        // Those of both maps, since either may have been made anew after somebody removed its pin.
        let keys: BTreeSet<MappingKey> =
            (self.mappings.keys().chain(self.counters.keys())).collect::<Result<_, _>>()?;
        for key in keys.iter().filter(|key| numbers.contains(&key.environment)) {
            absent_is_fine(self.mappings.remove(key))?;
            absent_is_fine(self.counters.remove(key))?;
        }
        let router_wans: Vec<(RouterWanKey, u32)> = self.router_wans.iter().collect::<Result<_, _>>()?;
        for (key, _) in router_wans.iter().filter(|(_, number)| numbers.contains(number)) {
            absent_is_fine(self.router_wans.remove(key))?;
        }
        let promised: Vec<FdbKey> = self.guest_macs.keys().collect::<Result<_, _>>()?;
        let promised: Vec<FdbKey> = promised
            .into_iter()
            .filter(|key| numbers.contains(&key.environment))
            .collect();
        self.remove_guest_macs(&promised)?;
        self.remove_fdb_entries(|key, _| numbers.contains(&key.environment))?;
        self.remove_drops(|drop| numbers.contains(&drop.environment))
    }

    fn remove_fdb_entries(&mut self, which: impl Fn(&FdbKey, &FdbEntry) -> bool) -> Result<()> {
        let fdb: Vec<(FdbKey, FdbEntry)> = self.fdb.iter().collect::<Result<_, _>>()?;
        let mut keys = fdb.iter().filter(|(key, entry)| which(key, entry));
        keys.try_for_each(|(key, _)| absent_is_fine(self.fdb.remove(key)))
    }

    fn remove_drops(&mut self, which: impl Fn(&DropKey) -> bool) -> Result<()> {
        let keys: Vec<DropKey> = self.drops.keys().collect::<Result<_, _>>()?;
        keys.iter()
            .filter(|key| which(key))
            .try_for_each(|key| absent_is_fine(self.drops.remove(key)))
    }

    /// Makes a counter of drops that starts at zero, unless there is one.
    pub fn make_drop_counter(&mut self, key: DropKey) -> Result<()> {
        patiently(|| present_is_fine(self.drops.insert(key, per_cpu(0)?, NO_OTHER)))
    }
}

fn per_cpu<T: aya::Pod>(value: T) -> Result<aya::maps::PerCpuValues<T>> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(_, error)| error)
        .explain(|| "cannot count the processors")?;
    Ok(vec![value; cpus].try_into()?)
}

/// Inserts something. The kernel holds a few entries of a map ready on each processor and makes more in the background; when
/// many are inserted one after another on a busy machine, there may be none for a moment.
fn patiently(mut insert: impl FnMut() -> Result<()>) -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let start = Instant::now();
    loop {
        match insert() {
            Err(error) if is_short_of_memory(&error) && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            inserted => return inserted,
        }
    }
}

fn is_short_of_memory(error: &Error) -> bool {
    error.errno() == Some(libc::ENOMEM)
}

/// For entries that count: one that is there stays, and the kernel is the only one to know.
fn present_is_fine(result: Result<(), MapError>) -> Result<()> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => Ok(other?),
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<()> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => Ok(other?),
    }
}

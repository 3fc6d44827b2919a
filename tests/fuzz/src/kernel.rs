//! The programs in the [`harness`], with the maps of a world.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuHashMap, PerCpuValues},
    programs::{SchedClassifier, TcAttachType},
};
use envnet_common::{
    Address, DropReason,
    maps::{
        COUNTERS, Counters, DROPS, DropKey, ENDPOINTS, ENVIRONMENTS, Environment, FDB, MAPPINGS, Mapping, MappingKey,
        NEXT_HOPS, PORTS,
    },
};
use envnet_model::{Counts, Direction, Host, Program, World};

use crate::{
    harness::{self, Action, LOOPBACK},
    host, pure,
};

/// Longer than any frame that is run; the kernel takes one page with room for its own data.
const LONGEST: usize = 4096;
/// More than a world has mappings, and ways to be counted.
const MOST_ENTRIES: u32 = 1024;

/// Environment, reason and internal address under which drops are counted.
pub type DropCount = BTreeMap<(u32, &'static str, Option<Ipv4Addr>), u64>;

/// The loaded programs and their maps.
pub struct Kernel {
    programs: Ebpf,
    environments: HashMap<MapData, u32, Environment>,
    mappings: HashMap<MapData, MappingKey, Mapping>,
    counters: PerCpuHashMap<MapData, MappingKey, Counters>,
    drops: PerCpuHashMap<MapData, DropKey, u64>,
    /// What the fast path is to know.
    host: Option<&'static Host>,
    cpus: usize,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Loads the programs.
    pub fn load() -> Result<Self> {
        let maps = [
            COUNTERS,
            DROPS,
            ENDPOINTS,
            ENVIRONMENTS,
            FDB,
            MAPPINGS,
            NEXT_HOPS,
            PORTS,
        ];
        let mut programs = harness::load(
            envnet::EBPF_OBJECT,
            Program::ALL.map(Program::name),
            &maps,
            MOST_ENTRIES,
            false,
        )?;
        let mut take = |name: &str| programs.take_map(name).with_context(|| format!("no map {name}"));
        let [environments, mappings, counters, drops] =
            [take(ENVIRONMENTS)?, take(MAPPINGS)?, take(COUNTERS)?, take(DROPS)?];
        Ok(Self {
            environments: HashMap::try_from(environments)?,
            mappings: HashMap::try_from(mappings)?,
            counters: PerCpuHashMap::try_from(counters)?,
            drops: PerCpuHashMap::try_from(drops)?,
            programs,
            host: None,
            cpus: aya::util::nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?,
            buffer: vec![0; LONGEST],
        })
    }

    /// Replaces everything in the maps: what is on a host, or nothing, for frames on the loopback interface.
    pub fn enter(&mut self, host: Option<&'static Host>) -> Result<()> {
        self.enter_at(LOOPBACK, host.map(Host::world))?;
        self.host = host;
        self.refresh(None)
    }

    /// Makes the fast path know everything again that it may have forgotten. The port is `owner`'s.
    pub fn refresh(&mut self, owner: Option<Ipv4Addr>) -> Result<()> {
        host::learn(&mut self.programs, self.host, owner)
    }

    /// The same for the slow path only, and for frames on the interface with this index.
    pub fn enter_at(&mut self, interface: u32, world: Option<&World>) -> Result<()> {
        let environments: Vec<u32> = self.environments.keys().collect::<Result<_, _>>()?;
        for key in environments {
            self.environments.remove(&key)?;
        }
        let mappings: Vec<MappingKey> = self.mappings.keys().collect::<Result<_, _>>()?;
        for key in mappings {
            self.mappings.remove(&key)?;
            self.counters.remove(&key)?;
        }
        let Some(world) = world else {
            return Ok(());
        };
        self.environments.insert(interface, pure::environment(world), 0)?;
        for mapping in &world.mappings {
            let key = MappingKey {
                environment: mapping.environment,
                internal: mapping.internal.into(),
            };
            let external = mapping.external.into();
            self.mappings.insert(key, Mapping { external }, 0)?;
        }
        self.reset_counters()
    }

    /// Runs one program on what passes an interface of the calling thread's network namespace, as long as this lives.
    pub fn attach(&mut self, direction: Direction, interface: &str, attach_type: TcAttachType) -> Result<()> {
        let program = self.programs.program_mut(name(direction)).context("no such program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program
            .attach(interface, attach_type)
            .with_context(|| format!("{} cannot be attached to {interface}", name(direction)))?;
        Ok(())
    }

    /// Runs one program; the second value is what the frame became.
    pub fn run(&mut self, program: Program, frame: &[u8]) -> Result<(Action, &[u8])> {
        let (action, length) = harness::run(&self.programs, program.name(), frame, &mut self.buffer)?;
        Ok((action, &self.buffer[..length]))
    }

    /// Reads the drop counters and empties them.
    pub fn take_drops(&mut self) -> Result<DropCount> {
        let keys: Vec<DropKey> = self.drops.keys().collect::<Result<_, _>>()?;
        let mut count = DropCount::new();
        for key in keys {
            let Some(reason) = DropReason::from_number(key.reason) else {
                bail!("drops are counted under reason {}, which there is not", key.reason);
            };
            let internal = (key.internal != Address::UNSPECIFIED).then(|| key.internal.into());
            let packets = self.drops.get(&key, 0)?.iter().sum::<u64>();
            *count.entry((key.environment, reason.label(), internal)).or_default() += packets;
            self.drops.remove(&key)?;
        }
        Ok(count)
    }

    /// Reads the counters of translated packets and sets them to zero.
    pub fn take_translated(&mut self) -> Result<Counts> {
        let mut count = Counts::new();
        for entry in &self.counters {
            let (key, values) = entry?;
            count.insert((key.environment, key.internal.into()), harness::sum(&values));
        }
        count.retain(|_, counts| *counts != [0; 4]);
        self.reset_counters()?;
        Ok(count)
    }

    fn reset_counters(&mut self) -> Result<()> {
        let keys: Vec<MappingKey> = self.mappings.keys().collect::<Result<_, _>>()?;
        for key in keys {
            let zeroes = PerCpuValues::try_from(vec![Counters::default(); self.cpus])?;
            self.counters.insert(key, zeroes, 0)?;
        }
        Ok(())
    }
}

const fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "router_ingress",
        Direction::Out => "router_egress",
    }
}

//! The real programs, run with `BPF_PROG_TEST_RUN`: the kernel runs one on a frame and gives back what it became.
//!
//! The frame seems to be on the loopback interface, and no redirect is carried out, so nothing leaves.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuHashMap, PerCpuValues},
    programs::{Program as Loaded, SchedClassifier, TcAttachType, TestRun, TestRunOptions, Xdp},
};
use envnet_common::{
    Address, DropReason,
    maps::{COUNTERS, Counters, DROPS, DropKey, ENDPOINTS, ENVIRONMENTS, Environment, MAPPINGS, Mapping, MappingKey},
};
use envnet_model::{Direction, World};

use crate::{Program, corpus::hex, host::Host, pure};

/// Index of the loopback interface in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;
/// Longer than any frame that is run; the kernel takes one page with room for its own data.
const LONGEST: usize = 4096;
/// More than a world has mappings, and ways to be counted.
const MOST_ENTRIES: u32 = 1024;

const TC_ACT_OK: u32 = 0;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;
const TC_ACT_UNSPEC: u32 = u32::MAX;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

/// What a program did with a frame. What it became is in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it go on.
    Pass,
    /// Turned it round, or sent it elsewhere.
    Redirect,
    /// Left it to whoever is next.
    Next,
    /// Dropped it.
    Drop,
    /// A code that the programs do not know.
    Unknown(u32),
}

/// Environment, reason and internal address under which drops are counted.
pub type DropCount = BTreeMap<(u32, &'static str, Option<Ipv4Addr>), u64>;
/// Packets and bytes that were translated, by environment and internal address: in, then out.
pub type TranslatedCount = BTreeMap<(u32, Ipv4Addr), [u64; 4]>;

/// The loaded programs and their maps.
pub struct Kernel {
    programs: Ebpf,
    environments: HashMap<MapData, u32, Environment>,
    mappings: HashMap<MapData, MappingKey, Mapping>,
    counters: PerCpuHashMap<MapData, MappingKey, Counters>,
    drops: PerCpuHashMap<MapData, DropKey, u64>,
    host: Host,
    cpus: usize,
    buffer: Vec<u8>,
}

impl Kernel {
    /// Loads the programs.
    pub fn load() -> Result<Self> {
        let mut sized = EbpfLoader::new();
        for map in [COUNTERS, DROPS, ENDPOINTS, ENVIRONMENTS, MAPPINGS] {
            // The kernel walks through every bucket to list the few entries.
            sized.map_max_entries(map, MOST_ENTRIES);
        }
        let mut programs = sized
            .load(envnet::EBPF_OBJECT)
            .context("the programs cannot be loaded: this needs root and a kernel with BPF")?;
        for program in Program::ALL {
            match programs.program_mut(program.name()).context("no such program")? {
                Loaded::SchedClassifier(loaded) => loaded.load()?,
                Loaded::Xdp(loaded) => loaded.load()?,
                _ => bail!("{} is of a type that nobody attaches", program.name()),
            }
        }
        let host = Host::take(&mut programs)?;
        let mut take = |name: &str| programs.take_map(name).with_context(|| format!("no map {name}"));
        let [environments, mappings, counters, drops] =
            [take(ENVIRONMENTS)?, take(MAPPINGS)?, take(COUNTERS)?, take(DROPS)?];
        Ok(Self {
            environments: HashMap::try_from(environments)?,
            mappings: HashMap::try_from(mappings)?,
            counters: PerCpuHashMap::try_from(counters)?,
            drops: PerCpuHashMap::try_from(drops)?,
            programs,
            host,
            cpus: aya::util::nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?,
            buffer: vec![0; LONGEST],
        })
    }

    /// Replaces everything in the maps: `world` and its mappings, or nothing, for frames on the loopback interface.
    pub fn enter(&mut self, world: Option<&World>) -> Result<()> {
        self.enter_at(LOOPBACK, world)?;
        self.host.enter(world)
    }

    /// Makes the fast path know everything again that it may have forgotten.
    pub fn refresh(&mut self) -> Result<()> {
        self.host.refresh()
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
        let loaded = self.programs.program(program.name()).context("no such program")?;
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.buffer),
            ..TestRunOptions::default()
        };
        let is_xdp = program == Program::UplinkXdp;
        let result = if is_xdp {
            <&Xdp>::try_from(loaded)?.test_run(options)
        } else {
            <&SchedClassifier>::try_from(loaded)?.test_run(options)
        };
        let result = result.with_context(|| format!("the kernel does not run a program on {}", hex(frame)))?;
        let action = match (is_xdp, result.return_value) {
            (false, TC_ACT_OK) => Action::Pass,
            (false, TC_ACT_SHOT) | (true, XDP_DROP) => Action::Drop,
            (false, TC_ACT_REDIRECT) | (true, XDP_REDIRECT) => Action::Redirect,
            (false, TC_ACT_UNSPEC) | (true, XDP_PASS) => Action::Next,
            (_, code) => Action::Unknown(code),
        };
        Ok((action, &self.buffer[..result.data_size_out as usize]))
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
    pub fn take_translated(&mut self) -> Result<TranslatedCount> {
        let mut count = TranslatedCount::new();
        for entry in &self.counters {
            let (key, values) = entry?;
            let sum = count.entry((key.environment, key.internal.into())).or_default();
            for value in values.iter() {
                let each = [value.packets_in, value.bytes_in, value.packets_out, value.bytes_out];
                for (sum, value) in sum.iter_mut().zip(each) {
                    *sum += value;
                }
            }
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

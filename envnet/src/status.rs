//! The state of an attached instance, as a value that can be printed as a table or as JSON.

mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use envnet_common::{
    Address, DropReason,
    maps::{Counters, DropKey, MappingKey},
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::{
    config::{Config, Environments, ROUTER},
    desired,
    kernel::{Explain as _, Result, netns::NetnsKind, pinned_maps::PinnedMaps, programs::Attached},
    names::{self, Instance},
    observe::Observed,
    observed_index::ObservedIndex,
    topology::{AttachPoint, Role},
};

/// Everything `envnet status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The way between uplink and guests; none when nothing is attached.
    pub uplink: Option<UplinkStatus>,
    /// The environments by number.
    pub environments: Vec<EnvironmentStatus>,
    /// Whether the environments were not looked into, so that it is not known whether they are intact.
    pub brief: bool,
    /// Whether another command was at work meanwhile, so that this may be half of what it does.
    pub busy: bool,
    /// Why it was not compared with the configuration, if it was not.
    pub not_compared: Option<String>,
    /// Environments of the configuration, when it is at hand, of which nothing is there.
    pub not_attached: Vec<u32>,
    /// Environments that are there but not in the configuration, when it is at hand.
    pub not_in_file: Vec<u32>,
    /// What the programs write to the log: 0 nothing, 1 drops, 2 translations, too.
    pub logging: u32,
    /// What is there of another build of envnet.
    pub other_build: Option<OtherBuild>,
    /// Which pinned map this build's programs cannot use, and why.
    pub unfit_map: Option<String>,
    /// Every kind of drop that happened.
    pub drops: Vec<Drops>,
}

/// Another build of envnet that has attached something.
#[derive(Clone, Debug, Serialize)]
pub struct OtherBuild {
    /// The versions of its maps' layouts that this build cannot read.
    pub layouts: Vec<u32>,
}

/// How packets get from the uplink to the guests.
#[derive(Clone, Debug, Serialize)]
pub struct UplinkStatus {
    /// Its name, when there is a fast path.
    pub interface: Option<String>,
    /// The fast path at work: `xdp`, `tc` or `off`.
    pub fast_path: &'static str,
    /// Why it is that one, when the configuration is at hand.
    pub reason: Option<&'static str>,
}

/// One environment.
#[derive(Clone, Debug, Serialize)]
pub struct EnvironmentStatus {
    /// Its number E.
    pub environment: u32,
    /// Name of the router namespace.
    pub namespace: String,
    /// Name of the bridge.
    pub bridge: String,
    /// Whether everything is there, as the configuration says if it is at hand, with this build's programs on it; if not,
    /// `envnet attach` mends it. None when it was not looked into.
    pub intact: Option<bool>,
    /// Ports of the bridge that somebody has plugged in since the last `attach`, which makes the fast path know them.
    /// None when it was not looked for.
    pub new_ports: Option<Vec<String>>,
    /// The guests in the order of their addresses, the router first.
    pub guests: Vec<Guest>,
}

/// One mapping with what went through it.
#[derive(Clone, Debug, Serialize)]
pub struct Guest {
    /// Name in the configuration; [`ROUTER`] for the router itself, none when the configuration does not know it.
    pub name: Option<String>,
    /// Internal address.
    pub internal: Ipv4Addr,
    /// External address.
    pub external: Ipv4Addr,
    /// Name of the port it was last heard on, or else of the tap that is there for it; the router has none.
    pub tap: Option<String>,
    /// Ethernet address it was heard with.
    pub mac: Option<String>,
    /// Packets translated on their way in.
    pub packets_in: u64,
    /// Bytes of those.
    pub bytes_in: u64,
    /// Packets translated on their way out.
    pub packets_out: u64,
    /// Bytes of those.
    pub bytes_out: u64,
    /// Seconds since it last sent something through the router.
    pub last_seen: Option<f64>,
    /// Packets dropped on its behalf.
    pub dropped: u64,
}

/// Packets dropped for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct Drops {
    /// The environment, when it is known.
    pub environment: Option<u32>,
    /// Internal address of the mapping concerned, when there is one.
    pub internal: Option<Ipv4Addr>,
    /// Number of the reason.
    pub number: u32,
    /// Name of the reason.
    pub reason: &'static str,
    /// How many.
    pub packets: u64,
}

impl Status {
    /// Reads the maps and adds what the observation knows. `config` only gives the guests their names; `damaged` are
    /// environments that are known not to be as it says, none when they were not looked into.
    pub fn read(
        observed: &Observed,
        instance: &Instance,
        config: Option<&Config>,
        damaged: Option<&BTreeSet<u32>>,
    ) -> Result<Self> {
        let maps = if observed.pins.unfit_map().is_none() {
            PinnedMaps::open(instance)?
        } else {
            None
        };
        let maps = maps.as_ref();
        let drops = maps.map_or_else(|| Ok(Vec::new()), drops)?;
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).explain(|| "cannot read the clock")?);
        let known = ObservedIndex::new(observed, instance);
        let uplink = uplink(&known, config);
        let mut dropped: BTreeMap<(Option<u32>, Option<Ipv4Addr>), u64> = BTreeMap::new();
        for drop in &drops {
            *dropped.entry((drop.environment, drop.internal)).or_default() += drop.packets;
        }
        let mut environments = Vec::new();
        for number in known.environments() {
            let entry = observed.environments.get(&desired::router_wan_index(number));
            let mut guests = Vec::new();
            for (&key, mapping) in observed.mappings_of(number) {
                let counters = maps.map_or_else(|| Ok(Counters::default()), |maps| counters(maps, key))?;
                let internal = Ipv4Addr::from(key.internal);
                let own = entry.map(|entry| u32::from(internal) & !u32::from(Ipv4Addr::from(entry.mask)));
                let own = own.map(|host| names::tap(number, host));
                let own = own.filter(|tap| observed.links.contains_key(tap));
                let location = observed
                    .fast
                    .endpoints
                    .get(&mapping.external)
                    .map(|endpoint| endpoint.location);
                let location = location.filter(|location| location.mac.is_set());
                let port = location.and_then(|location| link_name(&known, location.interface));
                let neighbours = observed.routers.get(&number).map(|router| &router.neighbours);
                let neighbour = neighbours.and_then(|known| known.get(&internal)).copied();
                let seen = Duration::from_nanos(counters.last_seen);
                guests.push(Guest {
                    name: name(config, internal),
                    internal,
                    external: mapping.external.into(),
                    tap: port.or(own),
                    mac: location
                        .map(|location| location.mac)
                        .or(neighbour)
                        .map(|mac| mac.to_string()),
                    packets_in: counters.packets_in,
                    bytes_in: counters.bytes_in,
                    packets_out: counters.packets_out,
                    bytes_out: counters.bytes_out,
                    last_seen: (counters.last_seen > 0).then(|| now.saturating_sub(seen).as_secs_f64()),
                    dropped: dropped.get(&(Some(number), Some(internal))).copied().unwrap_or(0),
                });
            }
            let topology = known.topology(number);
            let namespace = instance.router_namespace(number);
            let bridge = topology.name(Role::Bridge, number).unwrap_or_default();
            let mut border = topology.border(number);
            let isolated =
                border.all(|(point, link)| observed.attached_to(number, point, &link) == Some(Attached::Current));
            let ports = ports(&known, number);
            environments.push(EnvironmentStatus {
                intact: damaged.map(|damaged| {
                    entry.is_some()
                        && !damaged.contains(&number)
                        && isolated
                        && ports.iter().all(|(_, attached)| *attached != Attached::Other)
                }),
                new_ports: damaged.map(|_| {
                    let new = ports.iter().filter(|(_, attached)| *attached == Attached::Nothing);
                    let new = new.filter(|_| uplink.interface.is_some());
                    new.map(|(name, _)| name.clone()).collect()
                }),
                environment: number,
                namespace,
                bridge,
                guests,
            });
        }
        let present = known.environments();
        let mut not_attached = config.map_or_else(Vec::new, |config| config.environments.clone());
        not_attached.retain(|number| !present.contains(number));
        let in_file = config.map(|config| &config.environments);
        let not_in_file = present.into_iter();
        let not_in_file = not_in_file.filter(|number| in_file.is_some_and(|file| !file.contains(number)));
        let settings = maps.map(|maps| maps.settings.get(&0, 0)).transpose();
        let settings = settings.explain(|| "cannot read the settings")?.unwrap_or_default();
        Ok(Self {
            uplink: maps.map(|_| uplink),
            environments,
            brief: damaged.is_none(),
            busy: false,
            not_compared: None,
            not_attached,
            not_in_file: not_in_file.collect(),
            logging: settings.log,
            other_build: observed.pins.other_builds().map(|builds| OtherBuild {
                layouts: builds.layouts.iter().copied().collect(),
            }),
            unfit_map: observed.pins.unfit_map().map(str::to_owned),
            drops,
        })
    }
}

impl Status {
    /// Leaves out what is not about these environments.
    pub fn keep(&mut self, part: &Environments) {
        self.environments
            .retain(|environment| part.contains(environment.environment));
        for numbers in [&mut self.not_attached, &mut self.not_in_file] {
            numbers.retain(|number| part.contains(*number));
        }
        self.drops
            .retain(|drop| drop.environment.is_some_and(|number| part.contains(number)));
    }
}

fn link_name(known: &ObservedIndex<'_>, index: u32) -> Option<String> {
    known.link_at(index).map(|link| link.name.clone())
}

fn uplink(known: &ObservedIndex<'_>, config: Option<&Config>) -> UplinkStatus {
    let observed = known.observed;
    let uplink = observed.fast.uplink;
    let runs = |desired: AttachPoint| {
        let mut attached = observed.attached.iter();
        attached.any(|((point, _), attached)| *point == desired && *attached == Attached::Current)
    };
    let fast_path = if uplink.is_some() && runs(AttachPoint::UplinkDriver) {
        "xdp"
    } else if uplink.is_some() && (runs(AttachPoint::Uplink) || runs(AttachPoint::UplinkPort)) {
        "tc"
    } else {
        "off"
    };
    UplinkStatus {
        // What the map says of the uplink outlives the fast path.
        interface: uplink
            .filter(|_| fast_path != "off")
            .and_then(|uplink| link_name(known, uplink.interface)),
        fast_path,
        reason: config
            .map(desired::reason)
            .filter(|reason| reason.starts_with(fast_path)),
    }
}

/// The ports of an environment's bridge that guests may be behind, with what is attached to them.
fn ports(known: &ObservedIndex<'_>, number: u32) -> Vec<(String, Attached)> {
    let own = known.instance;
    let topology = known.topology(number);
    known
        .ports_of(number)
        .filter(|link| topology.spec(NetnsKind::Host, &link.name, number).is_none())
        // A port of another environment is none of this bridge's, whatever it is plugged into.
        .filter(|link| link.owner(own).is_none_or(|owner| owner == number))
        .map(|link| {
            let point = link
                .owner(own)
                .map_or(AttachPoint::ForeignPort, |_| AttachPoint::GuestPort);
            let attached = known.observed.attached.get(&(point, link.name.clone())).copied();
            (link.name.clone(), attached.unwrap_or(Attached::Nothing))
        })
        .collect()
}

fn name(config: Option<&Config>, internal: Ipv4Addr) -> Option<String> {
    let config = config?;
    if internal == config.addresses.router {
        return Some(ROUTER.to_owned());
    }
    config
        .vms
        .iter()
        .find(|vm| vm.address == internal)
        .map(|vm| vm.name.clone())
}

fn counters(maps: &PinnedMaps, key: MappingKey) -> Result<Counters> {
    let values = match maps.counters.get(&key, 0) {
        Err(aya::maps::MapError::KeyNotFound) => return Ok(Counters::default()),
        values => values.explain(|| "cannot read the counters")?,
    };
    Ok(values.iter().fold(Counters::default(), |sum, cpu| Counters {
        packets_in: sum.packets_in + cpu.packets_in,
        bytes_in: sum.bytes_in + cpu.bytes_in,
        packets_out: sum.packets_out + cpu.packets_out,
        bytes_out: sum.bytes_out + cpu.bytes_out,
        last_seen: sum.last_seen.max(cpu.last_seen),
    }))
}

fn drops(maps: &PinnedMaps) -> Result<Vec<Drops>> {
    let mut sums: BTreeMap<DropKey, u64> = BTreeMap::new();
    for entry in &maps.drops {
        let (key, values) = entry.explain(|| "cannot read the drops")?;
        sums.insert(key, values.iter().sum());
    }
    Ok(sums
        .into_iter()
        .filter(|(_, packets)| *packets > 0)
        .map(|(key, packets)| Drops {
            environment: (key.environment != 0).then_some(key.environment),
            internal: (key.internal != Address::UNSPECIFIED).then(|| key.internal.into()),
            number: key.reason,
            reason: DropReason::from_number(key.reason).map_or("unknown", DropReason::label),
            packets,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_is_explained() {
        let page = include_str!("../../docs/operations.md");
        for &reason in DropReason::ALL {
            let row = format!("| {} | `{}` | ", reason as u32, reason.label());
            assert!(page.contains(&row), "docs/operations.md has no row {row}");
        }
    }
}

//! What the kernel looks like now, as far as envnet is concerned.

mod pins;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::Path,
};

use envnet_common::{
    Address, Mac,
    maps::{self, FdbKey, Mapping, MappingKey},
};
use ipnet::Ipv4Net;

pub use self::pins::{MapState, PinState, Pins};
use crate::{
    desired,
    inspect::HostLinks,
    kernel::{
        Explain as _, Result,
        netlink::{Link, Netlink, Route},
        netns::{self, Netns, NetnsKind},
        pinned_maps::PinnedMaps,
        programs::{self, Attached, Hook, Programs, StalePin},
        sysctl::Sysctls,
    },
    names::Instance,
    parallel::{self, Concurrency},
    topology::{self, AttachPoint, Role},
};

/// Everything observed.
#[derive(Debug)]
pub struct Observed {
    /// The links of the host by name.
    pub links: BTreeMap<String, Link>,
    /// The IPv4 addresses of the host with the names of their interfaces.
    pub addresses: Vec<(String, Ipv4Net)>,
    /// Values of the host's sysctls that were asked for.
    pub sysctls: BTreeMap<String, String>,
    /// Whether the kernel has IPv6.
    pub ipv6: bool,
    /// The router namespaces by environment.
    pub routers: BTreeMap<u32, Router>,
    /// What is attached to the host's links, by what they are and their names. Nothing is where nothing is listed.
    pub attached: BTreeMap<(AttachPoint, String), Attached>,
    /// Namespaces with a name that envnet uses for an environment but without its mark.
    pub foreign_namespaces: BTreeSet<String>,
    /// Environments whose router namespace is gone but for its name.
    pub names_left: BTreeSet<u32>,
    /// What is pinned.
    pub pins: PinState,
    /// The environments in the maps, by interface index.
    pub environments: BTreeMap<u32, maps::Environment>,
    /// The mappings in the maps.
    pub mappings: BTreeMap<MappingKey, Mapping>,
    /// The mappings whose packets are counted.
    pub counted: BTreeSet<MappingKey>,
    /// The environments by the Ethernet addresses of their `gwE`.
    pub router_wans: BTreeMap<Mac, u32>,
    /// What the programs at the ports and on the uplink have been told.
    pub fast: Fast,
    /// The pins of links whose interfaces are gone.
    pub stale_pins: Vec<StalePin>,
}

/// What the maps hold for the programs at the ports and on the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fast {
    /// The uplink, if the programs know it; with interface 0 when there is no fast path.
    pub uplink: Option<maps::Uplink>,
    /// The ports by interface index.
    pub ports: BTreeMap<u32, maps::Port>,
    /// Those of them that XDP may send to.
    pub taps: BTreeSet<u32>,
    /// The mappings by external address, with what has been learned.
    pub endpoints: BTreeMap<Address, maps::Endpoint>,
    /// The Ethernet addresses that are promised to guests, with the internal addresses of those.
    pub guest_macs: BTreeMap<FdbKey, Address>,
}

/// A router namespace that carries the instance's mark.
#[derive(Debug)]
pub struct Router {
    /// Its links by name.
    pub links: BTreeMap<String, Link>,
    /// Its addresses by interface name, without the loopback's.
    pub addresses: BTreeSet<(String, Ipv4Net)>,
    /// Its routes, by interface name.
    pub routes: BTreeSet<(Route, String)>,
    /// Values of the sysctls that were asked for.
    pub sysctls: BTreeMap<String, String>,
    /// What is attached to its links that have programs, like [`Observed::attached`].
    pub attached: BTreeMap<(AttachPoint, String), Attached>,
    /// The link-layer addresses of the guests that the router knows.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
}

impl Observed {
    /// What is attached to a link of an environment, if the link is there and was looked at.
    #[must_use]
    pub fn attached_to(&self, number: u32, point: AttachPoint, link: &str) -> Option<Attached> {
        let attached = match point.netns() {
            NetnsKind::Host => &self.attached,
            NetnsKind::Router => &self.routers.get(&number)?.attached,
        };
        attached.get(&(point, link.to_owned())).copied()
    }

    /// The mappings in the maps of one environment.
    pub fn mappings_of(&self, number: u32) -> impl Iterator<Item = (&MappingKey, &Mapping)> {
        self.mappings.range(keys_of(number))
    }

    /// Whether the maps hold anything of an environment by its number: any of them may have lost it.
    #[must_use]
    pub fn is_in_maps(&self, number: u32) -> bool {
        self.mappings_of(number).next().is_some()
            || self.counted.range(keys_of(number)).next().is_some()
            || self.router_wans.values().any(|known| *known == number)
    }
}

fn keys_of(number: u32) -> RangeInclusive<MappingKey> {
    let key = |internal| MappingKey {
        environment: number,
        internal,
    };
    key(Address::UNSPECIFIED)..=key(Address([u8::MAX; 4]))
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Into every environment.
    Everything,
    /// Not into the router namespaces, and not at what is attached to each link: as a whole, that takes as long as there are
    /// many of them.
    Brief,
}

/// Observes everything an instance has; `desired` says which sysctls are of interest.
pub fn observe(
    host: &Netns,
    instance: &Instance,
    inspected: HostLinks,
    desired: &BTreeMap<u32, desired::Environment>,
    hook: Option<Hook>,
    depth: Depth,
) -> Result<Observed> {
    let links = by_name(inspected.links);
    let addresses = named(inspected.addresses, &links);
    let programs = Programs::open(instance)?;
    let programs_loaded = programs.is_some();
    let programs = &programs.unwrap_or_else(|| Programs::none(instance));
    let (mut environments, mut mappings, mut fast) = (BTreeMap::new(), BTreeMap::new(), Fast::default());
    let (mut counted, mut router_wans) = (BTreeSet::new(), BTreeMap::new());
    let (pins, maps) = pins::inspect(instance, programs_loaded)?;
    if let Some(maps) = maps {
        environments = maps
            .environments
            .iter()
            .collect::<Result<_, _>>()
            .explain(|| "cannot read the environments")?;
        mappings = maps
            .mappings
            .iter()
            .collect::<Result<_, _>>()
            .explain(|| "cannot read the mappings")?;
        counted = maps
            .counters
            .keys()
            .collect::<Result<_, _>>()
            .explain(|| "cannot read the counters")?;
        let present = maps.router_wans.iter();
        router_wans = present
            .map(|entry| entry.map(|(key, number)| (key.mac, number)))
            .collect::<Result<_, _>>()
            .explain(|| "cannot read the routers' WAN ports")?;
        fast = fast_maps(&maps)?;
    }
    let attached = attached(host, instance, &links, programs, hook, (&fast, pins.is_blind()), depth)?;
    let keys: Vec<&str> = desired
        .values()
        .flat_map(|environment| sysctl_keys(environment, NetnsKind::Host))
        .collect();
    let (mut routers, mut foreign_namespaces) = (BTreeMap::new(), BTreeSet::new());
    let names = netns::names()?;
    let names_left = names.left.iter().filter_map(|name| instance.environment_of(name));
    let names_left = names_left.collect();
    let names = names.bound.into_iter().filter(|_| depth == Depth::Everything);
    let names = names.filter_map(|name| Some((instance.environment_of(&name)?, name)));
    let found = parallel::each(
        Concurrency::Working,
        names.collect(),
        || (),
        async |(), (number, name)| {
            let router = router(&name, number, instance, desired.get(&number), programs, hook).await;
            (number, name, router)
        },
    )?;
    for (number, name, router) in found {
        match router? {
            Some(router) => drop(routers.insert(number, router)),
            None => drop(foreign_namespaces.insert(name)),
        }
    }
    let in_routers = routers.values().flat_map(|router: &Router| router.links.values());
    let interfaces = links.values().chain(in_routers).map(|link| link.index).collect();
    Ok(Observed {
        links,
        addresses,
        sysctls: sysctls(host, &keys)?,
        ipv6: Path::new("/proc/sys/net/ipv6").exists(),
        routers,
        attached,
        foreign_namespaces,
        names_left,
        pins,
        environments,
        mappings,
        counted,
        router_wans,
        fast,
        stale_pins: programs::stale_pins(instance, &interfaces)?,
    })
}

fn fast_maps(maps: &PinnedMaps) -> Result<Fast> {
    let uplink = maps.uplink.get(&0, 0).explain(|| "cannot read the uplink")?;
    let ports = maps.ports.iter().collect::<Result<_, _>>();
    let taps = maps.taps.keys().collect::<Result<_, _>>();
    let endpoints = maps.endpoints.iter().collect::<Result<_, _>>();
    let guest_macs = maps.guest_macs.iter().collect::<Result<_, _>>();
    Ok(Fast {
        uplink: (uplink != maps::Uplink::default()).then_some(uplink),
        ports: ports.explain(|| "cannot read the ports")?,
        taps: taps.explain(|| "cannot read the taps")?,
        endpoints: endpoints.explain(|| "cannot read the endpoints")?,
        guest_macs: guest_macs.explain(|| "cannot read the guests' Ethernet addresses")?,
    })
}

/// What is attached to the host's links that could have programs; when it is not known what the fast path was told, any
/// link could.
fn attached(
    host: &Netns,
    instance: &Instance,
    links: &BTreeMap<String, Link>,
    programs: &Programs,
    hook: Option<Hook>,
    (fast, blind): (&Fast, bool),
    depth: Depth,
) -> Result<BTreeMap<(AttachPoint, String), Attached>> {
    let bridges: BTreeSet<u32> = links
        .values()
        .filter_map(|link| Some((link.index, link.owner(instance)?, link)))
        .filter(|(_, number, link)| topology::is(Role::Bridge, NetnsKind::Host, &link.name, *number))
        .map(|(index, ..)| index)
        .collect();
    let points = |link: &Link| -> Vec<AttachPoint> {
        if let Some(number) = link.owner(instance) {
            topology::host_point(&link.name, number).into_iter().collect()
        } else if link.master.is_some_and(|master| bridges.contains(&master)) || fast.ports.contains_key(&link.index) {
            vec![AttachPoint::ForeignPort]
        } else if blind || fast.uplink.is_some_and(|uplink| uplink.interface == link.index) {
            vec![AttachPoint::Uplink, AttachPoint::UplinkDriver]
        } else {
            Vec::new()
        }
    };
    let candidates = links
        .values()
        .flat_map(|link| points(link).into_iter().map(move |point| (point, link)));
    let mut uplink_ports = 0;
    let candidates = candidates.filter(|(point, _)| match (depth, point) {
        (Depth::Everything, _) | (_, AttachPoint::Uplink | AttachPoint::UplinkDriver) => true,
        // A few say which fast path it is, should one of them be damaged.
        (Depth::Brief, AttachPoint::UplinkPort) => {
            uplink_ports += 1;
            uplink_ports <= 8
        }
        (Depth::Brief, _) => false,
    });
    let found = parallel::each(
        Concurrency::Working,
        candidates.collect(),
        || None,
        async |netlink: &mut Option<Netlink>, (point, link)| {
            let netlink = match netlink {
                Some(netlink) => netlink,
                none => none.insert(Netlink::open(host)?),
            };
            let attached = programs.attached(host, netlink, point, link, hook).await?;
            Ok(((point, link.name.clone()), attached))
        },
    )?;
    found.into_iter().collect()
}

/// Looks into a namespace; `None` when it does not carry the instance's mark.
async fn router(
    name: &str,
    number: u32,
    instance: &Instance,
    desired: Option<&desired::Environment>,
    programs: &Programs,
    hook: Option<Hook>,
) -> Result<Option<Router>> {
    let netns = Netns::open(name)?;
    let netlink = Netlink::open(&netns)?;
    let links = by_name(netlink.links().await?);
    if links.get("lo").is_none_or(|lo| lo.alias != instance.alias(number)) {
        return Ok(None);
    }
    let mut addresses = named(netlink.addresses().await?, &links);
    addresses.retain(|(link, _)| link != "lo");
    let routes = netlink.routes().await?;
    let index_names: BTreeMap<u32, &String> = links.iter().map(|(name, link)| (link.index, name)).collect();
    let routes = routes
        .into_iter()
        .filter_map(|route| Some(((*index_names.get(&route.interface)?).clone(), route)))
        .map(|(name, route)| (route, name))
        .collect();
    let is_inside = |index: u32| {
        let name = index_names.get(&index);
        name.is_some_and(|name| topology::is(Role::RouterInside, NetnsKind::Router, name, number))
    };
    let neighbours = netlink.neighbours().await?;
    let neighbours = neighbours
        .into_iter()
        .filter(|(index, ..)| is_inside(*index))
        .map(|(_, address, mac)| (address, mac))
        .collect();
    let mut attached = BTreeMap::new();
    for link in links.values() {
        let spec = topology::spec(NetnsKind::Router, &link.name, number);
        if let Some(point) = spec.and_then(|spec| spec.attach_point) {
            let state = programs.attached(&netns, &netlink, point, link, hook).await?;
            attached.insert((point, link.name.clone()), state);
        }
    }
    let keys: Vec<&str> = desired
        .into_iter()
        .flat_map(|desired| sysctl_keys(desired, NetnsKind::Router))
        .collect();
    let sysctls = sysctls(&netns, &keys)?;
    Ok(Some(Router {
        links,
        addresses: addresses.into_iter().collect(),
        routes,
        sysctls,
        attached,
        neighbours,
    }))
}

fn by_name(links: Vec<Link>) -> BTreeMap<String, Link> {
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}

fn named(addresses: Vec<(u32, Ipv4Net)>, links: &BTreeMap<String, Link>) -> Vec<(String, Ipv4Net)> {
    let names: BTreeMap<u32, &String> = links.values().map(|link| (link.index, &link.name)).collect();
    addresses
        .into_iter()
        .filter_map(|(index, address)| Some(((*names.get(&index)?).clone(), address)))
        .collect()
}

fn sysctl_keys(environment: &desired::Environment, netns: NetnsKind) -> impl Iterator<Item = &str> {
    environment
        .sysctls
        .iter()
        .filter(move |sysctl| sysctl.place == netns)
        .map(|sysctl| sysctl.key.as_str())
}

fn sysctls(netns: &Netns, keys: &[&str]) -> Result<BTreeMap<String, String>> {
    // Opening them takes a while when there are many namespaces.
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let values = Sysctls::open(netns)?.read(keys)?.into_iter();
    Ok(values.map(|(key, value)| (key.to_owned(), value)).collect())
}

//! The observation by environment, so that a look at each of thousands does not look at all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use envnet_common::Address;

use crate::{
    kernel::{netlink::Link, netns::NetnsKind, programs::Attached},
    names::Instance,
    observe::Observed,
    topology::{self, AttachPoint, Role, Topology},
};

/// A port that the fast path has been told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// Its interface index.
    pub index: u32,
    /// Its name, while the interface is there.
    pub link: Option<String>,
}

/// An observation with what belongs to which environment.
pub struct ObservedIndex<'a> {
    /// All there is.
    pub observed: &'a Observed,
    /// Whose marks count.
    pub instance: &'a Instance,
    links: HashMap<u32, Vec<&'a Link>>,
    by_index: HashMap<u32, &'a Link>,
    ports: HashMap<u32, Vec<&'a Link>>,
    /// Links by their alternative names.
    altnames: HashMap<&'a str, &'a str>,
    accelerated: HashMap<u32, BTreeMap<&'a str, AttachPoint>>,
    endpoints: HashMap<u32, Vec<Address>>,
    entries: HashMap<u32, Vec<KnownPort>>,
}

impl<'a> ObservedIndex<'a> {
    /// Sorts an observation.
    #[must_use]
    pub fn new(observed: &'a Observed, instance: &'a Instance) -> Self {
        let mut known = Self {
            observed,
            instance,
            links: HashMap::new(),
            by_index: HashMap::new(),
            ports: HashMap::new(),
            altnames: HashMap::new(),
            accelerated: HashMap::new(),
            endpoints: HashMap::new(),
            entries: HashMap::new(),
        };
        for link in observed.links.values() {
            known.by_index.insert(link.index, link);
            let altnames = link.altnames.iter().map(|name| (name.as_str(), link.name.as_str()));
            known.altnames.extend(altnames);
            if let Some(master) = link.master {
                known.ports.entry(master).or_default().push(link);
            }
            if let Some(number) = link.owner(instance) {
                known.links.entry(number).or_default().push(link);
            }
        }
        for ((point, name), attached) in &observed.attached {
            let link = observed.links.get(name);
            let home = link.and_then(|link| known.home(link.index));
            if let Some(number) = home.filter(|_| point.is_told() && *attached != Attached::Nothing) {
                known.accelerated.entry(number).or_default().insert(name, *point);
            }
        }
        for (external, endpoint) in &observed.fast.endpoints {
            let number = endpoint.environment.number;
            known.endpoints.entry(number).or_default().push(*external);
        }
        for (index, port) in &observed.fast.ports {
            let number = port.environment.number;
            let link = known.link_at(*index).map(|link| link.name.clone());
            let port = KnownPort { index: *index, link };
            known.entries.entry(number).or_default().push(port);
        }
        known
    }

    /// The environments of which anything at all is there.
    #[must_use]
    pub fn environments(&self) -> BTreeSet<u32> {
        let observed = self.observed;
        let links = self.links.keys().copied();
        links
            .chain(observed.routers.keys().copied())
            .chain(observed.names_left.iter().copied())
            .chain(observed.environments.values().map(|environment| environment.number))
            .chain(observed.mappings.keys().map(|key| key.environment))
            .chain(observed.counted.iter().map(|key| key.environment))
            .chain(observed.router_wans.values().copied())
            .chain(
                observed
                    .fast
                    .endpoints
                    .values()
                    .map(|endpoint| endpoint.environment.number),
            )
            .chain(observed.fast.ports.values().map(|port| port.environment.number))
            .collect()
    }

    /// The topology that an environment has: the one that most of its links are of. Topologies may share names of links.
    #[must_use]
    pub fn topology(&self, number: u32) -> &'static Topology {
        let router = self.observed.routers.get(&number);
        let present = |topology: &Topology| {
            let in_host = self.links_of(number).map(|link| (NetnsKind::Host, &link.name));
            let in_router = router.into_iter().flat_map(|router| router.links.keys());
            let links = in_host.chain(in_router.map(|name| (NetnsKind::Router, name)));
            links
                .filter(|(netns, name)| topology.spec(*netns, name, number).is_some())
                .count()
        };
        // Of several, the first; of none, the default.
        let known = topology::ALL
            .iter()
            .rev()
            .map(|topology| (present(topology), *topology));
        known
            .filter(|(links, _)| *links > 0)
            .max_by_key(|(links, _)| *links)
            .map_or(topology::DEFAULT, |(_, topology)| topology)
    }

    /// The links of the host that were made for an environment.
    pub fn links_of(&self, number: u32) -> impl Iterator<Item = &'a Link> {
        self.links.get(&number).into_iter().flatten().copied()
    }

    /// The link of the host that has an index.
    #[must_use]
    pub fn link_at(&self, index: u32) -> Option<&'a Link> {
        self.by_index.get(&index).copied()
    }

    /// The ports of an environment's bridge.
    pub fn ports_of(&self, number: u32) -> impl Iterator<Item = &'a Link> {
        let bridge = self.topology(number).name(Role::Bridge, number);
        let bridge = bridge.and_then(|bridge| self.observed.links.get(&bridge));
        let ports = bridge.and_then(|bridge| self.ports.get(&bridge.index));
        ports.into_iter().flatten().copied()
    }

    /// The link that has this name besides its own.
    #[must_use]
    pub fn named(&self, altname: &str) -> Option<&'a str> {
        self.altnames.get(altname).copied()
    }

    /// The environment a link of the host is part of: as envnet's own link, as a port of its bridge, or as what was one when
    /// the fast path was told.
    #[must_use]
    pub fn home(&self, index: u32) -> Option<u32> {
        let link = self.link_at(index)?;
        let master = || link.master.and_then(|master| self.link_at(master));
        let told = || self.observed.fast.ports.get(&index);
        link.owner(self.instance)
            .or_else(|| master().and_then(|bridge| bridge.owner(self.instance)))
            .or_else(|| told().map(|port| port.environment.number))
    }

    /// The links of an environment that programs of the fast path are on.
    pub fn accelerated(&self, number: u32) -> impl Iterator<Item = (&'a str, AttachPoint)> {
        let links = self.accelerated.get(&number).into_iter().flatten();
        links.map(|(link, point)| (*link, *point))
    }

    /// The external addresses of an environment that the fast path knows.
    #[must_use]
    pub fn endpoints_of(&self, number: u32) -> &[Address] {
        self.endpoints.get(&number).map_or(&[], Vec::as_slice)
    }

    /// The ports of an environment that the fast path knows.
    #[must_use]
    pub fn entries_of(&self, number: u32) -> &[KnownPort] {
        self.entries.get(&number).map_or(&[], Vec::as_slice)
    }
}

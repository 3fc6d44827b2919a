//! What the kernel should look like: a pure function of the configuration and a few facts about the host.

mod acceleration;

use std::{collections::BTreeMap, net::Ipv4Addr};

use envnet_common::{
    Mac,
    maps::{self, Mapping, MappingKey},
};
use ipnet::Ipv4Net;

pub(crate) use self::acceleration::neighbour_sysctls;
pub use self::acceleration::{Fast, Port, Uplink, reason};
use crate::{
    config::Config,
    kernel::netns::NetnsKind,
    names::{self, Instance, MacRole},
    topology::{self, Inputs, Role, Topology},
};

/// What must be known of the host to say what is desired.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Tells hosts apart: the machine's identity and the uplink's Ethernet address.
    pub identity: String,
    /// The uplink's interface index.
    pub uplink: u32,
    /// The uplink's Ethernet address.
    pub uplink_mac: Mac,
    /// The uplink's MTU in bytes, which everything behind it shares.
    pub mtu: u32,
    /// User number of the taps' owner; root's when the file names neither user nor group.
    pub tap_user: Option<u32>,
    /// Group number of the taps.
    pub tap_group: Option<u32>,
}

/// Everything that is desired.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The environments by number.
    pub environments: BTreeMap<u32, Environment>,
    /// The uplink.
    pub uplink: Uplink,
}

/// Everything one environment consists of. All links carry the environment's ifalias.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its number E.
    pub number: u32,
    /// What it is made of.
    pub topology: &'static Topology,
    /// Name of its router namespace.
    pub namespace: String,
    /// Its links in the order they can be created in, both namespaces.
    pub links: Vec<Link>,
    /// Sysctls that must have a value: first the router's own, which its interfaces inherit.
    pub sysctls: Vec<Sysctl>,
    /// The router's addresses, by interface name.
    pub addresses: Vec<(String, Ipv4Net)>,
    /// The router's routes.
    pub routes: Vec<Route>,
    /// What the programs are told about the environment.
    pub entry: maps::Environment,
    /// One mapping per guest and one for the router.
    pub mappings: BTreeMap<MappingKey, Mapping>,
    /// What the programs at its ports are told.
    pub fast: Fast,
}

impl Desired {
    /// Whether a link of the host is one of envnet's own.
    #[must_use]
    pub fn makes(&self, name: &str) -> bool {
        let mut links = self.environments.values().flat_map(|environment| &environment.links);
        links.any(|link| link.place == NetnsKind::Host && link.name == name)
    }
}

impl Environment {
    /// The name of its link of one role, if its topology has one.
    #[must_use]
    pub fn link(&self, role: Role) -> Option<String> {
        self.topology.name(role, self.number)
    }
}

/// A link that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where.
    pub place: NetnsKind,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address, where it matters.
    pub mac: Option<Mac>,
    /// Name of the bridge in the same namespace it is a port of.
    pub master: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Which link-local groups (01:80:c2:00:00:0X, a bit each) it forwards as a port. Frames to the others go to the host
    /// on the port itself, past the bridge.
    pub group_forwarding: u16,
    /// Whether it may have programs: what holds them is made with it, because later it would cost the packets that the link
    /// is about to send.
    pub programs: bool,
}

/// How a link is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The environment's bridge.
    Bridge,
    /// In the host, with its other end in the router.
    Veth {
        /// Name of the other end.
        peer: String,
        /// Ethernet address of the other end.
        peer_mac: Mac,
        /// Interface index the other end asks for; 0 for any.
        peer_index: u32,
    },
    /// The other end of a [`LinkKind::Veth`]: comes and goes with it.
    VethPeer,
    /// In the router, on a parent in the host.
    Macvlan {
        /// Name of the parent.
        parent: String,
        /// Interface index it asks for.
        index: u32,
    },
    /// A persistent tap.
    Tap {
        /// Owner.
        user: Option<u32>,
        /// Group.
        group: Option<u32>,
    },
}

/// A sysctl with the value it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// In which namespace.
    pub place: NetnsKind,
    /// Path below `/proc/sys/net`.
    pub key: String,
    /// The value as the kernel prints it.
    pub value: String,
}

/// A route of the router.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination.
    pub destination: Ipv4Net,
    /// Next hop; directly connected when absent.
    pub gateway: Option<Ipv4Addr>,
    /// Name of the interface.
    pub interface: String,
    /// Source of what the router itself sends.
    pub source: Ipv4Addr,
    /// Metric.
    pub metric: u32,
}

/// Says what a configuration wants.
#[must_use]
pub fn desired(config: &Config, instance: &Instance, host: &HostFacts) -> Desired {
    let numbers = config.environments.iter();
    Desired {
        environments: numbers
            .map(|&number| (number, environment(config, instance, host, number)))
            .collect(),
        uplink: acceleration::uplink(config, host),
    }
}

fn environment(config: &Config, instance: &Instance, host: &HostFacts, number: u32) -> Environment {
    let topology = topology::DEFAULT;
    let addresses = &config.addresses;
    let mac = |role| names::derived_mac(&host.identity, instance, number, role);
    let wan_mac = mac(MacRole::RouterWan);
    let subnet = addresses.external_subnet(number);
    let mapping = |internal: Ipv4Addr| {
        let key = MappingKey {
            environment: number,
            internal: internal.into(),
        };
        (
            key,
            Mapping {
                external: addresses.external_address(number, internal).into(),
            },
        )
    };
    let entry = maps::Environment {
        number,
        internal: addresses.internal.network().into(),
        external: subnet.network().into(),
        mask: subnet.netmask().into(),
        mac: wan_mac,
        reserved: [0; 2],
    };
    let parts = (topology.parts)(&Inputs {
        config,
        host,
        number,
        entry,
        mac: &mac,
    });
    let router = Ipv4Net::new_assert(addresses.router, addresses.internal.prefix_len());
    Environment {
        number,
        topology,
        namespace: instance.router_namespace(number),
        links: parts.links,
        sysctls: parts.sysctls,
        addresses: parts.inside.into_iter().map(|link| (link, router)).collect(),
        routes: parts.routes,
        entry,
        fast: acceleration::environment(config, entry, parts.ports),
        mappings: config
            .vms
            .iter()
            .map(|vm| vm.address)
            .chain([addresses.router])
            .map(mapping)
            .collect(),
    }
}

/// The index `gwE` has in its namespace.
#[must_use]
pub fn router_wan_index(number: u32) -> u32 {
    names::ROUTER_WAN_INDEX_BASE + number
}

//! What the kernel should look like: a pure function of the configuration and a few facts about the host.

mod acceleration;

use std::{collections::BTreeMap, net::Ipv4Addr};

use envnet_common::{
    Mac,
    maps::{self, Mapping, MappingKey},
};
use ipnet::Ipv4Net;

pub use self::acceleration::{Fast, Port, Uplink, reason};
use crate::{
    config::{Config, UplinkMode},
    kernel::netns::Place,
    names::{self, Instance, MacRole},
};

/// What must be known of the host to say what is wanted.
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
    /// User number of the taps' owner.
    pub tap_user: Option<u32>,
    /// Group number of the taps.
    pub tap_group: Option<u32>,
}

/// Everything that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The environments by number.
    pub environments: BTreeMap<u32, Environment>,
    /// The uplink, when it is accelerated.
    pub uplink: Option<Uplink>,
}

/// Everything one environment consists of. All links carry the environment's ifalias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its number E.
    pub number: u32,
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
    /// What the fast path needs, if there is one.
    pub fast: Option<Fast>,
}

/// A link that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where.
    pub place: Place,
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

/// All link-local groups but 01:80:c2:00:00:01, which are pause frames: no bridge forwards those, nor hands them on.
const ALL_GROUPS: u16 = 0xfffd;

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
    pub place: Place,
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
pub fn wanted(config: &Config, instance: &Instance, host: &HostFacts) -> Wanted {
    let numbers = config.environments.iter();
    Wanted {
        environments: numbers
            .map(|&number| (number, environment(config, instance, host, number)))
            .collect(),
        uplink: acceleration::uplink(config, host),
    }
}

fn environment(config: &Config, instance: &Instance, host: &HostFacts, number: u32) -> Environment {
    let addresses = &config.addresses;
    let mac = |role| names::derived_mac(&host.identity, instance, number, role);
    let gateway_mac = mac(MacRole::Gateway);
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
        mac: gateway_mac,
        reserved: [0; 2],
    };
    Environment {
        number,
        namespace: instance.router_namespace(number),
        links: links(config, host, number, mac),
        sysctls: sysctls(config, number),
        addresses: vec![(
            names::router_inside(number),
            Ipv4Net::new_assert(addresses.router, addresses.internal.prefix_len()),
        )],
        routes: routes(config, number),
        entry,
        fast: acceleration::environment(config, entry),
        mappings: config
            .vms
            .iter()
            .map(|vm| vm.address)
            .chain([addresses.router])
            .map(mapping)
            .collect(),
    }
}

fn links(config: &Config, host: &HostFacts, number: u32, mac: impl Fn(MacRole) -> Mac) -> Vec<Link> {
    let bridge = names::bridge(number);
    let link = |place, name, kind, mac, master: Option<String>| Link {
        place,
        programs: kind != LinkKind::VethPeer,
        name,
        kind,
        mac,
        // How a user's own bridge treats its ports is the user's affair.
        group_forwarding: if master.as_ref() == Some(&bridge) {
            ALL_GROUPS
        } else {
            0
        },
        master,
        mtu: host.mtu,
    };
    let inside = LinkKind::Veth {
        peer: names::router_inside(number),
        peer_mac: names::ROUTER_INSIDE_MAC,
        peer_index: 0,
    };
    let mut links = vec![
        link(
            Place::Host,
            bridge.clone(),
            LinkKind::Bridge,
            Some(mac(MacRole::Bridge)),
            None,
        ),
        link(
            Place::Host,
            names::router_port(number),
            inside,
            Some(mac(MacRole::RouterPort)),
            Some(bridge.clone()),
        ),
        link(
            Place::Router,
            names::router_inside(number),
            LinkKind::VethPeer,
            Some(names::ROUTER_INSIDE_MAC),
            None,
        ),
    ];
    let index = gateway_index(number);
    let gateway = names::gateway(number);
    let gateway_mac = mac(MacRole::Gateway);
    match config.uplink.mode {
        UplinkMode::Macvlan => {
            let kind = LinkKind::Macvlan {
                parent: config.uplink.interface.clone(),
                index,
            };
            links.push(link(Place::Router, gateway, kind, Some(gateway_mac), None));
        }
        UplinkMode::Bridge => {
            let kind = LinkKind::Veth {
                peer: gateway.clone(),
                peer_mac: gateway_mac,
                peer_index: index,
            };
            links.push(link(
                Place::Host,
                names::gateway_port(number),
                kind,
                Some(mac(MacRole::GatewayPort)),
                Some(config.uplink.interface.clone()),
            ));
            links.push(link(
                Place::Router,
                gateway,
                LinkKind::VethPeer,
                Some(gateway_mac),
                None,
            ));
        }
    }
    links.extend(config.vms.iter().map(|vm| {
        let kind = LinkKind::Tap {
            user: host.tap_user,
            group: host.tap_group,
        };
        let name = names::tap(number, config.addresses.host_number(vm.address));
        link(Place::Host, name, kind, None, Some(bridge.clone()))
    }));
    links
}

/// The index `gwE` has in its namespace.
#[must_use]
pub fn gateway_index(number: u32) -> u32 {
    names::GATEWAY_INDEX_BASE + number
}

fn routes(config: &Config, number: u32) -> Vec<Route> {
    let source = config.addresses.router;
    let interface = names::gateway(number);
    // The whole pool is on the uplink's link, the environment's own subnet included: an unmapped address in it is asked
    // for by ARP and found nowhere, instead of being forwarded in a circle.
    let pool = Route {
        destination: config.addresses.external,
        gateway: None,
        interface: interface.clone(),
        source,
        metric: 0,
    };
    let default = config.uplink.gateway.map(|gateway| Route {
        destination: Ipv4Net::default(),
        gateway: Some(gateway),
        interface,
        source,
        metric: 0,
    });
    [pool].into_iter().chain(default).collect()
}

/// A new namespace may inherit the host's settings, so that everything that matters is said.
const ROUTER_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    // The programs check sources at the border, and count what they drop, which the kernel would not.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // A hairpinned packet leaves where it came from; a redirect would tell the guest of an external address.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/proxy_arp", "0"),
    ("ipv4/conf/default/proxy_arp", "0"),
    // The router answers for its inside address on the inside only; the outside is answered by `router_ingress`.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
];

fn sysctls(config: &Config, number: u32) -> Vec<Sysctl> {
    let set = |place, key: String, value: &str| Sysctl {
        place,
        key,
        value: value.to_owned(),
    };
    let mut sysctls: Vec<_> = ROUTER_SYSCTLS
        .iter()
        .map(|(key, value)| set(Place::Router, (*key).to_owned(), value))
        .collect();
    for conf in ["all", "default"] {
        sysctls.push(set(Place::Router, format!("ipv6/conf/{conf}/disable_ipv6"), "1"));
    }
    for (interface, outside) in [(names::router_inside(number), false), (names::gateway(number), true)] {
        for (key, value) in acceleration::neighbour_sysctls(config.uplink.accelerate, outside) {
            sysctls.push(set(Place::Router, format!("ipv4/neigh/{interface}/{key}"), value));
        }
    }
    let bridge = names::bridge(number);
    // Without forwarding there is no proxy ARP either, whatever `all` says; 8 means never to answer ARP.
    for (key, value) in [("forwarding", "0"), ("proxy_arp", "0"), ("arp_ignore", "8")] {
        sysctls.push(set(Place::Host, format!("ipv4/conf/{bridge}/{key}"), value));
    }
    let mut own = vec![bridge, names::router_port(number)];
    if config.uplink.mode == UplinkMode::Bridge {
        own.push(names::gateway_port(number));
    }
    own.extend(
        config
            .vms
            .iter()
            .map(|vm| names::tap(number, config.addresses.host_number(vm.address))),
    );
    // A guest's router advertisement must not give the host an address or a route.
    sysctls.extend(
        own.iter()
            .map(|link| set(Place::Host, format!("ipv6/conf/{link}/disable_ipv6"), "1")),
    );
    sysctls
}

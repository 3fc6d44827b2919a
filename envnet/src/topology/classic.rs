//! The classic topology: each environment has a bridge, and a router in a network namespace of its own.
//!
//! The router is behind a veth pair on the inside, and on the outside behind a macvlan on the uplink or, when the uplink is a
//! bridge, behind a second veth pair.

use super::{AttachPoint, FORWARDED_GROUPS, Inputs, LinkSpec, Parts, Role, Topology};
use crate::{
    config::UplinkMode,
    desired::{Link, LinkKind, Port, Route, Sysctl, neighbour_sysctls, router_wan_index},
    kernel::netns::NetnsKind,
    names::{self, MacRole},
};
use envnet_common::Address;
use ipnet::Ipv4Net;

/// The topology. The order is the one in which programs are attached.
pub static TOPOLOGY: Topology = Topology {
    links: &[
        LinkSpec {
            role: Role::RouterWan,
            netns: NetnsKind::Router,
            name: router_wan,
            attach_point: Some(AttachPoint::RouterWan),
        },
        LinkSpec {
            role: Role::Bridge,
            netns: NetnsKind::Host,
            name: bridge,
            attach_point: Some(AttachPoint::Bridge),
        },
        LinkSpec {
            role: Role::RouterPort,
            netns: NetnsKind::Host,
            name: router_port,
            attach_point: Some(AttachPoint::RouterPort),
        },
        LinkSpec {
            role: Role::RouterInside,
            netns: NetnsKind::Router,
            name: router_inside,
            attach_point: None,
        },
        LinkSpec {
            role: Role::UplinkPort,
            netns: NetnsKind::Host,
            name: uplink_port,
            attach_point: Some(AttachPoint::UplinkPort),
        },
    ],
    parts,
};

/// The environment's bridge, in the host's namespace.
#[must_use]
pub fn bridge(environment: u32) -> String {
    format!("br{environment}")
}

/// The router's WAN port, in the router namespace.
#[must_use]
pub fn router_wan(environment: u32) -> String {
    format!("gw{environment}")
}

/// The other end of `gwE` when the uplink is a bridge, in the host's namespace.
#[must_use]
pub fn uplink_port(environment: u32) -> String {
    format!("peer2-gw{environment}")
}

/// The bridge's port towards the router, in the host's namespace.
#[must_use]
pub fn router_port(environment: u32) -> String {
    format!("peer1-br{environment}")
}

/// The router's inside port, in the router namespace.
#[must_use]
pub fn router_inside(environment: u32) -> String {
    format!("peer1-gw{environment}")
}

fn parts(inputs: &Inputs<'_>) -> Parts {
    Parts {
        links: links(inputs),
        sysctls: sysctls(inputs),
        inside: vec![router_inside(inputs.number)],
        routes: routes(inputs),
        ports: ports(inputs),
    }
}

/// The taps of the configured guests.
fn taps(inputs: &Inputs<'_>) -> impl Iterator<Item = (String, Address)> {
    let addresses = &inputs.config.addresses;
    let number = inputs.number;
    let guests = inputs.config.vms.iter().filter(|vm| !vm.floating);
    let guests = guests.map(|vm| vm.address);
    guests.map(move |address| (names::tap(number, addresses.host_number(address)), address.into()))
}

fn links(inputs: &Inputs<'_>) -> Vec<Link> {
    let Inputs {
        config,
        host,
        number,
        mac,
        ..
    } = *inputs;
    let bridge = bridge(number);
    let link = |place, name, kind, mac, master: Option<String>| Link {
        place,
        programs: kind != LinkKind::VethPeer,
        name,
        kind,
        mac,
        // How a user's own bridge treats its ports is the user's affair.
        group_forwarding: if master.as_ref() == Some(&bridge) {
            FORWARDED_GROUPS
        } else {
            0
        },
        master,
        mtu: host.mtu,
    };
    let inside = LinkKind::Veth {
        peer: router_inside(number),
        peer_mac: names::ROUTER_INSIDE_MAC,
        peer_index: 0,
    };
    let mut links = vec![
        link(
            NetnsKind::Host,
            bridge.clone(),
            LinkKind::Bridge,
            Some(mac(MacRole::Bridge)),
            None,
        ),
        link(
            NetnsKind::Host,
            router_port(number),
            inside,
            Some(mac(MacRole::RouterPort)),
            Some(bridge.clone()),
        ),
        link(
            NetnsKind::Router,
            router_inside(number),
            LinkKind::VethPeer,
            Some(names::ROUTER_INSIDE_MAC),
            None,
        ),
    ];
    let index = router_wan_index(number);
    let wan = router_wan(number);
    let wan_mac = mac(MacRole::RouterWan);
    match config.uplink.mode {
        UplinkMode::Macvlan => {
            let kind = LinkKind::Macvlan {
                parent: config.uplink.interface.clone(),
                index,
            };
            links.push(link(NetnsKind::Router, wan, kind, Some(wan_mac), None));
        }
        UplinkMode::Bridge => {
            let kind = LinkKind::Veth {
                peer: wan.clone(),
                peer_mac: wan_mac,
                peer_index: index,
            };
            links.push(link(
                NetnsKind::Host,
                uplink_port(number),
                kind,
                Some(mac(MacRole::UplinkPort)),
                Some(config.uplink.interface.clone()),
            ));
            links.push(link(NetnsKind::Router, wan, LinkKind::VethPeer, Some(wan_mac), None));
        }
    }
    links.extend(taps(inputs).map(|(name, _)| {
        let kind = LinkKind::Tap {
            user: host.tap_user,
            group: host.tap_group,
        };
        link(NetnsKind::Host, name, kind, None, Some(bridge.clone()))
    }));
    links
}

fn routes(inputs: &Inputs<'_>) -> Vec<Route> {
    let config = inputs.config;
    let source = config.addresses.router;
    let interface = router_wan(inputs.number);
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
    // A packet to one machine in a frame for all is dropped (RFC 1122, section 3.3.6).
    ("ipv4/conf/all/drop_unicast_in_l2_multicast", "1"),
    // The router answers for its inside address on the inside only; the outside is answered by `router_ingress`.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
];

fn sysctls(inputs: &Inputs<'_>) -> Vec<Sysctl> {
    let (config, number) = (inputs.config, inputs.number);
    let set = |place, key: String, value: &str| Sysctl {
        place,
        key,
        value: value.to_owned(),
    };
    let mut sysctls: Vec<_> = ROUTER_SYSCTLS
        .iter()
        .map(|(key, value)| set(NetnsKind::Router, (*key).to_owned(), value))
        .collect();
    for conf in ["all", "default"] {
        sysctls.push(set(NetnsKind::Router, format!("ipv6/conf/{conf}/disable_ipv6"), "1"));
    }
    for (interface, outside) in [(router_inside(number), false), (router_wan(number), true)] {
        for (key, value) in neighbour_sysctls(config.uplink.accelerate, outside) {
            sysctls.push(set(NetnsKind::Router, format!("ipv4/neigh/{interface}/{key}"), value));
        }
    }
    // Answers to a guest that answers no ARP wait for it. They hold memory that the kernel gives the echo replies of all
    // namespaces together, so that little may wait (`unres_qlen_bytes` counts it whole).
    let waiting = format!("ipv4/neigh/{}/unres_qlen_bytes", router_inside(number));
    sysctls.push(set(NetnsKind::Router, waiting, "8192"));
    let bridge = bridge(number);
    // Without forwarding there is no proxy ARP either, whatever `all` says; 8 means never to answer ARP.
    for (key, value) in [("forwarding", "0"), ("proxy_arp", "0"), ("arp_ignore", "8")] {
        sysctls.push(set(NetnsKind::Host, format!("ipv4/conf/{bridge}/{key}"), value));
    }
    let mut own = vec![bridge, router_port(number)];
    if config.uplink.mode == UplinkMode::Bridge {
        own.push(uplink_port(number));
    }
    own.extend(taps(inputs).map(|(name, _)| name));
    // A guest's router advertisement must not give the host an address or a route.
    sysctls.extend(
        own.iter()
            .map(|link| set(NetnsKind::Host, format!("ipv6/conf/{link}/disable_ipv6"), "1")),
    );
    sysctls
}

fn ports(inputs: &Inputs<'_>) -> Vec<Port> {
    let (config, number) = (inputs.config, inputs.number);
    let exit_is_port = config.uplink.mode == UplinkMode::Bridge;
    let exit = if exit_is_port {
        uplink_port(number)
    } else {
        config.uplink.interface.clone()
    };
    let port = |point, link, internal| Port {
        link,
        point,
        internal,
        environment: inputs.entry,
        router: router_port(number),
        exit: exit.clone(),
        exit_is_port,
    };
    let router = config.addresses.router.into();
    let mut ports = vec![
        port(AttachPoint::RouterPort, router_port(number), router),
        // Not to have programs of the fast path, but for `bridge_ingress` to know where it is.
        port(AttachPoint::Bridge, bridge(number), Address::UNSPECIFIED),
    ];
    if exit_is_port {
        ports.push(port(AttachPoint::UplinkPort, uplink_port(number), Address::UNSPECIFIED));
    }
    ports.extend(taps(inputs).map(|(tap, internal)| port(AttachPoint::GuestPort, tap, internal)));
    ports
}

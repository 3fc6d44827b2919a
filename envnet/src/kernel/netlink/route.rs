//! Routes as the kernel reports and takes them.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
    },
};

/// A unicast IPv4 route in the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination; 0.0.0.0/0 for the default route.
    pub destination: Ipv4Net,
    /// Next hop, reached through the interface whether or not a prefix says so (`onlink`).
    pub gateway: Option<Ipv4Addr>,
    /// Outgoing interface.
    pub interface: u32,
    /// Source address of what the router itself sends.
    pub source: Option<Ipv4Addr>,
    /// Metric; 0 is the most preferred.
    pub metric: u32,
}

pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    if !main || header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let (mut gateway, mut source, mut interface, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        gateway,
        interface: interface?,
        source,
        metric,
    })
}

fn builder(route: &Route) -> RouteMessageBuilder<Ipv4Addr> {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.addr(), route.destination.prefix_len())
        .output_interface(route.interface);
    if route.metric != 0 {
        builder = builder.priority(route.metric);
    }
    match route.gateway {
        Some(gateway) => builder.gateway(gateway),
        None => builder,
    }
}

/// The message that adds a route.
pub(super) fn new_route(route: &Route) -> RouteMessage {
    let mut builder = builder(route);
    if let Some(source) = route.source {
        builder = builder.pref_source(source);
    }
    match route.gateway {
        Some(_) => builder.onlink().build(),
        None => builder.scope(RouteScope::Link).build(),
    }
}

/// The message that deletes a route, whoever made it.
pub(super) fn old_route(route: &Route) -> RouteMessage {
    builder(route)
        .protocol(RouteProtocol::Unspec)
        .scope(RouteScope::NoWhere)
        .build()
}

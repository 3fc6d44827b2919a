//! What an environment consists of. The rest of envnet knows no link by its name and asks for the [`Role`] that a link has.
//!
//! A new topology is a file here with a [`Topology`], a `mod` line, and an entry of [`ALL`], by which an environment is recognized
//! that is there. Which one is made is said in `desired::environment`.

mod attach_point;
pub mod classic;

use envnet_common::{Mac, maps};

pub use self::attach_point::AttachPoint;
pub(crate) use self::attach_point::{PROGRAMS, Program};
use crate::{
    config::Config,
    desired::{HostFacts, Link, Port, Route, Sysctl},
    kernel::netns::NetnsKind,
    names::MacRole,
};

/// Every topology that may be found on a host.
pub const ALL: &[&Topology] = &[&classic::TOPOLOGY];

/// The topology of an environment that says nothing else.
pub const DEFAULT: &Topology = &classic::TOPOLOGY;

/// The link-local groups (01:80:c2:00:00:0X, a bit each) that an environment's bridge forwards, whoever has made the port: all but
/// 01:80:c2:00:00:01, which are pause frames: no bridge forwards those, nor hands them on. A frame to a group that a port does
/// not forward would go to the host.
pub const FORWARDED_GROUPS: u16 = 0xfffd;

/// What the links of an environment are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The bridge that the guests are plugged into.
    Bridge,
    /// The bridge's port towards the router.
    RouterPort,
    /// The router's port towards the guests.
    RouterInside,
    /// The router's port towards the outside. It comes up last and goes first.
    RouterWan,
    /// The uplink bridge's port towards the router.
    UplinkPort,
    /// The tap of a guest.
    Tap,
}

/// A link that every environment has one of, or may have.
#[derive(Debug)]
pub struct LinkSpec {
    /// What it is for.
    pub role: Role,
    /// The namespace it is in.
    pub netns: NetnsKind,
    /// Its name in environment E.
    pub name: fn(u32) -> String,
    /// Which programs run on it.
    pub attach_point: Option<AttachPoint>,
}

/// What environments of one kind consist of.
#[derive(Debug)]
pub struct Topology {
    /// Links whose names depend on the environment only. Taps are not among them: they depend on the configuration.
    pub links: &'static [LinkSpec],
    /// Everything that one environment must have.
    pub parts: fn(&Inputs<'_>) -> Parts,
}

/// What the parts of an environment depend on.
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The host.
    pub host: &'a HostFacts,
    /// The environment's number E.
    pub number: u32,
    /// What the programs are told about the environment.
    pub entry: maps::Environment,
    /// The derived Ethernet addresses.
    pub mac: &'a dyn Fn(MacRole) -> Mac,
}

/// What must be there of one environment.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The links in the order they can be created in.
    pub links: Vec<Link>,
    /// The sysctls: first the router's own, which its interfaces inherit.
    pub sysctls: Vec<Sysctl>,
    /// The interfaces of the router that have its inside address.
    pub inside: Vec<String>,
    /// The router's routes.
    pub routes: Vec<Route>,
    /// The links that the fast path is told of.
    pub ports: Vec<Port>,
}

impl Topology {
    /// The name of an environment's link of one role, if the topology has one.
    #[must_use]
    pub fn name(&self, role: Role, environment: u32) -> Option<String> {
        let spec = self.links.iter().find(|spec| spec.role == role)?;
        Some((spec.name)(environment))
    }

    /// The link of an environment that has this name, unless it is a tap.
    #[must_use]
    pub fn spec(&self, netns: NetnsKind, name: &str, environment: u32) -> Option<&'static LinkSpec> {
        let mut specs = self.links.iter().filter(|spec| spec.netns == netns);
        specs.find(|spec| (spec.name)(environment) == name)
    }

    /// Where programs must be for the environment to be isolated, with the names of the links.
    pub fn border(&self, environment: u32) -> impl Iterator<Item = (AttachPoint, String)> {
        let points = self.links.iter().filter_map(|spec| Some((spec.attach_point?, spec)));
        points
            .filter(|(point, _)| point.is_exclusive())
            .map(move |(point, spec)| (point, (spec.name)(environment)))
    }
}

/// The links of the host's namespace that an environment may have in any topology, without its taps.
pub fn host_links(environment: u32) -> impl Iterator<Item = String> {
    let specs = ALL.iter().flat_map(|topology| topology.links);
    specs
        .filter(|spec| spec.netns == NetnsKind::Host)
        .map(move |spec| (spec.name)(environment))
}

/// The link of an environment that has this name in some topology, unless it is a tap.
#[must_use]
pub fn spec(netns: NetnsKind, name: &str, environment: u32) -> Option<&'static LinkSpec> {
    ALL.iter().find_map(|topology| topology.spec(netns, name, environment))
}

/// Whether a link has a role in an environment of some topology.
#[must_use]
pub fn is(role: Role, netns: NetnsKind, name: &str, environment: u32) -> bool {
    let mut specs = ALL
        .iter()
        .filter_map(|topology| topology.spec(netns, name, environment));
    specs.any(|spec| spec.role == role)
}

/// Where programs may be on a link of the host that envnet made for an environment.
#[must_use]
pub fn host_point(name: &str, environment: u32) -> Option<AttachPoint> {
    spec(NetnsKind::Host, name, environment).map_or(Some(AttachPoint::GuestPort), |spec| spec.attach_point)
}

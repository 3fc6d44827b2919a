//! Why a plan cannot be made.

use std::collections::BTreeMap;

use envnet_common::maps;
use ipnet::Ipv4Net;

use super::fast;
use crate::{
    config::Environments,
    desired::{Desired, Uplink},
    kernel::{netlink::Route, netns::NetnsKind, programs::Attached},
    observe::Observed,
    topology::{self, AttachPoint, Role},
};

/// Why a plan cannot be made: something that is not envnet's is in the way, or a part of the environments cannot be
/// changed without the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A link.
    #[error("link {name} exists and is not envnet's; rename or remove it, or leave environment {environment} out")]
    Link {
        /// Its name.
        name: String,
        /// The environment that wants the name.
        environment: u32,
    },
    /// An alternative name of a link.
    #[error(
        "link {link} has {name} as another name; take it away (`ip link property del dev {link} altname {name}`), or \
         leave environment {environment} out"
    )]
    OtherName {
        /// The link's own name.
        link: String,
        /// The name that is desired.
        name: String,
        /// The environment that wants it.
        environment: u32,
    },
    /// A network namespace.
    #[error(
        "network namespace {name} exists and is not envnet's; rename or remove it, or leave environment {environment} out"
    )]
    Namespace {
        /// Its name.
        name: String,
        /// The environment that wants the name.
        environment: u32,
    },
    /// Pinned maps that are not what the programs expect.
    #[error(
        "{0}; nothing was changed; `envnet detach` removes everything there is, then `envnet attach` makes it anew"
    )]
    Maps(String),
    /// Other environments have another build's programs.
    #[error(
        "with another build's programs, or without one of the pins: {}; run `envnet attach` without --environments first, which \
         mends that for all",
        .0.named()
    )]
    Build(Environments),
    /// Other environments have another pool of external addresses.
    #[error(
        "addresses.external is {desired}, where it was {present} for {}, and all must have the same; run `envnet attach` without \
         --environments, which moves them, or put addresses.external back",
        others.named()
    )]
    Pool {
        /// The other environments.
        others: Environments,
        /// What they have.
        present: Ipv4Net,
        /// What the file says.
        desired: Ipv4Net,
    },
    /// Other environments have another uplink.
    #[error(
        "the uplink, which all environments share, is not as {} had it so far (its [uplink] settings, its MTU, or the \
         interface itself); run `envnet attach` without --environments",
        .0.named()
    )]
    Uplink(Environments),
    /// Another environment has the addresses.
    #[error(
        "environment {environment} is to have {subnet}, where environment {other} is; run `envnet attach` without \
         --environments"
    )]
    Subnet {
        /// The environment.
        environment: u32,
        /// What it is to have.
        subnet: Ipv4Net,
        /// Who has it.
        other: u32,
    },
}

/// Refuses maps that the programs would misread.
pub(super) fn with_maps(observed: &Observed) -> Result<(), Conflict> {
    let unfit = observed.pins.unfit_map();
    unfit.map_or(Ok(()), |why| Err(Conflict::Maps(why.to_owned())))
}

/// Refuses to change a part of the environments when it would change the `others`, too.
pub(super) fn with_others(desired: &Desired, observed: &Observed, others: &[u32]) -> Result<(), Conflict> {
    let all = || others.iter().copied().collect();
    if !observed.pins.programs_loaded() || observed.pins.has_other_layout() {
        return Err(Conflict::Build(all()));
    }
    with_pool_of(desired, observed, others)?;
    let in_use = observed
        .fast
        .ports
        .values()
        .any(|port| others.contains(&port.environment.number));
    let uplink = &desired.uplink;
    if in_use && (!fast::leave(Some(uplink), observed).is_empty() || differs(uplink, observed)) {
        return Err(Conflict::Uplink(all()));
    }
    for environment in desired.environments.values() {
        let entry = environment.entry;
        let mut present = observed
            .environments
            .values()
            .filter(|present| others.contains(&present.number));
        if let Some(other) =
            present.find(|present| present.is_external(entry.external) || entry.is_external(present.external))
            && let Ok(subnet) = Ipv4Net::with_netmask(entry.external.into(), entry.mask.into())
        {
            return Err(Conflict::Subnet {
                environment: entry.number,
                subnet,
                other: other.number,
            });
        }
    }
    Ok(())
}

/// Refuses another pool than that of the `others`, whose routers have it as the one route without a next hop.
fn with_pool_of(desired: &Desired, observed: &Observed, others: &[u32]) -> Result<(), Conflict> {
    let routes = desired
        .environments
        .values()
        .flat_map(|environment| &environment.routes);
    let mut pools = routes.filter(|route| route.gateway.is_none());
    let Some(desired) = pools.next().map(|route| route.destination) else {
        return Ok(());
    };
    let mut differing: BTreeMap<Ipv4Net, Vec<u32>> = BTreeMap::new();
    for number in others {
        let routes = observed
            .routers
            .get(number)
            .into_iter()
            .flat_map(|router| &router.routes);
        let is_pool = |(route, link): &&(Route, String)| {
            route.gateway.is_none() && topology::is(Role::RouterWan, NetnsKind::Router, link, *number)
        };
        let pools: Vec<Ipv4Net> = routes.filter(is_pool).map(|(route, _)| route.destination).collect();
        if let Some(present) = pools.first().filter(|_| !pools.contains(&desired)) {
            differing.entry(*present).or_default().push(*number);
        }
    }
    match differing.into_iter().next() {
        None => Ok(()),
        Some((present, others)) => Err(Conflict::Pool {
            others: others.into_iter().collect(),
            present,
            desired,
        }),
    }
}

/// Whether an uplink is another one than before, or has a program of another kind. Not so when only its Ethernet address has
/// changed, which that of a bridge without any other port does with its first one from envnet.
fn differs(uplink: &Uplink, observed: &Observed) -> bool {
    let entry = |present| maps::Uplink {
        mac: uplink.entry.mac,
        ..present
    };
    let attached = |point| {
        let attached = observed.attached.get(&(point, uplink.interface.clone()));
        attached.is_some_and(|attached| *attached != Attached::Nothing)
    };
    let driver = AttachPoint::UplinkDriver;
    let is_new = uplink.points.contains(&driver) && !attached(driver) && attached(AttachPoint::Uplink);
    is_new
        || observed
            .fast
            .uplink
            .is_some_and(|present| entry(present) != uplink.entry)
}

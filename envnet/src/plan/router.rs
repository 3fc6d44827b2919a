//! The router's addresses, routes and surplus links: what goes, and what is made.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Action, make::EnvironmentPlan};
use crate::{desired, kernel::netns::NetnsKind};

impl EnvironmentPlan<'_> {
    /// Addresses of the router that it should not have, on links that stay.
    pub(super) fn surplus_addresses(&self) -> Vec<(String, Ipv4Net)> {
        let present = self.router.into_iter().flat_map(|router| &router.addresses);
        present
            .filter(|address| !self.made.contains(&(NetnsKind::Router, address.0.as_str())))
            .filter(|address| !self.desired.addresses.contains(address))
            .cloned()
            .collect()
    }

    pub(super) fn addresses(&mut self) {
        let present = self.router.map(|router| &router.addresses);
        let missing: Vec<_> = self
            .desired
            .addresses
            .iter()
            .filter(|address| {
                self.made.contains(&(NetnsKind::Router, address.0.as_str()))
                    || present.is_none_or(|present| !present.contains(address))
            })
            .cloned()
            .collect();
        for (link, address) in self.surplus_addresses() {
            self.push(Action::DeleteAddress { link, address });
        }
        for (link, address) in missing {
            self.push(Action::AddAddress { link, address });
        }
    }

    /// Deletes the routes that have to go, and returns those that stay. The kernel drops a route without a word when its
    /// source address is deleted; so such a route goes before, and comes back after.
    pub(super) fn old_routes(&mut self) -> BTreeSet<desired::Route> {
        let made = |link: &str| self.made.contains(&(NetnsKind::Router, link));
        let addresses = self.router.map(|router| &router.addresses);
        let gone: BTreeSet<_> = addresses
            .into_iter()
            .flatten()
            .filter(|(link, _)| made(link))
            .map(|(_, address)| address.addr())
            .collect();
        let present = self.router.into_iter().flat_map(|router| &router.routes);
        let present = present
            .filter(|(route, link)| !made(link) && !route.source.is_some_and(|source| gone.contains(&source)))
            .map(|(route, interface)| desired::Route {
                destination: route.destination,
                gateway: route.gateway,
                interface: interface.clone(),
                source: route.source.unwrap_or(Ipv4Addr::UNSPECIFIED),
                metric: route.metric,
            });
        let surplus = self.surplus_addresses();
        let keeps_source = |route: &desired::Route| surplus.iter().all(|(_, address)| address.addr() != route.source);
        let (kept, old): (BTreeSet<_>, BTreeSet<_>) =
            present.partition(|route| self.desired.routes.contains(route) && keeps_source(route));
        for route in old {
            self.push(Action::DeleteRoute(route));
        }
        kept
    }

    pub(super) fn new_routes(&mut self, kept: &BTreeSet<desired::Route>) {
        for route in &self.desired.routes {
            if !kept.contains(route) {
                self.push(Action::AddRoute(route.clone()));
            }
        }
    }

    /// Links of the router that are not desired, by whatever name: one may hold the index that `gwE` asks for.
    pub(super) fn surplus_in_router(&mut self) {
        let desired = |name: &str| {
            self.desired
                .links
                .iter()
                .any(|link| link.place == NetnsKind::Router && link.name == name)
        };
        let links = self.router.into_iter().flat_map(|router| router.links.keys());
        let surplus: Vec<_> = links.filter(|name| *name != "lo" && !desired(name)).cloned().collect();
        for name in surplus {
            self.push(Action::DeleteLink {
                place: NetnsKind::Router,
                name,
            });
        }
    }
}

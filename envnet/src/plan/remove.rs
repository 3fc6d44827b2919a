//! Taking environments away, whole or in whatever state a crash has left them.

use std::collections::BTreeSet;

use super::{Action, Change, fast};
use crate::{
    desired::{self, Place},
    kernel::programs::Site,
    names::{self, Instance},
    observe::Observed,
};

/// Plans the removal of everything the instance has.
#[must_use]
pub fn detach(observed: &Observed, instance: &Instance) -> Vec<Change> {
    let mut changes = fast::shared(fast::leave(None, observed));
    changes.extend(
        present(observed, instance)
            .into_iter()
            .flat_map(|number| remove_environment(number, observed, instance))
            // The maps go as a whole.
            .filter(|change| !matches!(change.action, Action::RemoveEnvironment { .. })),
    );
    if observed.pinned {
        changes.push(Change {
            environment: None,
            action: Action::RemovePins,
        });
    }
    changes
}

/// The environments of which anything at all is there.
pub(super) fn present(observed: &Observed, instance: &Instance) -> BTreeSet<u32> {
    let links = observed.links.values().filter_map(|link| link.owner(instance));
    links
        .chain(observed.routers.keys().copied())
        .chain(observed.environments.values().map(|environment| environment.number))
        .chain(observed.mappings.keys().map(|key| key.environment))
        .collect()
}

/// Plans the removal of one environment: the fast path and the gateway first, so that nothing can leave by them any more,
/// and the programs after the gateway, so that there is no moment at which it is up without them.
#[must_use]
pub fn remove_environment(number: u32, observed: &Observed, instance: &Instance) -> Vec<Change> {
    let mut actions = Vec::new();
    let router = observed.routers.get(&number);
    let own: BTreeSet<&str> = observed
        .links
        .values()
        .filter(|link| link.owner(instance) == Some(number))
        .map(|link| link.name.as_str())
        .collect();
    let host = |name: &str| Action::DeleteLink {
        place: Place::Host,
        name: name.to_owned(),
    };
    let endpoints = observed.fast.endpoints.iter();
    let external: Vec<_> = endpoints
        .filter(|(_, endpoint)| endpoint.environment.number == number)
        .map(|(external, _)| *external)
        .collect();
    if !external.is_empty() {
        actions.push(Action::RemoveEndpoints(external));
    }
    let (gateway, port) = (names::gateway(number), names::gateway_port(number));
    if own.contains(port.as_str()) {
        actions.push(host(&port));
    } else if router.is_some_and(|router| router.links.contains_key(&gateway)) {
        actions.push(Action::DeleteLink {
            place: Place::Router,
            name: gateway.clone(),
        });
    }
    let bridge = names::bridge(number);
    actions.extend(
        own.iter()
            .filter(|name| **name != port && **name != bridge)
            .map(|name| host(name)),
    );
    if own.contains(bridge.as_str()) {
        actions.push(host(&bridge));
    }
    if observed.pinned {
        let sites = [Site::Gateway, Site::Bridge].map(|site| (site, site.link(number).unwrap_or_default()));
        let ports = fast::on_ports_of(observed, number, instance);
        actions.extend(
            sites
                .into_iter()
                .chain(ports)
                .map(|(site, link)| fast::detach(site, &link)),
        );
    }
    let ports = observed.fast.ports.iter();
    let indices: Vec<_> = ports
        .filter(|(_, port)| port.environment.number == number)
        .map(|(index, _)| *index)
        .collect();
    if !indices.is_empty() {
        actions.push(Action::RemovePorts(indices));
    }
    if router.is_some() {
        actions.push(Action::DeleteNamespace {
            name: instance.router_namespace(number),
        });
    }
    let index = desired::gateway_index(number);
    if observed.environments.contains_key(&index) || observed.mappings.keys().any(|key| key.environment == number) {
        actions.push(Action::RemoveEnvironment { index });
    }
    actions
        .into_iter()
        .map(|action| Change {
            environment: Some(number),
            action,
        })
        .collect()
}

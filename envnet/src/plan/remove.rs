//! Taking environments away, whole or in whatever state a crash has left them.

use std::collections::BTreeMap;

use super::{Action, Change, Conflict, MapKeys, OwnLink, Phase, conflict, fast};
use crate::{
    config::Environments,
    desired,
    kernel::netns::NetnsKind,
    names::Instance,
    observe::{Observed, PinState},
    observed_index::ObservedIndex,
    topology::Role,
};

/// So many environments lose their links at once. The kernel waits some 17 ms for each bridge (`rcu_barrier`) with the lock on
/// all links held, which must not be for long, and once more for the batch, which must not be often.
const AT_ONCE: usize = 12;

/// Plans the removal of everything the instance has.
#[must_use]
pub fn detach(observed: &Observed, instance: &Instance) -> Vec<Change> {
    let known = ObservedIndex::new(observed, instance);
    let mut changes = fast::shared(fast::leave(None, observed));
    let numbers: Vec<u32> = known.environments().into_iter().collect();
    changes.extend(environments(&numbers, &known));
    // The maps go as a whole.
    if observed.pins != PinState::Absent {
        changes.extend(fast::shared(vec![Action::RemovePins]));
    }
    changes
}

/// Plans the removal of a part of what the instance has, by number; of all when nothing else would be left.
pub fn detach_selection(
    observed: &Observed,
    instance: &Instance,
    part: &Environments,
) -> Result<Vec<Change>, Conflict> {
    let known = ObservedIndex::new(observed, instance);
    let present = known.environments();
    let (numbers, others): (Vec<u32>, Vec<u32>) = present.iter().partition(|number| part.contains(**number));
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    if others.is_empty() {
        return Ok(detach(observed, instance));
    }
    conflict::with_maps(observed)?;
    // Maps that could not be read would go on telling of what is gone, and do not say what the others need.
    if observed.pins.has_other_layout() || observed.pins.maps_unread() {
        return Err(Conflict::Build(others.into_iter().collect()));
    }
    // The uplink stays the others'.
    let mut changes = environments(&numbers, &known);
    changes.extend(from_maps(&numbers, observed));
    Ok(changes)
}

/// Plans the removal of environments: the fast path and the routers' WAN ports first, so that nothing can leave by them any more, and
/// the programs after the routers' WAN ports, so that there is no moment at which one is up without them. The namespaces come last,
/// because the kernel clears them away afterwards by itself and all together.
pub(super) fn environments(numbers: &[u32], known: &ObservedIndex<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for number in numbers {
        changes.extend(of(*number, Phase::CutTraffic, cut_traffic(*number, known)));
    }
    for numbers in numbers.chunks(AT_ONCE) {
        changes.extend(fast::shared(links(numbers, known)));
    }
    for number in numbers {
        changes.extend(of(*number, Phase::CleanUp, clean_up(*number, known)));
    }
    changes
}

/// Plans to remove what the maps hold of environments.
pub(super) fn from_maps(numbers: &[u32], observed: &Observed) -> Vec<Change> {
    let in_maps: BTreeMap<u32, u32> = numbers
        .iter()
        .map(|number| (desired::router_wan_index(*number), *number))
        .filter(|(index, number)| observed.environments.contains_key(index) || observed.is_in_maps(*number))
        .collect();
    if in_maps.is_empty() {
        return Vec::new();
    }
    fast::shared(vec![Action::Delete(MapKeys::Environments(in_maps))])
}

fn of(number: u32, phase: Phase, actions: Vec<Action>) -> impl Iterator<Item = Change> {
    actions.into_iter().map(move |action| Change {
        phase,
        environment: Some(number),
        action,
    })
}

/// Ends an environment's traffic with the outside.
fn cut_traffic(number: u32, known: &ObservedIndex<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let external = known.endpoints_of(number);
    if !external.is_empty() {
        actions.push(Action::Delete(MapKeys::Endpoints(external.to_vec())));
    }
    let wan = known.topology(number).name(Role::RouterWan, number);
    let router = known.observed.routers.get(&number);
    if let Some(name) = wan.filter(|wan| router.is_some_and(|router| router.links.contains_key(wan))) {
        actions.push(Action::DeleteLink {
            place: NetnsKind::Router,
            name,
        });
    }
    actions
}

fn links(numbers: &[u32], known: &ObservedIndex<'_>) -> Vec<Action> {
    let own = numbers.iter().flat_map(|&environment| {
        known.links_of(environment).map(move |link| OwnLink {
            environment,
            name: link.name.clone(),
        })
    });
    let own: Vec<_> = own.collect();
    if own.is_empty() {
        Vec::new()
    } else {
        vec![Action::DeleteLinks(own)]
    }
}

/// Lets go of what is left when the links of the host are gone.
fn clean_up(number: u32, known: &ObservedIndex<'_>) -> Vec<Action> {
    let observed = known.observed;
    let mut actions = Vec::new();
    if observed.pins.is_present() {
        let border = known.topology(number).border(number);
        actions.extend(border.map(|(point, link)| fast::detach(point, &link)));
        let ports = known.accelerated(number);
        actions.extend(ports.map(|(link, point)| fast::detach(point, link)));
    }
    let indices = known.entries_of(number);
    if !indices.is_empty() {
        actions.push(Action::Delete(MapKeys::Ports(indices.to_vec())));
    }
    if observed.routers.contains_key(&number) || observed.names_left.contains(&number) {
        actions.push(Action::DeleteNamespace {
            name: known.instance.router_namespace(number),
        });
    }
    actions
}

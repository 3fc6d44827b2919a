//! The fast path's share of a plan.

use std::collections::BTreeSet;

use envnet_common::{
    Address,
    maps::{Endpoint, Location},
};

use super::{Action, Change, MapEntry, MapKeys, Others, Phase, make::EnvironmentPlan};
use crate::{
    desired::{Desired, Port, Uplink},
    kernel::{netlink::Kind, netns::NetnsKind, programs::Attached},
    observe::Observed,
    observed_index::KnownPort,
    topology::{AttachPoint, Role},
};

/// Whether an entry is as desired, whatever has been learned in it.
fn same(desired: &Endpoint, present: &Endpoint) -> bool {
    *desired
        == Endpoint {
            location: Location::default(),
            ..*present
        }
}

impl EnvironmentPlan<'_> {
    /// What the programs are told, before they are attached anywhere.
    pub(super) fn endpoints(&mut self) {
        let desired = self.desired.fast.iter().flat_map(|fast| &fast.endpoints);
        let new: Vec<_> = desired
            .map(|(external, new)| (*external, *new, self.observed.fast.endpoints.get(external).copied()))
            .filter(|(_, new, old)| !old.is_some_and(|old| same(new, &old)))
            .collect();
        for (external, new, old) in new {
            let entry = |value| MapEntry::Endpoint { external, value };
            self.push(Action::Put {
                new: entry(new),
                old: self.before(old, new).map(entry),
            });
        }
    }

    /// The ports, those that others have plugged into the bridge among them.
    pub(super) fn ports(&mut self) {
        let desired = self.desired;
        let ports: Vec<Port> = match &desired.fast {
            Some(fast) => fast.ports.iter().cloned().chain(self.foreign_ports()).collect(),
            None => Vec::new(),
        };
        let index = |name: &str| {
            let link = self.observed.links.get(name)?;
            (!self.made.contains(&(NetnsKind::Host, name))).then_some(link.index)
        };
        let kept: BTreeSet<u32> = ports.iter().filter_map(|port| index(&port.link)).collect();
        let present = self.known.entries_of(desired.number).iter();
        let surplus: Vec<KnownPort> = present
            .filter(|port| !kept.contains(&port.index))
            // One that is in another environment's bridge by now is that one's to change.
            .filter(|port| self.known.home(port.index).is_none_or(|home| home == desired.number))
            .cloned()
            .collect();
        // Own links keep their programs, or go with them, as long as there is a fast path at all.
        let stays = |name: &str| {
            let link = self.observed.links.get(name);
            desired.fast.is_some() && link.is_none_or(|link| link.owner(self.instance).is_some())
        };
        let mut actions: Vec<_> = self
            .known
            .accelerated(desired.number)
            .filter(|(link, _)| !self.made.contains(&(NetnsKind::Host, *link)))
            .filter(|(link, _)| !ports.iter().any(|port| port.link == *link) && !stays(link))
            .map(|(link, point)| detach(point, link))
            .collect();
        if !surplus.is_empty() {
            actions.push(Action::Delete(MapKeys::Ports(surplus)));
        }
        for port in ports {
            let at = index(&port.link);
            let old = at.and_then(|index| self.observed.fast.ports.get(&index).copied());
            let new = port.entry(index).map(|(_, entry)| entry);
            let incomplete = self.is_tap(&port) && at.is_some_and(|index| !self.observed.fast.taps.contains(&index));
            if new.is_none() || old != new || incomplete {
                let old = at.zip(old).map(|(index, value)| MapEntry::PortAt {
                    index,
                    link: port.link.clone(),
                    value,
                });
                actions.push(Action::Put {
                    new: MapEntry::Port(port.clone()),
                    old,
                });
            }
            if port.point.is_exclusive() {
                continue;
            }
            let made = self.made.contains(&(NetnsKind::Host, port.link.as_str()));
            let attached = self.observed.attached.get(&(port.point, port.link.clone())).copied();
            if made || attached != Some(Attached::Current) || !self.observed.pins.programs_loaded() {
                actions.push(Action::AttachPrograms {
                    point: port.point,
                    link: port.link,
                    undo: made || attached.is_none_or(|attached| attached == Attached::Nothing),
                });
            }
        }
        for action in actions {
            self.push(action);
        }
    }

    /// Whether XDP may send to a port: not every kind takes frames from it.
    fn is_tap(&self, port: &Port) -> bool {
        let link = self.observed.links.get(&port.link);
        matches!(port.point, AttachPoint::GuestPort | AttachPoint::ForeignPort)
            && link.is_some_and(|link| matches!(link.kind, Kind::Tap { .. }))
    }

    fn foreign_ports(&self) -> Vec<Port> {
        let bridge = self.desired.link(Role::Bridge);
        let is_new = |bridge: &String| self.made.contains(&(NetnsKind::Host, bridge.as_str()));
        let Some(fast) = self
            .desired
            .fast
            .as_ref()
            .filter(|_| !bridge.as_ref().is_some_and(is_new))
        else {
            return Vec::new();
        };
        // The router's have names of their own.
        let desired = self.desired.links.iter().filter(|link| link.place == NetnsKind::Host);
        let is_wanted = |name: &str| desired.clone().any(|desired| desired.name == name);
        self.known
            .ports_of(self.desired.number)
            .filter(|link| !is_wanted(&link.name))
            .filter(|link| link.owner(self.instance).is_none())
            .filter_map(|link| fast.foreign_port(&link.name))
            .collect()
    }
}

pub(super) fn detach(point: AttachPoint, link: &str) -> Action {
    Action::DetachPrograms {
        point,
        link: link.to_owned(),
    }
}

/// What all environments share, to be done before theirs.
pub(super) fn before(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let mut actions = leave(desired.uplink.as_ref(), observed);
    if let Some(uplink) = &desired.uplink
        && observed.fast.uplink != Some(uplink.entry)
    {
        actions.push(Action::Put {
            new: MapEntry::Uplink(uplink.entry),
            old: observed.fast.uplink.map(MapEntry::Uplink),
        });
    }
    shared(actions)
}

/// What all environments share, to be done when they are ready.
pub(super) fn after(desired: &Desired, observed: &Observed, others: Others) -> Vec<Change> {
    let uplinks = desired.uplink.iter();
    let attach = uplinks.flat_map(|uplink| uplink.points.iter().map(move |&point| (point, &uplink.interface)));
    let mut actions: Vec<_> = attach
        .filter_map(|(point, interface)| {
            let attached = observed.attached.get(&(point, interface.clone())).copied();
            let current = attached == Some(Attached::Current) && observed.pins.programs_loaded();
            (!current).then(|| Action::AttachPrograms {
                point,
                link: interface.clone(),
                undo: attached.is_none_or(|attached| attached == Attached::Nothing),
            })
        })
        .collect();
    // As long as a guest's port has its program, the guest needs its entry: without one, what it sends is spoofed. One that
    // is another environment's by now is that one's.
    let fast = desired
        .environments
        .values()
        .filter_map(|environment| environment.fast.as_ref());
    let kept: BTreeSet<&Address> = fast.flat_map(|fast| fast.endpoints.keys()).collect();
    let present = observed.fast.endpoints.iter();
    let surplus: Vec<_> = present
        .filter(|(_, endpoint)| {
            others == Others::Prune || desired.environments.contains_key(&endpoint.environment.number)
        })
        .map(|(external, _)| *external)
        .filter(|external| !kept.contains(external))
        .collect();
    if !surplus.is_empty() {
        actions.push(Action::Delete(MapKeys::Endpoints(surplus)));
    }
    shared(actions)
}

/// Takes programs from uplinks that are not, or no longer, to have them.
pub(super) fn leave(desired: Option<&Uplink>, observed: &Observed) -> Vec<Action> {
    observed
        .attached
        .iter()
        .filter(|((point, _), attached)| {
            matches!(point, AttachPoint::Uplink | AttachPoint::UplinkDriver) && **attached != Attached::Nothing
        })
        .filter(|((point, link), _)| {
            desired.is_none_or(|uplink| uplink.interface != *link || !uplink.points.contains(point))
        })
        .map(|((point, link), _)| detach(*point, link))
        .collect()
}

pub(super) fn shared(actions: Vec<Action>) -> Vec<Change> {
    actions
        .into_iter()
        .map(|action| Change {
            phase: Phase::Shared,
            environment: None,
            action,
        })
        .collect()
}

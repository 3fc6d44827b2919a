//! The fast path's share of a plan.

use std::collections::BTreeSet;

use envnet_common::{
    Address,
    maps::{Endpoint, FdbKey, Location},
};

use super::{Action, Attribute, Change, MapEntry, MapKeys, Others, Phase, make::EnvironmentPlan};
use crate::{
    desired::{Desired, Port, Uplink},
    kernel::{netlink::Kind, netns::NetnsKind, programs::Attached},
    observe::Observed,
    observed_index::KnownPort,
    topology::{AttachPoint, FORWARDED_GROUPS, Role},
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
        let present = &self.observed.fast;
        for (key, guest) in self.desired.fast.guest_macs() {
            let old = present.guest_macs.get(&key).copied();
            if old != Some(guest) {
                let entry = |guest| MapEntry::GuestMac { key, guest };
                self.push(Action::Put {
                    new: entry(guest),
                    old: self.before(old, guest).map(entry),
                });
            }
        }
        let desired = self.desired.fast.endpoints.iter();
        let new: Vec<_> = desired
            .map(|(external, new)| (*external, *new, present.endpoints.get(external).copied()))
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
        let fast = &desired.fast;
        let ports: Vec<Port> = fast.ports.iter().cloned().chain(self.foreign_ports()).collect();
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
        // Own links go with their programs.
        let stays = |name: &str, point: AttachPoint| {
            let link = self.observed.links.get(name);
            fast.runs_at(point) && link.is_none_or(|link| link.owner(self.instance).is_some())
        };
        let mut actions: Vec<_> = self
            .known
            .accelerated(desired.number)
            .filter(|(link, _)| !self.made.contains(&(NetnsKind::Host, *link)))
            .filter(|(link, point)| {
                let mut wanted = ports.iter().filter(|port| fast.runs_at(port.point));
                !wanted.any(|port| port.link == *link) && !stays(link, *point)
            })
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
            if !fast.runs_at(port.point) {
                continue;
            }
            if port.point == AttachPoint::ForeignPort
                && let Some(present) = self.observed.links.get(&port.link).map(|link| link.group_forwarding)
                && present != FORWARDED_GROUPS
            {
                // What a port forwards is forgotten when it leaves the bridge.
                actions.push(Action::SetLink {
                    place: NetnsKind::Host,
                    name: port.link.clone(),
                    new: Attribute::GroupForwarding(FORWARDED_GROUPS),
                    old: Attribute::GroupForwarding(present),
                });
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
        if bridge.as_ref().is_some_and(is_new) {
            return Vec::new();
        }
        // The router's have names of their own.
        let desired = self.desired.links.iter().filter(|link| link.place == NetnsKind::Host);
        let is_wanted = |name: &str| desired.clone().any(|desired| desired.name == name);
        self.known
            .ports_of(self.desired.number)
            .filter(|link| !is_wanted(&link.name))
            .filter(|link| link.owner(self.instance).is_none())
            .filter_map(|link| self.desired.fast.foreign_port(&link.name))
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
    let uplink = &desired.uplink;
    let mut actions = leave(Some(uplink), observed);
    if observed.fast.uplink != Some(uplink.entry) {
        actions.push(Action::Put {
            new: MapEntry::Uplink(uplink.entry),
            old: observed.fast.uplink.map(MapEntry::Uplink),
        });
    }
    shared(actions)
}

/// What all environments share, to be done when they are ready.
pub(super) fn after(desired: &Desired, observed: &Observed, others: Others) -> Vec<Change> {
    let uplink = &desired.uplink;
    let attach = uplink.points.iter().map(|&point| (point, &uplink.interface));
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
    let fast = desired.environments.values().map(|environment| &environment.fast);
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
    let promised = desired
        .environments
        .values()
        .flat_map(|environment| environment.fast.guest_macs());
    let promised: BTreeSet<FdbKey> = promised.map(|(key, _)| key).collect();
    let present = observed.fast.guest_macs.keys();
    let surplus: Vec<_> = present
        .filter(|key| others == Others::Prune || desired.environments.contains_key(&key.environment))
        .filter(|key| !promised.contains(key))
        .copied()
        .collect();
    if !surplus.is_empty() {
        actions.push(Action::Delete(MapKeys::GuestMacs(surplus)));
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

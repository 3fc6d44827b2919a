//! Making one environment what it should be, from whatever is there of it.

use std::collections::BTreeSet;

use super::{Action, Attribute, Change, Conflict, MapEntry, MapKeys, Phase};
use crate::{
    desired::{self, Environment, Link, LinkKind},
    kernel::{
        netlink::{self, Kind},
        netns::NetnsKind,
        programs::Attached,
    },
    names::{Instance, LINK_GROUP, REMOVAL_GROUPS},
    observe::{Observed, Router},
    observed_index::ObservedIndex,
    topology::Role,
};

/// The plan for one environment, as it grows.
pub(super) struct EnvironmentPlan<'a> {
    pub(super) desired: &'a Environment,
    pub(super) known: &'a ObservedIndex<'a>,
    pub(super) observed: &'a Observed,
    pub(super) router: Option<&'a Router>,
    pub(super) instance: &'a Instance,
    /// Links of the router that this plan makes anew, by name: what the kernel has under the name goes away with it.
    pub(super) made: BTreeSet<(NetnsKind, &'a str)>,
    phase: Phase,
    changes: Vec<Change>,
}

/// Plans everything one environment needs: its links, and then the rest.
pub(super) fn make(desired: &Environment, known: &ObservedIndex<'_>) -> Result<(Vec<Change>, Vec<Change>), Conflict> {
    let mut plan = EnvironmentPlan::new(desired, known);
    plan.links()?;
    let links = std::mem::take(&mut plan.changes);
    plan.configure();
    Ok((links, plan.changes))
}

impl<'a> EnvironmentPlan<'a> {
    fn new(desired: &'a Environment, known: &'a ObservedIndex<'a>) -> Self {
        let observed = known.observed;
        Self {
            desired,
            known,
            observed,
            router: observed.routers.get(&desired.number),
            instance: known.instance,
            made: BTreeSet::new(),
            phase: Phase::Links,
            changes: Vec::new(),
        }
    }

    fn links(&mut self) -> Result<(), Conflict> {
        self.namespace()?;
        self.sysctls(|_, link| link.is_none());
        self.surplus_in_router();
        for link in &self.desired.links {
            self.link(link)?;
        }
        self.sysctls(|place, link| place == NetnsKind::Router && link.is_some());
        Ok(())
    }

    fn configure(&mut self) {
        self.phase = Phase::Configure;
        self.sysctls(|place, link| place == NetnsKind::Host && link.is_some());
        self.maps();
        self.endpoints();
        self.programs();
        self.ports();
        let kept = self.old_routes();
        self.addresses();
        self.up();
        self.new_routes(&kept);
        self.surplus();
    }

    pub(super) fn push(&mut self, action: Action) {
        self.changes.push(Change {
            phase: self.phase,
            environment: Some(self.desired.number),
            action,
        });
    }

    fn namespace(&mut self) -> Result<(), Conflict> {
        let name = self.desired.namespace.clone();
        if self.observed.foreign_namespaces.contains(&name) {
            return Err(Conflict::Namespace {
                name,
                environment: self.desired.number,
            });
        }
        if self.router.is_none() {
            self.push(Action::CreateNamespace { name });
        }
        Ok(())
    }

    /// Those sysctls that `which` wants, asked for the place and for the link the sysctl is one of, if it is.
    fn sysctls(&mut self, which: impl Fn(NetnsKind, Option<&str>) -> bool) {
        for sysctl in &self.desired.sysctls {
            let place = sysctl.place;
            let link = sysctl
                .key
                .split('/')
                .nth(2)
                .filter(|name| !matches!(*name, "all" | "default"));
            if (sysctl.key.starts_with("ipv6/") && !self.observed.ipv6) || !which(place, link) {
                continue;
            }
            // A sysctl of a link that is made anew starts from its default.
            let replaced = link.is_some_and(|link| self.made.contains(&(place, link)));
            let values = match place {
                NetnsKind::Host => Some(&self.observed.sysctls),
                NetnsKind::Router => self.router.map(|router| &router.sysctls),
            };
            let old = values.filter(|_| !replaced).and_then(|values| values.get(&sysctl.key));
            if old != Some(&sysctl.value) {
                self.push(Action::SetSysctl {
                    sysctl: sysctl.clone(),
                    old: old.cloned(),
                });
            }
        }
    }

    fn present(&self, place: NetnsKind, name: &str) -> Option<&'a netlink::Link> {
        match place {
            NetnsKind::Host => self.observed.links.get(name),
            NetnsKind::Router => self.router.and_then(|router| router.links.get(name)),
        }
    }

    fn link(&mut self, desired: &'a Link) -> Result<(), Conflict> {
        if desired.kind == LinkKind::VethPeer && self.made.contains(&(NetnsKind::Router, desired.name.as_str())) {
            return Ok(());
        }
        let present = self.present(desired.place, &desired.name);
        if let Some(link) = self
            .known
            .named(&desired.name)
            .filter(|_| desired.place == NetnsKind::Host)
        {
            return Err(Conflict::OtherName {
                link: link.to_owned(),
                name: desired.name.clone(),
                environment: self.desired.number,
            });
        }
        if let Some(present) = present {
            if desired.place == NetnsKind::Host && present.owner(self.instance) != Some(self.desired.number) {
                return Err(Conflict::Link {
                    name: desired.name.clone(),
                    environment: self.desired.number,
                });
            }
            if self.fits(desired, present) {
                self.settings(desired, present);
                return Ok(());
            }
            self.push(Action::DeleteLink {
                place: desired.place,
                name: desired.name.clone(),
            });
        }
        self.make_link(desired);
        Ok(())
    }

    fn make_link(&mut self, desired: &'a Link) {
        // What has the other end's name in the router is not the other end, or the pair would fit; it is in the way.
        // The same goes for a WAN port of the other uplink mode.
        let other_end = match &desired.kind {
            LinkKind::Veth { peer, .. } => Some(peer.as_str()),
            _ => None,
        };
        let present = self.present(desired.place, &desired.name);
        if let Some(name) = other_end {
            let goes_with_this = present.is_some_and(|present| present.kind == Kind::Veth);
            if self.present(NetnsKind::Router, name).is_some() && !goes_with_this {
                self.push(Action::DeleteLink {
                    place: NetnsKind::Router,
                    name: name.to_owned(),
                });
            }
            self.made.insert((NetnsKind::Router, name));
        }
        self.made.insert((desired.place, &desired.name));
        self.push(Action::CreateLink(desired.clone()));
    }

    /// Whether a present link can become the desired one without being made anew.
    fn fits(&self, desired: &Link, present: &netlink::Link) -> bool {
        match (&desired.kind, &present.kind) {
            (LinkKind::Bridge, Kind::Bridge) | (LinkKind::VethPeer, Kind::Veth) => true,
            (LinkKind::Veth { peer, peer_index, .. }, Kind::Veth) => self
                .present(NetnsKind::Router, peer)
                .is_some_and(|peer| peer.kind == Kind::Veth && (*peer_index == 0 || peer.index == *peer_index)),
            (
                LinkKind::Macvlan { parent, index },
                Kind::Macvlan {
                    parent: present_parent,
                    bridge_mode,
                },
            ) => {
                let parent = self.observed.links.get(parent).map(|link| link.index);
                parent == Some(*present_parent) && *bridge_mode && present.index == *index
            }
            // An owner can be changed but not taken away.
            (
                LinkKind::Tap { user, group },
                Kind::Tap {
                    user: present_user,
                    group: present_group,
                },
            ) => (user.is_some() || present_user.is_none()) && (group.is_some() || present_group.is_none()),
            _ => false,
        }
    }

    fn settings(&mut self, desired: &Link, present: &netlink::Link) {
        let mut set = |new, old| {
            if new != old {
                let (place, name) = (desired.place, desired.name.clone());
                self.changes.push(Change {
                    phase: self.phase,
                    environment: Some(self.desired.number),
                    action: Action::SetLink { place, name, new, old },
                });
            }
        };
        set(
            Attribute::Alias(self.instance.alias(self.desired.number)),
            Attribute::Alias(present.alias.clone()),
        );
        // A crash while it was being deleted has left it there.
        if present.group >= REMOVAL_GROUPS {
            set(Attribute::Group(LINK_GROUP), Attribute::Group(present.group));
        }
        if let Some(mac) = desired.mac {
            set(Attribute::Mac(mac), Attribute::Mac(present.mac));
        }
        set(Attribute::Mtu(desired.mtu), Attribute::Mtu(present.mtu));
        if let (
            LinkKind::Tap { user, group },
            Kind::Tap {
                user: old_user,
                group: old_group,
            },
        ) = (&desired.kind, &present.kind)
        {
            // A tap without owner is open to all, but only to one at a time: as long as a machine has it, nobody else gets in,
            // and the kernel does not let its owner be set either.
            let taken = present.carrier && old_user.is_none() && old_group.is_none();
            if !taken {
                set(Attribute::Owner(*user, *group), Attribute::Owner(*old_user, *old_group));
            }
        }
        if desired.place == NetnsKind::Host {
            let master = present.master.and_then(|index| self.known.link_at(index));
            let master = master.map(|master| master.name.clone());
            // A bridge that is made anew has lost its ports.
            let lost = master
                .as_deref()
                .is_some_and(|master| self.made.contains(&(NetnsKind::Host, master)));
            let master = master.filter(|_| !lost);
            // What a port forwards is forgotten when it leaves the bridge.
            let forwarding = if master == desired.master {
                present.group_forwarding
            } else {
                0
            };
            set(Attribute::Master(desired.master.clone()), Attribute::Master(master));
            if desired.group_forwarding != 0 {
                set(
                    Attribute::GroupForwarding(desired.group_forwarding),
                    Attribute::GroupForwarding(forwarding),
                );
            }
        }
    }

    /// What an entry of the maps is rolled back to. Of maps that could not be read nothing is known; but when the
    /// programs of a running environment have gone from those to the new ones, they must find there what they need.
    pub(super) fn before<T>(&self, old: Option<T>, new: T) -> Option<T> {
        let wan = self.desired.link(Role::RouterWan);
        let runs = wan.is_some_and(|wan| !self.made.contains(&(NetnsKind::Router, wan.as_str())));
        let moves = runs && (self.observed.pins.has_other_layout() || self.observed.pins.maps_unread());
        old.or(moves.then_some(new))
    }

    fn maps(&mut self) {
        let number = self.desired.number;
        let index = desired::router_wan_index(number);
        let old = self.observed.environments.get(&index).copied();
        let known = self.observed.router_wans.get(&self.desired.entry.mac) == Some(&number);
        if old != Some(self.desired.entry) || !known {
            let entry = |value| MapEntry::Environment { index, value };
            self.push(Action::Put {
                new: entry(self.desired.entry),
                old: self.before(old, self.desired.entry).map(entry),
            });
        }
        for (&key, &new) in &self.desired.mappings {
            let old = self.observed.mappings.get(&key).copied();
            if old != Some(new) || !self.observed.counted.contains(&key) {
                let entry = |value| MapEntry::Mapping { key, value };
                self.push(Action::Put {
                    new: entry(new),
                    old: self.before(old, new).map(entry),
                });
            }
        }
    }

    fn programs(&mut self) {
        let number = self.desired.number;
        for (point, link) in self.desired.topology.border(number) {
            let attached = self.observed.attached_to(number, point, &link);
            let undo = self.made.contains(&(point.netns(), link.as_str()));
            if undo || attached != Some(Attached::Current) || !self.observed.pins.programs_loaded() {
                self.push(Action::AttachPrograms { point, link, undo });
            }
        }
    }

    fn up(&mut self) {
        // From the inside out, the router's WAN port last: the programs are on it by now.
        let wan = self.desired.link(Role::RouterWan);
        let links = self.desired.links.iter().map(|link| (link.place, link.name.as_str()));
        let (outer, inner): (Vec<_>, Vec<_>) = links.partition(|(_, name)| Some(*name) == wan.as_deref());
        for (place, name) in [(NetnsKind::Router, "lo")].into_iter().chain(inner).chain(outer) {
            let present = self
                .present(place, name)
                .filter(|_| !self.made.contains(&(place, name)));
            // The loopback of a new namespace is brought up with it.
            let fresh_loopback = name == "lo" && self.router.is_none();
            if !fresh_loopback && present.is_none_or(|present| !present.up) {
                let (new, old) = (Attribute::Up(true), Attribute::Up(false));
                self.push(Action::SetLink {
                    place,
                    name: name.to_owned(),
                    new,
                    old,
                });
            }
        }
    }

    /// What the environment has of machines that are no longer in the configuration, or of another uplink mode.
    fn surplus(&mut self) {
        let number = self.desired.number;
        let desired = |name: &str| {
            self.desired
                .links
                .iter()
                .any(|link| link.place == NetnsKind::Host && link.name == name)
        };
        let links: Vec<_> = self
            .known
            .links_of(number)
            .filter(|link| !desired(&link.name))
            .map(|link| Action::DeleteLink {
                place: NetnsKind::Host,
                name: link.name.clone(),
            })
            .collect();
        for action in links {
            self.push(action);
        }
        let keys: Vec<_> = self
            .observed
            .mappings_of(number)
            .map(|(key, _)| key)
            .filter(|key| !self.desired.mappings.contains_key(key))
            .copied()
            .collect();
        if !keys.is_empty() {
            self.push(Action::Delete(MapKeys::Mappings(keys)));
        }
    }
}

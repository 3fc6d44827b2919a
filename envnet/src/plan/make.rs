//! Making one environment what it should be, from whatever is there of it.

use std::collections::BTreeSet;

use super::{Action, Attribute, Change, Conflict, Phase};
use crate::{
    desired::{self, Environment, Link, LinkKind},
    inventory::Inventory,
    kernel::{
        netlink::{self, Kind},
        netns::NetnsKind,
        programs::Attached,
    },
    names::{Instance, LINK_GROUP, REMOVAL_GROUPS},
    observe::{Observed, Router},
    topology::Role,
};

/// The plan for one environment, as it grows.
pub(super) struct EnvironmentPlan<'a> {
    pub(super) wanted: &'a Environment,
    pub(super) inventory: &'a Inventory<'a>,
    pub(super) observed: &'a Observed,
    pub(super) router: Option<&'a Router>,
    pub(super) instance: &'a Instance,
    /// Links of the router that this plan makes anew, by name: what the kernel has under the name goes away with it.
    pub(super) made: BTreeSet<(NetnsKind, &'a str)>,
    phase: Phase,
    changes: Vec<Change>,
}

/// Plans everything one environment needs: its links, and then the rest.
pub(super) fn make(wanted: &Environment, inventory: &Inventory<'_>) -> Result<(Vec<Change>, Vec<Change>), Conflict> {
    let mut plan = EnvironmentPlan::new(wanted, inventory);
    plan.links()?;
    let links = std::mem::take(&mut plan.changes);
    plan.rest();
    Ok((links, plan.changes))
}

impl<'a> EnvironmentPlan<'a> {
    fn new(wanted: &'a Environment, inventory: &'a Inventory<'a>) -> Self {
        let observed = inventory.observed;
        Self {
            wanted,
            inventory,
            observed,
            router: observed.routers.get(&wanted.number),
            instance: inventory.instance,
            made: BTreeSet::new(),
            phase: Phase::Links,
            changes: Vec::new(),
        }
    }

    fn links(&mut self) -> Result<(), Conflict> {
        self.namespace()?;
        self.sysctls(|_, link| link.is_none());
        self.surplus_in_router();
        for link in &self.wanted.links {
            self.link(link)?;
        }
        self.sysctls(|place, link| place == NetnsKind::Router && link.is_some());
        Ok(())
    }

    fn rest(&mut self) {
        self.phase = Phase::Rest;
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
            environment: Some(self.wanted.number),
            action,
        });
    }

    fn namespace(&mut self) -> Result<(), Conflict> {
        let name = self.wanted.namespace.clone();
        if self.observed.foreign_namespaces.contains(&name) {
            return Err(Conflict::Namespace {
                name,
                environment: self.wanted.number,
            });
        }
        if self.router.is_none() {
            self.push(Action::CreateNamespace { name });
        }
        Ok(())
    }

    /// Those sysctls that `which` wants, asked for the place and for the link the sysctl is one of, if it is.
    fn sysctls(&mut self, which: impl Fn(NetnsKind, Option<&str>) -> bool) {
        for sysctl in &self.wanted.sysctls {
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

    fn link(&mut self, wanted: &'a Link) -> Result<(), Conflict> {
        if wanted.kind == LinkKind::VethPeer && self.made.contains(&(NetnsKind::Router, wanted.name.as_str())) {
            return Ok(());
        }
        let present = self.present(wanted.place, &wanted.name);
        if let Some(link) = self
            .inventory
            .named(&wanted.name)
            .filter(|_| wanted.place == NetnsKind::Host)
        {
            return Err(Conflict::OtherName {
                link: link.to_owned(),
                name: wanted.name.clone(),
                environment: self.wanted.number,
            });
        }
        if let Some(present) = present {
            if wanted.place == NetnsKind::Host && present.owner(self.instance) != Some(self.wanted.number) {
                return Err(Conflict::Link {
                    name: wanted.name.clone(),
                    environment: self.wanted.number,
                });
            }
            if self.fits(wanted, present) {
                self.settings(wanted, present);
                return Ok(());
            }
            self.push(Action::DeleteLink {
                place: wanted.place,
                name: wanted.name.clone(),
            });
        }
        self.make_link(wanted);
        Ok(())
    }

    fn make_link(&mut self, wanted: &'a Link) {
        // What has the other end's name in the router is not the other end, or the pair would fit; it is in the way.
        // The same goes for a WAN port of the other uplink mode.
        let other_end = match &wanted.kind {
            LinkKind::Veth { peer, .. } => Some(peer.as_str()),
            _ => None,
        };
        let present = self.present(wanted.place, &wanted.name);
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
        self.made.insert((wanted.place, &wanted.name));
        self.push(Action::CreateLink(wanted.clone()));
    }

    /// Whether a present link can become the wanted one without being made anew.
    fn fits(&self, wanted: &Link, present: &netlink::Link) -> bool {
        match (&wanted.kind, &present.kind) {
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

    fn settings(&mut self, wanted: &Link, present: &netlink::Link) {
        let mut set = |new, old| {
            if new != old {
                let (place, name) = (wanted.place, wanted.name.clone());
                self.changes.push(Change {
                    phase: self.phase,
                    environment: Some(self.wanted.number),
                    action: Action::SetLink { place, name, new, old },
                });
            }
        };
        set(
            Attribute::Alias(self.instance.alias(self.wanted.number)),
            Attribute::Alias(present.alias.clone()),
        );
        // A crash while it was being deleted has left it there.
        if present.group >= REMOVAL_GROUPS {
            set(Attribute::Group(LINK_GROUP), Attribute::Group(present.group));
        }
        if let Some(mac) = wanted.mac {
            set(Attribute::Mac(mac), Attribute::Mac(present.mac));
        }
        set(Attribute::Mtu(wanted.mtu), Attribute::Mtu(present.mtu));
        if let (
            LinkKind::Tap { user, group },
            Kind::Tap {
                user: old_user,
                group: old_group,
            },
        ) = (&wanted.kind, &present.kind)
        {
            set(Attribute::Owner(*user, *group), Attribute::Owner(*old_user, *old_group));
        }
        if wanted.place == NetnsKind::Host {
            let master = present.master.and_then(|index| self.inventory.link_at(index));
            let master = master.map(|master| master.name.clone());
            // A bridge that is made anew has lost its ports.
            let lost = master
                .as_deref()
                .is_some_and(|master| self.made.contains(&(NetnsKind::Host, master)));
            let master = master.filter(|_| !lost);
            // What a port forwards is forgotten when it leaves the bridge.
            let forwarding = if master == wanted.master {
                present.group_forwarding
            } else {
                0
            };
            set(Attribute::Master(wanted.master.clone()), Attribute::Master(master));
            if wanted.group_forwarding != 0 {
                set(
                    Attribute::GroupForwarding(wanted.group_forwarding),
                    Attribute::GroupForwarding(forwarding),
                );
            }
        }
    }

    /// What an entry of the maps is taken back to. Of maps that could not be read nothing is known; but when the
    /// programs of a running environment have gone from those to the new ones, they must find there what they need.
    pub(super) fn before<T>(&self, old: Option<T>, new: T) -> Option<T> {
        let wan = self.wanted.link(Role::RouterWan);
        let runs = wan.is_some_and(|wan| !self.made.contains(&(NetnsKind::Router, wan.as_str())));
        let moves = runs && (self.observed.pins.has_other_layout() || self.observed.pins.maps_unread());
        old.or(moves.then_some(new))
    }

    fn maps(&mut self) {
        let number = self.wanted.number;
        let index = desired::router_wan_index(number);
        let old = self.observed.environments.get(&index).copied();
        let known = self.observed.router_wans.get(&self.wanted.entry.mac) == Some(&number);
        if old != Some(self.wanted.entry) || !known {
            self.push(Action::InsertEnvironment {
                index,
                new: self.wanted.entry,
                old: self.before(old, self.wanted.entry),
            });
        }
        for (&key, &new) in &self.wanted.mappings {
            let old = self.observed.mappings.get(&key).copied();
            if old != Some(new) || !self.observed.counted.contains(&key) {
                let old = self.before(old, new);
                self.push(Action::InsertMapping { key, new, old });
            }
        }
    }

    fn programs(&mut self) {
        let number = self.wanted.number;
        for (point, link) in self.wanted.topology.border(number) {
            let attached = self.observed.attached_to(number, point, &link);
            let undo = self.made.contains(&(point.netns(), link.as_str()));
            if undo || attached != Some(Attached::Current) || !self.observed.pins.programs_loaded() {
                self.push(Action::AttachPrograms { point, link, undo });
            }
        }
    }

    fn up(&mut self) {
        // From the inside out, the router's WAN port last: the programs are on it by now.
        let wan = self.wanted.link(Role::RouterWan);
        let links = self.wanted.links.iter().map(|link| (link.place, link.name.as_str()));
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
        let number = self.wanted.number;
        let wanted = |name: &str| {
            self.wanted
                .links
                .iter()
                .any(|link| link.place == NetnsKind::Host && link.name == name)
        };
        let links: Vec<_> = self
            .inventory
            .links_of(number)
            .filter(|link| !wanted(&link.name))
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
            .filter(|key| !self.wanted.mappings.contains_key(key))
            .copied()
            .collect();
        if !keys.is_empty() {
            self.push(Action::RemoveMappings(keys));
        }
    }
}

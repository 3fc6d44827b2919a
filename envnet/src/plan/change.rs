//! One change of the kernel's state: a value that can be shown, applied and undone.

use envnet_common::Mac;
use ipnet::Ipv4Net;

use super::map_entry::{MapEntry, MapKeys};
use crate::{
    desired::{Link, Route, Sysctl},
    kernel::{netns::NetnsKind, programs::StalePin},
    topology::AttachPoint,
};

/// A change, for an environment or for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it is done.
    pub phase: Phase,
    /// The environment it belongs to; none for what all share.
    pub environment: Option<u32>,
    /// What is done.
    pub action: Action,
}

/// When a change is done. What stands together and has the same phase but different environments does not depend on each
/// other; otherwise a change waits for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The links are made.
    Links,
    /// The rest of the environments is made.
    Configure,
    /// Traffic with the outside ends.
    CutTraffic,
    /// What is left is let go of.
    CleanUp,
    /// Something that all environments share.
    Shared,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Load this build's programs and pin them.
    LoadPrograms {
        /// Whether there is nothing of the instance so far, so that rolling it back harms nobody.
        first: bool,
    },
    /// Let go of other builds' programs.
    ForgetOtherPrograms,
    /// Remove pins whose interfaces are gone: each would hold the program of its time for ever.
    RemoveStalePins(Vec<StalePin>),
    /// Remove every pin of the instance.
    RemovePins,
    /// Make a router namespace with the environment's mark.
    CreateNamespace {
        /// Its name.
        name: String,
    },
    /// Remove a router namespace and all that is in it.
    DeleteNamespace {
        /// Its name.
        name: String,
    },
    /// Make a link with everything it has, but down.
    CreateLink(Link),
    /// Delete a link.
    DeleteLink {
        /// Where.
        place: NetnsKind,
        /// Its name.
        name: String,
    },
    /// Delete links of the host, all at once.
    DeleteLinks(Vec<OwnLink>),
    /// Change one attribute of a link.
    SetLink {
        /// Where.
        place: NetnsKind,
        /// Its name.
        name: String,
        /// The new value.
        new: Attribute,
        /// The present value.
        old: Attribute,
    },
    /// Set a sysctl.
    SetSysctl {
        /// Which, and its new value.
        sysctl: Sysctl,
        /// The present value; unknown when what it belongs to is yet to be made.
        old: Option<String>,
    },
    /// Put an entry into a map.
    Put {
        /// The entry.
        new: MapEntry,
        /// What the map has under its key at present.
        old: Option<MapEntry>,
    },
    /// Delete keys of a map.
    Delete(MapKeys),
    /// Attach an attach point's programs to a link, replacing what envnet has there.
    AttachPrograms {
        /// Which programs.
        point: AttachPoint,
        /// Name of the link.
        link: String,
        /// Whether they can be taken away again: not from a `gwE` that may be in use, which would let packets out
        /// untranslated, nor from anything that had some before.
        undo: bool,
    },
    /// Take an attach point's programs from a link, if it is still there, and forget their pins.
    DetachPrograms {
        /// Which programs.
        point: AttachPoint,
        /// Name of the link.
        link: String,
    },
    /// Give the router an address.
    AddAddress {
        /// Name of the interface.
        link: String,
        /// The address with its prefix length.
        address: Ipv4Net,
    },
    /// Take an address from the router.
    DeleteAddress {
        /// Name of the interface.
        link: String,
        /// The address with its prefix length.
        address: Ipv4Net,
    },
    /// Give the router a route.
    AddRoute(Route),
    /// Take a route from the router.
    DeleteRoute(Route),
}

/// A link of the host and the environment it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLink {
    /// The environment.
    pub environment: u32,
    /// Its name.
    pub name: String,
}

/// An attribute of a link with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// MTU in bytes.
    Mtu(u32),
    /// Ethernet address.
    Mac(Mac),
    /// The bridge it is a port of.
    Master(Option<String>),
    /// Administratively up.
    Up(bool),
    /// The ifalias.
    Alias(String),
    /// The link group.
    Group(u32),
    /// Which link-local groups the port of a bridge forwards; the others it hands to the host.
    GroupForwarding(u16),
    /// User and group that may open a tap.
    Owner(Option<u32>, Option<u32>),
}

impl Change {
    /// What undoes the change; `None` for what cannot be rolled back.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        let action = match &self.action {
            Action::LoadPrograms { first: true } => Action::RemovePins,
            Action::CreateNamespace { name } => Action::DeleteNamespace { name: name.clone() },
            Action::CreateLink(link) => Action::DeleteLink {
                place: link.place,
                name: link.name.clone(),
            },
            Action::SetLink { place, name, new, old } => Action::SetLink {
                place: *place,
                name: name.clone(),
                new: old.clone(),
                old: new.clone(),
            },
            Action::SetSysctl { sysctl, old: Some(old) } => Action::SetSysctl {
                sysctl: Sysctl {
                    value: old.clone(),
                    ..sysctl.clone()
                },
                old: Some(sysctl.value.clone()),
            },
            Action::Put { new, old: None } => new.delete(),
            Action::Put { new, old: Some(old) } => Action::Put {
                new: old.clone(),
                old: Some(new.clone()),
            },
            Action::AttachPrograms { point, link, undo } if *undo => Action::DetachPrograms {
                point: *point,
                link: link.clone(),
            },
            Action::AddAddress { link, address } => Action::DeleteAddress {
                link: link.clone(),
                address: *address,
            },
            Action::DeleteAddress { link, address } => Action::AddAddress {
                link: link.clone(),
                address: *address,
            },
            Action::AddRoute(route) => Action::DeleteRoute(route.clone()),
            Action::DeleteRoute(route) => Action::AddRoute(route.clone()),
            Action::LoadPrograms { first: false }
            | Action::AttachPrograms { .. }
            | Action::Delete(_)
            | Action::SetSysctl { old: None, .. }
            | Action::ForgetOtherPrograms
            | Action::RemoveStalePins(_)
            | Action::RemovePins
            | Action::DeleteNamespace { .. }
            | Action::DeleteLink { .. }
            | Action::DeleteLinks(_)
            | Action::DetachPrograms { .. } => return None,
        };
        Some(Self {
            phase: self.phase,
            environment: self.environment,
            action,
        })
    }
}

impl Change {
    /// Why something is missed after a change that cannot be rolled back, if anything is: nothing is after programs of
    /// another build have been replaced or let go of, nor after a sysctl of something that was made with it.
    #[must_use]
    pub const fn irreversible(&self) -> Option<&'static str> {
        match &self.action {
            Action::DeleteLink { .. } | Action::DeleteLinks(_) | Action::DeleteNamespace { .. } => {
                Some("what is removed is not put back, nor what was in it")
            }
            Action::Delete(_) => Some("what is removed is not put back, nor what was counted and learned"),
            Action::DetachPrograms { .. } => Some("what is taken away is not put back"),
            _ => None,
        }
    }
}

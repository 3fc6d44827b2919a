//! Changes as `plan` prints them: `+` is made, `~` is changed, `-` is removed.

use std::fmt;

use super::change::{Action, Attribute, Change};
use crate::{
    desired::{LinkKind, Route},
    kernel::netns::NetnsKind,
    topology::AttachPoint,
};

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::LoadPrograms { .. } => f.write_str("+ programs and maps"),
            Action::ForgetOtherPrograms => f.write_str("- programs of another build"),
            Action::RemoveStalePins(pins) => {
                f.write_str("- pins of interfaces that are gone:")?;
                pins.iter().try_for_each(|pin| write!(f, " {}", pin.name))
            }
            Action::RemovePins => f.write_str("- programs and maps"),
            Action::CreateNamespace { name } => write!(f, "+ namespace {name}"),
            Action::DeleteNamespace { name } => write!(f, "- namespace {name}"),
            Action::CreateLink(link) => {
                write!(
                    f,
                    "+ link {}: {}, MTU {}",
                    Located(link.place, &link.name),
                    link.kind,
                    link.mtu
                )?;
                link.mac.map_or(Ok(()), |mac| write!(f, ", {mac}"))?;
                link.master
                    .as_ref()
                    .map_or(Ok(()), |master| write!(f, ", port of {master}"))
            }
            Action::DeleteLink { place, name } => write!(f, "- link {}", Located(*place, name)),
            Action::DeleteLinks(links) => {
                f.write_str("- link")?;
                links.iter().try_for_each(|link| write!(f, " {}", link.name))
            }
            Action::SetLink { place, name, new, old } => {
                let name = Located(*place, name);
                match new {
                    Attribute::Up(up) => write!(f, "~ link {name}: {}", if *up { "up" } else { "down" }),
                    _ => write!(f, "~ link {name}: {new} (was {old})"),
                }
            }
            Action::SetSysctl { sysctl, old } => {
                let mark = if old.is_some() { '~' } else { '+' };
                write!(
                    f,
                    "{mark} sysctl {} = {}",
                    Located(sysctl.place, &sysctl.key),
                    sysctl.value
                )?;
                old.as_ref().map_or(Ok(()), |old| write!(f, " (was {old})"))
            }
            Action::Put { new, old } => write!(f, "{} {new}", if old.is_some() { '~' } else { '+' }),
            Action::Delete(keys) => write!(f, "- {keys}"),
            Action::AttachPrograms { point, link, .. } => {
                write!(f, "+ programs on {}{}", Located(point.netns(), link), driver(*point))
            }
            Action::DetachPrograms { point, link } => {
                write!(f, "- programs on {}{}", Located(point.netns(), link), driver(*point))
            }
            Action::AddAddress { link, address } => write!(f, "+ address {address} on {link} in the router"),
            Action::DeleteAddress { link, address } => write!(f, "- address {address} on {link} in the router"),
            Action::AddRoute(route) => write!(f, "+ route {route} in the router"),
            Action::DeleteRoute(route) => write!(f, "- route {route} in the router"),
        }
    }
}

fn driver(point: AttachPoint) -> &'static str {
    if point == AttachPoint::UplinkDriver {
        " (XDP)"
    } else {
        ""
    }
}

/// A name with the place it is in, unless that is the host.
struct Located<'a>(NetnsKind, &'a str);

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NetnsKind::Host => f.write_str(self.1),
            NetnsKind::Router => write!(f, "{} in the router", self.1),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |what, id: &Option<u32>| id.map_or_else(|| format!("no {what}"), |id| format!("{what} {id}"));
        match self {
            Self::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Self::Mac(mac) => write!(f, "address {mac}"),
            Self::Master(Some(master)) => write!(f, "port of {master}"),
            Self::Master(None) => f.write_str("port of nothing"),
            Self::Up(true) => f.write_str("up"),
            Self::Up(false) => f.write_str("down"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::GroupForwarding(mask) => write!(f, "group_fwd_mask {mask:#x}"),
            Self::Alias(alias) => write!(f, "alias `{alias}`"),
            Self::Owner(user, group) => write!(f, "{} and {}", id("user", user), id("group", group)),
        }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Veth { peer, .. } => write!(f, "veth to {peer} in the router"),
            Self::VethPeer => f.write_str("veth"),
            Self::Macvlan { parent, .. } => write!(f, "macvlan on {parent}"),
            Self::Tap { .. } => f.write_str("tap"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))?;
        write!(f, " on {}", self.interface)
    }
}

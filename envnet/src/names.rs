//! Names, marks and Ethernet addresses of everything envnet makes: pure functions of instance and environment.

use envnet_common::Mac;

pub use envnet_common::maps::ROUTER_INSIDE_MAC;

use crate::{fnv::fnv1a, topology};

/// `gwE` gets the interface index `ROUTER_WAN_INDEX_BASE` + E, so that a program can tell the environment from the index:
/// indices are otherwise handed out per namespace and would all be alike. Far above what a namespace uses by itself.
pub const ROUTER_WAN_INDEX_BASE: u32 = 0x0010_0000;

/// The link group of every link envnet makes by netlink: the one mark that the kernel takes at creation. It tells a link
/// that a crash left without ifalias from a foreign one.
pub const LINK_GROUP: u32 = 0x656e;

/// Link groups from here to twice as many are for links that are being deleted, because the kernel can delete a whole group at
/// once. They are positive as `ip` reads them.
pub const REMOVAL_GROUPS: u32 = 1 << 30;

/// Which namespace an invocation manages as the host. Everything it makes is marked with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    /// The network namespace the command runs in.
    Host,
    /// The named network namespace (`--netns NAME`).
    Named(String),
}

impl Instance {
    /// The router namespace of environment E: `nsE`, or `NAME-nsE` when a named namespace plays the host, because the
    /// names of network namespaces are shared by the whole machine.
    #[must_use]
    pub fn router_namespace(&self, environment: u32) -> String {
        match self {
            Self::Host => format!("ns{environment}"),
            Self::Named(name) => format!("{name}-ns{environment}"),
        }
    }

    /// The environment a namespace name stands for, if it has the form of [`Self::router_namespace`].
    #[must_use]
    pub fn environment_of(&self, namespace: &str) -> Option<u32> {
        let rest = match self {
            Self::Host => namespace,
            Self::Named(name) => namespace.strip_prefix(name.as_str())?.strip_prefix('-')?,
        };
        let digits = rest.strip_prefix("ns")?;
        let number = digits.parse().ok()?;
        (self.router_namespace(number) == namespace).then_some(number)
    }

    /// The name of the instance in paths. The BPF filesystem refuses dots, so they are escaped.
    #[must_use]
    pub fn path_component(&self) -> String {
        match self {
            Self::Host => "host".to_owned(),
            Self::Named(name) => format!("netns-{}", without_dots(name)),
        }
    }

    /// The ifalias of every link of environment E: who made it and for what.
    #[must_use]
    pub fn alias(&self, environment: u32) -> String {
        format!("{}{environment}", self.alias_prefix())
    }

    /// How the mark of everything that can carry a text begins.
    fn alias_prefix(&self) -> String {
        match self {
            Self::Host => "envnet host ".to_owned(),
            Self::Named(name) => format!("envnet netns {name} "),
        }
    }

    /// The name of a filter that runs a program: as with links, who set it and for what.
    #[must_use]
    pub fn filter_name(&self, program: &str) -> String {
        format!("{}{program}", self.alias_prefix())
    }

    /// The environment a link of the managed namespace was made for, if it was made by this instance.
    #[must_use]
    pub fn owner(&self, name: &str, alias: &str, group: u32) -> Option<u32> {
        if !alias.is_empty() || group != LINK_GROUP {
            return self.environment_of_alias(alias);
        }
        let number = name.trim_start_matches(|c: char| c != '-' && !c.is_ascii_digit());
        let number = number
            .rsplit_once(|c: char| !c.is_ascii_digit())
            .map_or(number, |(_, number)| number);
        number
            .parse()
            .ok()
            .filter(|number| topology::host_links(*number).any(|link| link == name))
    }

    fn environment_of_alias(&self, alias: &str) -> Option<u32> {
        alias.strip_prefix(&self.alias_prefix())?.parse().ok()
    }
}

/// A name as a part of a path: the BPF filesystem refuses dots, so they are escaped.
#[must_use]
pub fn without_dots(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

/// A name from what [`without_dots`] has made of it.
#[must_use]
pub fn with_dots(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// The tap of machine V in environment E, in the host's namespace.
#[must_use]
pub fn tap(environment: u32, host_number: u32) -> String {
    format!("vm{environment}.{host_number}")
}

/// The V of a tap of environment E, if that is its name.
#[must_use]
pub fn host_of_tap(environment: u32, name: &str) -> Option<u32> {
    let host = name.rsplit_once('.')?.1.parse().ok()?;
    (tap(environment, host) == name).then_some(host)
}

/// What a derived Ethernet address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MacRole {
    /// `gwE`, seen by the outside.
    RouterWan = 0,
    /// `brE` itself.
    Bridge = 1,
    /// The bridge's port towards the router.
    RouterPort = 2,
    /// The uplink bridge's port towards the router.
    UplinkPort = 3,
}

/// An Ethernet address that is the same on every attach and differs between hosts, environments and roles.
///
/// `host` is what tells hosts apart. The first byte is 0xfe: locally administered, unicast, and higher than what a bridge
/// would choose as its own address (it takes the lowest of its ports'), so that plugging into a user's bridge does not
/// change that bridge's address. The others are the environment and the role, differently disguised by each host and
/// instance: no two of one instance can be the same, as two of a thousand hashes sometimes would.
#[must_use]
pub fn derived_mac(host: &str, instance: &Instance, environment: u32, role: MacRole) -> Mac {
    let disguise = hash(&[host, &instance.path_component()]);
    let number = u64::from(environment) << 2 | role as u64;
    let [.., a, b, c, d, e] = (disguise ^ number).to_be_bytes();
    Mac([0xfe, a, b, c, d, e])
}

/// FNV-1a with the last steps of `MurmurHash3`, without which texts that differ at their ends would share most bits. It is
/// stable for ever, unlike the standard library's hashers.
fn hash(texts: &[&str]) -> u64 {
    let mut hash = fnv1a(texts.iter().flat_map(|text| text.bytes().chain([0])));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn namespace_names_round_trip() {
        for instance in [Instance::Host, Instance::Named("lab-7".into())] {
            assert_eq!(instance.environment_of(&instance.router_namespace(12)), Some(12));
            assert_eq!(instance.environment_of("ns012"), None);
            assert_eq!(instance.environment_of_alias(&instance.alias(12)), Some(12));
        }
        assert_eq!(Instance::Host.environment_of("lab-7-ns1"), None);
        assert_eq!(
            Instance::Named("lab".into()).environment_of_alias(&Instance::Host.alias(1)),
            None
        );
    }

    #[test]
    fn a_link_without_alias_is_owned_by_its_group_and_name() {
        for name in topology::host_links(12) {
            assert_eq!(Instance::Host.owner(&name, "", LINK_GROUP), Some(12), "{name}");
            assert_eq!(Instance::Host.owner(&name, "", 0), None, "{name}");
            assert_eq!(Instance::Host.owner(&name, "somebody's", LINK_GROUP), None, "{name}");
        }
        for name in ["eth0", "br", "br012", "xbr12", "peer1-br", "vm12.3"] {
            assert_eq!(Instance::Host.owner(name, "", LINK_GROUP), None, "{name}");
        }
    }

    #[test]
    fn derived_macs_differ() {
        const ROLES: [MacRole; 4] = [
            MacRole::RouterWan,
            MacRole::Bridge,
            MacRole::RouterPort,
            MacRole::UplinkPort,
        ];
        let instances = [
            Instance::Host,
            Instance::Named("lab-1".into()),
            Instance::Named("lab-2".into()),
        ];
        let mut seen = HashSet::new();
        for host in ["a", "b"] {
            for instance in &instances {
                for (environment, role) in (1..=65_536).flat_map(|number| ROLES.map(|role| (number, role))) {
                    let mac = derived_mac(host, instance, environment, role);
                    assert_eq!(mac, derived_mac(host, instance, environment, role));
                    assert_eq!(mac.0[0], 0xfe, "locally administered, unicast, high");
                    assert!(seen.insert(mac), "{host} {instance:?} {environment} {role:?}");
                }
            }
        }
    }

    #[test]
    fn paths_have_no_dots() {
        assert_eq!(Instance::Named("a.b%".into()).path_component(), "netns-a%2eb%25");
        for name in ["a.b%", "%2e", "eth0.5"] {
            assert_eq!(with_dots(&without_dots(name)), name);
        }
    }
}

//! What a plan writes to the programs' maps: entries that are put, and keys that are deleted.

use std::{collections::BTreeMap, fmt};

use envnet_common::{
    Address,
    maps::{self, Endpoint, FdbKey, Mapping, MappingKey},
};

use super::change::Action;
use crate::{config::Environments, desired::Port, observed_index::KnownPort};

/// An entry of a map: its key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapEntry {
    /// An environment.
    Environment {
        /// Interface index of `gwE`.
        index: u32,
        /// What the programs know of it.
        value: maps::Environment,
    },
    /// A mapping, with its counters.
    Mapping {
        /// Which.
        key: MappingKey,
        /// Its external address.
        value: Mapping,
    },
    /// The uplink, of which there is one. All zero means that there is no fast path.
    Uplink(maps::Uplink),
    /// A mapping as the fast path knows it.
    Endpoint {
        /// Its external address.
        external: Address,
        /// The guest that has it.
        value: Endpoint,
    },
    /// An Ethernet address that is promised to a guest.
    GuestMac {
        /// Environment and address.
        key: FdbKey,
        /// The guest's internal address.
        guest: Address,
    },
    /// A port of the fast path. Its key and its value hold the indices of links, which are known once those are made.
    Port(Port),
    /// A port that is known already.
    PortAt {
        /// Its interface index.
        index: u32,
        /// Its name.
        link: String,
        /// What the programs know of it.
        value: maps::Port,
    },
}

/// Keys of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapKeys {
    /// Environments with all the maps hold of them, by interface index of `gwE`: their numbers.
    Environments(BTreeMap<u32, u32>),
    /// Mappings with their counters and drops.
    Mappings(Vec<MappingKey>),
    /// Mappings of the fast path, by external address.
    Endpoints(Vec<Address>),
    /// Ethernet addresses that are promised to guests.
    GuestMacs(Vec<FdbKey>),
    /// A port of the fast path, by the name of its link.
    Port(String),
    /// Ports of the fast path, some of which may have lost their link.
    Ports(Vec<KnownPort>),
}

impl MapEntry {
    /// What takes the entry away again.
    pub(super) fn delete(&self) -> Action {
        Action::Delete(match self {
            Self::Environment { index, value } => MapKeys::Environments(BTreeMap::from([(*index, value.number)])),
            Self::Mapping { key, .. } => MapKeys::Mappings(vec![*key]),
            Self::Endpoint { external, .. } => MapKeys::Endpoints(vec![*external]),
            Self::GuestMac { key, .. } => MapKeys::GuestMacs(vec![*key]),
            Self::Port(Port { link, .. }) | Self::PortAt { link, .. } => MapKeys::Port(link.clone()),
            // An entry of an array is always there.
            Self::Uplink(value) => {
                return Action::Put {
                    new: Self::Uplink(maps::Uplink::default()),
                    old: Some(Self::Uplink(*value)),
                };
            }
        })
    }
}

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { value, .. } => write!(f, "environment {} in the maps", value.number),
            Self::Mapping { key, value } => write!(f, "mapping {} = {}", key.internal, value.external),
            Self::Uplink(_) => f.write_str("uplink in the maps"),
            Self::Endpoint { external, value } => write!(f, "fast path to {} = {external}", value.internal),
            Self::GuestMac { key, guest } => write!(f, "{} for {guest} only", key.mac),
            Self::Port(Port { link, .. }) | Self::PortAt { link, .. } => write!(f, "fast path at {link}"),
        }
    }
}

impl fmt::Display for MapKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environments(environments) => {
                let environments: Environments = environments.values().copied().collect();
                write!(f, "{} in the maps", environments.named())
            }
            Self::Mappings(keys) => {
                f.write_str("mapping")?;
                keys.iter().try_for_each(|key| write!(f, " {}", key.internal))
            }
            Self::Endpoints(external) => {
                f.write_str("fast path to")?;
                external.iter().try_for_each(|external| write!(f, " {external}"))
            }
            Self::GuestMacs(keys) => {
                f.write_str("promise of")?;
                keys.iter().try_for_each(|key| write!(f, " {}", key.mac))
            }
            Self::Port(link) => write!(f, "fast path at {link}"),
            Self::Ports(ports) => {
                f.write_str("fast path at")?;
                ports.iter().try_for_each(|port| match &port.link {
                    Some(link) => write!(f, " {link}"),
                    None => write!(f, " interface {} (gone)", port.index),
                })
            }
        }
    }
}

//! Writes to the programs' maps.

use std::collections::HashMap;

use super::worker::Worker;
use crate::{
    desired::Port,
    kernel::{Explain as _, Result, netlink},
    plan::{MapEntry, MapKeys},
    topology::AttachPoint,
};

impl Worker<'_> {
    /// Puts an entry, in place of the old one if there is one.
    pub(super) async fn put(&mut self, new: &MapEntry, old: Option<&MapEntry>) -> Result<()> {
        match new {
            MapEntry::Environment { index, value } => {
                let old = match old {
                    Some(MapEntry::Environment { value, .. }) => Some(*value),
                    _ => None,
                };
                self.maps()?.insert_environment(*index, *value, old)
            }
            MapEntry::Mapping { key, value } => self.maps()?.insert_mapping(*key, *value),
            MapEntry::Uplink(value) => Ok(self.maps()?.uplink.set(0, *value, 0)?),
            MapEntry::Endpoint { external, value } => self.maps()?.insert_endpoint(*external, *value),
            MapEntry::GuestMac { key, guest } => self.maps()?.insert_guest_mac(*key, *guest),
            MapEntry::Port(port) => self.insert_port(port).await,
            // It is among the taps already, if it is one.
            MapEntry::PortAt { index, value, .. } => {
                let host = self.host;
                self.maps()?.insert_port(host, *index, *value, false)
            }
        }
    }

    /// Deletes keys with all that belongs to them; no error for one that is not there.
    pub(super) fn delete(&mut self, keys: &MapKeys) -> Result<()> {
        match keys {
            MapKeys::Environments(environments) => self.maps()?.remove_environments(environments),
            MapKeys::Mappings(keys) => self.maps()?.remove_mappings(keys),
            MapKeys::Endpoints(external) => self.maps()?.remove_endpoints(external),
            MapKeys::GuestMacs(keys) => self.maps()?.remove_guest_macs(keys),
            MapKeys::Port(link) => match self.host.index(link)? {
                Some(index) => self.maps()?.remove_ports(&[index]),
                None => Ok(()),
            },
            MapKeys::Ports(ports) => {
                let indices: Vec<u32> = ports.iter().map(|port| port.index).collect();
                self.maps()?.remove_ports(&indices)
            }
        }
    }

    async fn insert_port(&mut self, port: &Port) -> Result<()> {
        let mut indices = HashMap::new();
        for name in [port.link.clone(), port.router.clone(), port.exit.clone()] {
            let index = self.host.index(&name)?.explain(|| format!("{name} is gone"))?;
            indices.insert(name, index);
        }
        let (index, entry) = port
            .entry(|name| indices.get(name).copied())
            .explain(|| "the port's links are gone")?;
        // Not every kind takes frames from XDP: a veth loses them without a word unless its other end has XDP or GRO, too.
        let is_tap = match port.point {
            AttachPoint::GuestPort => true,
            AttachPoint::ForeignPort => {
                let link = self.host_netlink()?.link(&port.link).await?;
                link.is_some_and(|link| matches!(link.kind, netlink::Kind::Tap { .. }))
            }
            _ => false,
        };
        let host = self.host;
        self.maps()?.insert_port(host, index, entry, is_tap)
    }
}

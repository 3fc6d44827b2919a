//! The maps of the model.

use super::*;

impl Model {
    pub(super) fn put(&mut self, entry: MapEntry) {
        let observed = &mut self.observed;
        match entry {
            MapEntry::Environment { index, value } => {
                observed.environments.insert(index, value);
                observed.router_wans.insert(value.mac, value.number);
            }
            MapEntry::Mapping { key, value } => {
                observed.mappings.insert(key, value);
                observed.counted.insert(key);
            }
            MapEntry::Uplink(value) => observed.fast.uplink = Some(value),
            MapEntry::Endpoint { external, value } => {
                let location = Location {
                    interface: 77,
                    ..Location::default()
                };
                let learned = Endpoint { location, ..value };
                observed.fast.endpoints.insert(external, learned);
            }
            MapEntry::GuestMac { key, guest } => drop(observed.fast.guest_macs.insert(key, guest)),
            MapEntry::Port(port) => {
                let entry = port.entry(|name| observed.links.get(name).map(|link| link.index));
                let (index, entry) = entry.expect("the port's links exist");
                observed.fast.ports.insert(index, entry);
                observed.fast.taps.insert(index);
            }
            MapEntry::PortAt { index, value, .. } => drop(observed.fast.ports.insert(index, value)),
        }
    }

    pub(super) fn delete(&mut self, keys: MapKeys) {
        let observed = &mut self.observed;
        match keys {
            MapKeys::Environments(environments) => {
                for (index, number) in environments {
                    observed.environments.remove(&index);
                    observed.mappings.retain(|key, _| key.environment != number);
                    observed.counted.retain(|key| key.environment != number);
                    observed.router_wans.retain(|_, known| *known != number);
                    observed.fast.guest_macs.retain(|key, _| key.environment != number);
                }
            }
            MapKeys::Mappings(keys) => {
                observed.mappings.retain(|key, _| !keys.contains(key));
                observed.counted.retain(|key| !keys.contains(key));
            }
            MapKeys::Endpoints(external) => observed.fast.endpoints.retain(|key, _| !external.contains(key)),
            MapKeys::GuestMacs(keys) => observed.fast.guest_macs.retain(|key, _| !keys.contains(key)),
            MapKeys::Port(link) => {
                let index = observed.links[&link].index;
                observed.fast.ports.remove(&index);
            }
            MapKeys::Ports(gone) => {
                let is_gone = |index| gone.iter().any(|port| port.index == index);
                observed.fast.ports.retain(|index, _| !is_gone(*index));
            }
        }
    }
}

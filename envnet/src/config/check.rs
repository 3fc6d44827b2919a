//! Everything that can be wrong with a configuration without looking at the kernel.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::Ipv4Addr,
    ops::Range,
};

use envnet_common::Mac;
use ipnet::Ipv4Net;
use toml::Spanned;

use super::{Accelerate, Addresses, Config, ROUTER, Taps, Uplink, UplinkMode, Vm, error::Problem, file, limits};
use crate::{names, topology};

/// `IFNAMSIZ` - 1: the kernel refuses longer names.
const LONGEST_NAME: usize = 15;

pub(super) fn check(file: &file::File) -> Result<Config, Problem> {
    let addresses = addresses(&file.addresses)?;
    let environments = environments(&file.environments, &addresses)?;
    let uplink = uplink(&file.uplink, &addresses, &environments)?;
    let vms = vms(&file.vm, &addresses)?;
    names_fit(file, &environments, &addresses, &vms)?;
    limits::check(file, &environments, &vms)?;
    let taps = Taps {
        user: file.taps.user.clone(),
        group: file.taps.group.clone(),
    };
    Ok(Config {
        environments,
        uplink,
        addresses,
        taps,
        vms,
    })
}

pub(super) fn problem<T>(key: impl Into<String>, span: Range<usize>, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem {
        key: key.into(),
        span,
        message: message.into(),
    })
}

fn addresses(file: &file::Addresses) -> Result<Addresses, Problem> {
    let internal = network("addresses.internal", &file.internal)?;
    let external = network("addresses.external", &file.external)?;
    let router = *file.router.get_ref();
    if !(1..=30).contains(&internal.prefix_len()) {
        return problem(
            "addresses.internal",
            file.internal.span(),
            format!("{internal} has no room for a router and a guest; use a prefix between /1 and /30"),
        );
    }
    if external.prefix_len() > internal.prefix_len() {
        return problem(
            "addresses.external",
            file.external.span(),
            format!(
                "{external} is smaller than one environment ({internal}); use a prefix of /{} or shorter",
                internal.prefix_len()
            ),
        );
    }
    if external.contains(&internal.network()) || internal.contains(&external.network()) {
        return problem(
            "addresses.external",
            file.external.span(),
            format!("{external} overlaps addresses.internal {internal}; the two must be apart"),
        );
    }
    for (key, span, prefix) in [
        ("addresses.internal", file.internal.span(), internal),
        ("addresses.external", file.external.span(), external),
    ] {
        if !is_unicast(prefix.network()) || !is_unicast(prefix.broadcast()) {
            return problem(
                key,
                span,
                format!("{prefix} holds addresses that no host can have; use a unicast prefix"),
            );
        }
    }
    host_in("addresses.router", file.router.span(), router, internal)?;
    Ok(Addresses {
        internal,
        router,
        external,
    })
}

fn is_unicast(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn network(key: &str, value: &Spanned<file::PrefixText>) -> Result<Ipv4Net, Problem> {
    let prefix = value.get_ref().0;
    if prefix.addr() == prefix.network() {
        Ok(prefix)
    } else {
        problem(
            key,
            value.span(),
            format!("{prefix} has host bits set; write {}", prefix.trunc()),
        )
    }
}

fn host_in(key: impl Into<String>, span: Range<usize>, address: Ipv4Addr, prefix: Ipv4Net) -> Result<(), Problem> {
    if !prefix.contains(&address) {
        return problem(
            key,
            span,
            format!("{address} is outside addresses.internal {prefix}; use an address in it"),
        );
    }
    if address == prefix.network() || address == prefix.broadcast() {
        return problem(
            key,
            span,
            format!("{address} is the network or broadcast address of {prefix}; use another one"),
        );
    }
    Ok(())
}

fn environments(file: &Spanned<super::Environments>, addresses: &Addresses) -> Result<Vec<u32>, Problem> {
    let capacity = addresses.capacity();
    let environments: Vec<u32> = file.get_ref().iter().collect();
    match environments.iter().find(|&&number| u64::from(number) >= capacity) {
        Some(number) => problem(
            "environments",
            file.span(),
            format!(
                "environment {number} has no subnet: {} holds the environments up to {}; use a smaller number or a larger addresses.external",
                addresses.external,
                capacity - 1
            ),
        ),
        None => Ok(environments),
    }
}

fn uplink(file: &file::Uplink, addresses: &Addresses, environments: &[u32]) -> Result<Uplink, Problem> {
    let interface = file.interface.get_ref();
    if let Err(why) = interface_name(interface) {
        return problem("uplink.interface", file.interface.span(), why);
    }
    if let Some(gateway) = &file.gateway {
        let address = *gateway.get_ref();
        if !is_unicast(address) || addresses.internal.contains(&address) {
            return problem(
                "uplink.gateway",
                gateway.span(),
                format!("{address} cannot be a next hop on the uplink; use the address of the outside router"),
            );
        }
        if let Some(number) = environments
            .iter()
            .find(|&&number| addresses.external_subnet(number).contains(&address))
        {
            return problem(
                "uplink.gateway",
                gateway.span(),
                format!(
                    "{address} is inside environment {number}'s {}; leave environment {number} out, or move the gateway or addresses.external",
                    addresses.external_subnet(*number)
                ),
            );
        }
    }
    if let Some(accelerate) = &file.accelerate
        && *accelerate.get_ref() == Accelerate::Xdp
        && file.mode == UplinkMode::Bridge
    {
        return problem(
            "uplink.accelerate",
            accelerate.span(),
            "a bridge has no driver for XDP to run in; use \"tc\" or \"auto\", or uplink.mode = \"macvlan\"",
        );
    }
    Ok(Uplink {
        accelerate: file
            .accelerate
            .as_ref()
            .map_or_else(Accelerate::default, |value| *value.get_ref()),
        interface: interface.clone(),
        mode: file.mode,
        gateway: file.gateway.as_ref().map(|gateway| *gateway.get_ref()),
        host: file.host.unwrap_or(true),
    })
}

fn interface_name(name: &str) -> Result<(), String> {
    let wrong = name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if wrong {
        return Err(format!(
            "`{name}` cannot be the name of an interface; see `ip link` for those there are"
        ));
    }
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "`{name}` has more than {LONGEST_NAME} characters, which no interface has; see `ip link`"
        ));
    }
    Ok(())
}

fn vms(file: &[Spanned<file::Vm>], addresses: &Addresses) -> Result<Vec<Vm>, Problem> {
    if file.is_empty() {
        return problem(
            "vm",
            0..0,
            "no virtual machine at all; add a [[vm]] with name and address",
        );
    }
    let (mut by_name, mut by_address, mut by_mac) = (HashMap::new(), HashMap::new(), HashMap::new());
    file.iter()
        .map(Spanned::get_ref)
        .enumerate()
        .map(|(index, vm)| {
            let key = |field: &str| format!("vm[{index}].{field}");
            let name = vm.name.get_ref();
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return problem(
                    key("name"),
                    vm.name.span(),
                    format!("`{name}` is not a name; use a word without spaces"),
                );
            }
            if name == ROUTER {
                return problem(
                    key("name"),
                    vm.name.span(),
                    format!("`{ROUTER}` is what every environment's own router is called; use another name"),
                );
            }
            unique(&mut by_name, name.clone(), key("name"), vm.name.span(), index)?;
            let address = *vm.address.get_ref();
            host_in(key("address"), vm.address.span(), address, addresses.internal)?;
            if address == addresses.router {
                return problem(
                    key("address"),
                    vm.address.span(),
                    format!("{address} is the router's (addresses.router); use another one"),
                );
            }
            unique(&mut by_address, address, key("address"), vm.address.span(), index)?;
            let mac = match &vm.mac {
                None => None,
                Some(text) if vm.floating => {
                    return problem(
                        key("mac"),
                        text.span(),
                        "a floating address is behind the Ethernet address of the machine that holds it; leave `mac` out",
                    );
                }
                Some(text) => {
                    let mac = text.get_ref().0;
                    if mac.0[0] & 1 != 0 || mac == Mac::default() || mac == names::ROUTER_INSIDE_MAC {
                        return problem(
                            key("mac"),
                            text.span(),
                            format!("{mac} is a group address, zero or the router's own; use a unicast address"),
                        );
                    }
                    unique(&mut by_mac, mac.to_string(), key("mac"), text.span(), index)?;
                    Some(mac)
                }
            };
            Ok(Vm {
                name: name.clone(),
                address,
                mac,
                floating: vm.floating,
            })
        })
        .collect()
}

fn unique<T: Hash + Eq + ToString>(
    seen: &mut HashMap<T, usize>,
    value: T,
    key: String,
    span: Range<usize>,
    index: usize,
) -> Result<(), Problem> {
    let text = value.to_string();
    match seen.insert(value, index) {
        None => Ok(()),
        Some(earlier) => problem(
            key,
            span,
            format!("{text} is vm[{earlier}]'s already; every machine needs its own"),
        ),
    }
}

fn names_fit(file: &file::File, environments: &[u32], addresses: &Addresses, vms: &[Vm]) -> Result<(), Problem> {
    let highest = environments.last().copied().unwrap_or_default();
    let machines = || vms.iter().enumerate().filter(|(_, vm)| !vm.floating);
    for (index, vm) in machines() {
        let name = names::tap(highest, addresses.host_number(vm.address));
        if name.len() > LONGEST_NAME {
            return problem(
                format!("vm[{index}].address"),
                file.vm[index].get_ref().address.span(),
                format!(
                    "its tap would be called {name}, more than the kernel's {LONGEST_NAME} characters; use a longer addresses.internal prefix or smaller environment numbers"
                ),
            );
        }
    }
    let interface = file.uplink.interface.get_ref();
    let hosts: HashSet<u32> = machines().map(|(_, vm)| addresses.host_number(vm.address)).collect();
    let is_tap = |number: u32| names::host_of_tap(number, interface).is_some_and(|host| hosts.contains(&host));
    let own = |number: &u32| topology::host_links(*number).any(|link| link == *interface) || is_tap(*number);
    match environments.iter().find(|number| own(number)) {
        Some(number) => problem(
            "uplink.interface",
            file.uplink.interface.span(),
            format!(
                "`{interface}` is the name of one of environment {number}'s own links; leave environment {number} out or rename the uplink"
            ),
        ),
        None => Ok(()),
    }
}

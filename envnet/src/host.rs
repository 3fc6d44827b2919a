//! What the host must be like for a configuration to be attached to it.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path};

use ipnet::Ipv4Net;
use nix::unistd::{Group, User};

use crate::{
    config::{Config, UplinkMode},
    desired::{HostFacts, Uplink},
    inspect::HostLinks,
    kernel::{
        self, Explain as _,
        netlink::{Kind, Link, Netlink},
        programs::{self, Hook},
    },
    names::Instance,
};

/// Why a configuration cannot be attached to this host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel lacks what the programs need.
    #[error("this kernel is {found}; envnet needs Linux {needed} or newer")]
    KernelTooOld {
        /// The running kernel.
        found: String,
        /// The oldest one envnet works on.
        needed: String,
    },
    /// Not enough privilege.
    #[error(
        "`envnet {0}` looks into network namespaces and eBPF maps, which takes root; run it with sudo (`envnet check` needs none)"
    )]
    NotRoot(&'static str),
    /// Root, but without what makes root.
    #[error(
        "envnet needs {0}, which root does not have here; a systemd service gets it by CapabilityBoundingSet=, a container by \
         its engine's options"
    )]
    MissingCapabilities(String),
    /// The uplink does not exist.
    #[error("uplink.interface: there is no interface `{0}`; see `ip link`")]
    NoUplink(String),
    /// The uplink cannot carry a macvlan or a veth.
    #[error("uplink.interface: {0}")]
    UnfitUplink(String),
    /// An address of the host lies where an environment's external addresses do.
    #[error(
        "addresses.external: environment {environment} would own {subnet}, but {interface} has {address}; leave environment {environment} out or move the pool"
    )]
    AddressInside {
        /// The environment.
        environment: u32,
        /// Its external subnet.
        subnet: Ipv4Net,
        /// The interface of the host.
        interface: String,
        /// The address.
        address: Ipv4Net,
    },
    /// The routers' next hop is the host, which guests must not reach.
    #[error(
        "uplink.gateway: {0} is the host's own address, and uplink.host = false keeps guests from the host; use another one"
    )]
    GatewayBarred(Ipv4Addr),
    /// No such user or group.
    #[error("taps.{key}: there is no {key} `{name}`; create it or name another")]
    NoOwner {
        /// `user` or `group`.
        key: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The host could not be looked at.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

/// User number of root.
const ROOT: u32 = 0;

/// The oldest kernel the programs are made for.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Refuses a kernel that is too old; `release` is what `uname -r` prints.
pub fn check_kernel(release: &str) -> Result<(), HostError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST_KERNEL {
        return Ok(());
    }
    let needed = format!("{}.{}", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
    Err(HostError::KernelTooOld {
        found: release.to_owned(),
        needed,
    })
}

/// Refuses to go on without the privileges that a command on the host needs.
pub fn check_privileges(command: &'static str) -> Result<(), HostError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(HostError::NotRoot(command));
    }
    let status = fs::read_to_string("/proc/self/status").explain(|| "cannot read /proc/self/status")?;
    check_capabilities(&status)
}

/// What changing the network, and entering namespaces and mounting, take (`linux/capability.h`). The latter contains what
/// loading programs takes.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

fn check_capabilities(status: &str) -> Result<(), HostError> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Ok(());
    };
    let missing = CAPABILITIES.iter().filter(|(number, _)| effective >> number & 1 == 0);
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(HostError::MissingCapabilities(missing.join(" and ")))
    }
}

/// Checks the configuration against the host's links and addresses, and says what the plan needs to know of them. Addresses
/// on the instance's own links are for the plan to remove.
pub fn check(config: &Config, instance: &Instance, host: &HostLinks) -> Result<HostFacts, HostError> {
    let uplink = uplink(config, &host.links)?;
    let foreign: BTreeMap<u32, &str> = host
        .links
        .iter()
        .filter(|link| link.owner(instance).is_none())
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let gateway = config.uplink.gateway.filter(|_| !config.uplink.host);
    if let Some(gateway) = gateway.filter(|gateway| host.addresses.iter().any(|(_, own)| own.addr() == *gateway)) {
        return Err(HostError::GatewayBarred(gateway));
    }
    for (index, address) in &host.addresses {
        let Some(interface) = foreign.get(index) else {
            continue;
        };
        let inside = |&&number: &&u32| config.addresses.external_subnet(number).contains(&address.addr());
        if let Some(&environment) = config.environments.iter().find(inside) {
            return Err(HostError::AddressInside {
                environment,
                subnet: config.addresses.external_subnet(environment),
                interface: (*interface).to_owned(),
                address: *address,
            });
        }
    }
    let user = owner("user", config.taps.user.as_deref(), |name| {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    })?;
    let tap_group = owner("group", config.taps.group.as_deref(), |name| {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    })?;
    Ok(HostFacts {
        identity: identity(config, uplink)?,
        uplink: uplink.index,
        uplink_mac: uplink.mac,
        mtu: uplink.mtu,
        // The kernel lets any local user open a tap that has neither.
        tap_user: user.or_else(|| tap_group.is_none().then_some(ROOT)),
        tap_group,
    })
}

/// Refuses an uplink with something of somebody else's on it that envnet's programs cannot be beside.
pub async fn check_programs(
    netlink: &Netlink,
    instance: &Instance,
    uplink: &Uplink,
    links: &[Link],
    hook: Option<Hook>,
) -> Result<(), HostError> {
    let name = &uplink.interface;
    let link = links.iter().find(|link| link.name == *name);
    let link = link.ok_or_else(|| HostError::NoUplink(name.clone()))?;
    for &point in &uplink.points {
        let obstacle = programs::find_obstacle(netlink, instance, point, link, Hook::of(point, hook));
        if let Some(obstacle) = obstacle.await? {
            return Err(HostError::UnfitUplink(obstacle.to_string()));
        }
    }
    Ok(())
}

fn uplink<'a>(config: &Config, links: &'a [Link]) -> Result<&'a Link, HostError> {
    let name = &config.uplink.interface;
    let uplink = links
        .iter()
        .find(|link| link.name == *name)
        .ok_or_else(|| HostError::NoUplink(name.clone()))?;
    let unfit = |why: String| Err(HostError::UnfitUplink(why));
    match (config.uplink.mode, &uplink.kind) {
        (_, Kind::Other) => {
            return unfit(format!(
                "`{name}` is not an Ethernet interface; name the one that leads outside"
            ));
        }
        (UplinkMode::Bridge, Kind::Bridge) => {}
        (UplinkMode::Bridge, _) => {
            return unfit(format!(
                "`{name}` is not a bridge; name one, or set uplink.mode = \"macvlan\""
            ));
        }
        (UplinkMode::Macvlan, _) => {
            if let Some(master) = uplink.master {
                let master = links.iter().find(|link| link.index == master);
                let master = master.map_or_else(|| "another interface".to_owned(), |link| format!("`{}`", link.name));
                return unfit(format!(
                    "`{name}` is a port of {master} and cannot carry a macvlan; name {master} with uplink.mode = \"bridge\""
                ));
            }
        }
    }
    if !uplink.up {
        return unfit(format!("`{name}` is down; bring it up with `ip link set {name} up`"));
    }
    Ok(uplink)
}

/// What makes the routers' outside Ethernet addresses differ from other hosts': the machine's number and, because cloned
/// machines may share it, the uplink's own address. A bridge has none of its own: it follows its ports.
fn identity(config: &Config, uplink: &Link) -> kernel::Result<String> {
    let path = Path::new("/etc/machine-id");
    let machine = if path.exists() {
        fs::read_to_string(path).explain(|| "cannot read /etc/machine-id")?
    } else {
        String::new()
    };
    let uplink = match config.uplink.mode {
        UplinkMode::Macvlan => uplink.mac.to_string(),
        UplinkMode::Bridge => uplink.name.clone(),
    };
    Ok(format!("{} {uplink}", machine.trim()))
}

fn owner(
    key: &'static str,
    name: Option<&str>,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, HostError> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let number = look_up(name).explain(|| format!("cannot look up the {key} `{name}`"))?;
    Ok(Some(number.ok_or_else(|| HostError::NoOwner {
        key,
        name: name.to_owned(),
    })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let check = |mask: &str| check_capabilities(&format!("Name:\tenvnet\nCapEff:\t{mask}\n"));
        assert!(check("000001ffffffffff").is_ok());
        assert!(check("0000000000201000").is_ok());
        let error = check("0000000000200000").expect_err("no CAP_NET_ADMIN").to_string();
        assert!(
            error.contains("CAP_NET_ADMIN") && !error.contains("CAP_SYS_ADMIN"),
            "{error}"
        );
        let error = check("0000000000000000").expect_err("nothing").to_string();
        assert!(error.contains("CAP_NET_ADMIN and CAP_SYS_ADMIN"), "{error}");
    }

    #[test]
    fn old_kernels_are_refused() {
        for fine in ["6.1.0-49-cloud-amd64", "6.18.44", "7.0-rc1"] {
            assert!(check_kernel(fine).is_ok(), "{fine}");
        }
        for old in ["6.0.19", "5.10.0-9-amd64", "4.19"] {
            let error = check_kernel(old).expect_err(old).to_string();
            assert!(error.contains(old) && error.contains("6.1"), "{error}");
        }
    }
}

//! What the user wrote: `envnet.toml`, parsed and checked.
//!
//! [`mod@file`] is the file as it stands, with the position of every value; [`Config`] is what is left once everything that
//! can be wrong without looking at the kernel has been ruled out. The checks themselves are in [`check`].

mod check;
mod environments;
mod error;
mod file;
mod limits;
mod mac;

use std::{net::Ipv4Addr, path::Path};

use envnet_common::Mac;
use ipnet::Ipv4Net;

pub use self::{environments::Environments, error::ConfigError};

/// What the router is called where guests have their names.
pub const ROUTER: &str = "router";

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The environments to run, ascending and without repetition.
    pub environments: Vec<u32>,
    /// Where the outside is.
    pub uplink: Uplink,
    /// The prefixes.
    pub addresses: Addresses,
    /// Who may open the taps.
    pub taps: Taps,
    /// The virtual machines that every environment has a copy of.
    pub vms: Vec<Vm>,
}

/// The way to the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Name of the interface (macvlan mode) or of the bridge (bridge mode).
    pub interface: String,
    /// How the routers are connected to it.
    pub mode: UplinkMode,
    /// The routers' next hop for everything outside the external pool.
    pub gateway: Option<Ipv4Addr>,
    /// The fast path past the routers.
    pub accelerate: Accelerate,
    /// Whether guests and host may reach each other.
    pub host: bool,
}

/// Which fast path is used between the uplink and the taps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerate {
    /// The one that serves most.
    #[default]
    Auto,
    /// XDP in the uplink's driver, and TC for what that leaves.
    Xdp,
    /// TC on the uplink and on the taps.
    Tc,
    /// None: everything goes through the routers.
    Off,
}

/// How the routers are connected to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkMode {
    /// A macvlan in bridge mode on top of an interface.
    Macvlan,
    /// A veth plugged into a bridge that exists already.
    Bridge,
}

/// The address plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// What the guests see, the same in every environment.
    pub internal: Ipv4Net,
    /// The router's address in it.
    pub router: Ipv4Addr,
    /// The pool of external addresses; environment E owns the E-th subnet of the internal prefix's size.
    pub external: Ipv4Net,
}

/// Owner and group of the taps, by name or number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taps {
    /// Owner.
    pub user: Option<String>,
    /// Group.
    pub group: Option<String>,
}

/// One virtual machine of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// The role's name.
    pub name: String,
    /// Its internal address, the same in every environment.
    pub address: Ipv4Addr,
    /// Its Ethernet address, when it is known beforehand.
    pub mac: Option<Mac>,
    /// Whether it is no machine, but an address that the machines hold in turns: it has no tap.
    pub floating: bool,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks a file's text; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: file::File = toml::from_str(text).map_err(|source| ConfigError::syntax(path, text, &source))?;
        check::check(&file).map_err(|problem| problem.at(path, text))
    }
}

impl Config {
    /// What is right but rarely meant.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let pool = self.addresses.external;
        let outside = self.uplink.gateway.filter(|gateway| !pool.contains(gateway));
        outside.map(|gateway| {
            format!(
                "uplink.gateway {gateway} is outside addresses.external {pool}: the routers ask for it on the uplink all the \
                 same, but it answers only if it knows that {pool} is there"
            )
        })
    }

    /// The same for a part of the environments; `path` is the file's, for the error.
    pub fn only(mut self, part: &Environments, path: &Path) -> Result<Self, ConfigError> {
        let missing: Environments = part
            .iter()
            .filter(|number| !self.environments.contains(number))
            .collect();
        if missing.iter().next().is_some() {
            let path = path.to_owned();
            return Err(ConfigError::NoEnvironment { path, missing });
        }
        self.environments.retain(|number| part.contains(*number));
        Ok(self)
    }
}

impl Addresses {
    /// Number of environments the pool has room for, number 0 included.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        1 << (self.internal.prefix_len() - self.external.prefix_len())
    }

    /// Environment E's external subnet: 172.16.E.0/24.
    #[must_use]
    pub fn external_subnet(&self, environment: u32) -> Ipv4Net {
        let host_bits = 32 - u32::from(self.internal.prefix_len());
        let base = u32::from(self.external.network()) + environment.checked_shl(host_bits).unwrap_or(0);
        Ipv4Net::new_assert(Ipv4Addr::from(base), self.internal.prefix_len())
    }

    /// The external address of an internal one: host bits are kept.
    #[must_use]
    pub fn external_address(&self, environment: u32, internal: Ipv4Addr) -> Ipv4Addr {
        let host = u32::from(internal) & u32::from(self.internal.hostmask());
        Ipv4Addr::from(u32::from(self.external_subnet(environment).network()) | host)
    }

    /// The number V of a machine: its host bits.
    #[must_use]
    pub fn host_number(&self, internal: Ipv4Addr) -> u32 {
        u32::from(internal) & u32::from(self.internal.hostmask())
    }
}

#[cfg(test)]
mod tests;

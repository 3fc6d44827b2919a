//! The file as it stands, every value with its position.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;
use toml::Spanned;

use super::{Accelerate, UplinkMode, environments::Environments, mac::MacText};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) environments: Spanned<Environments>,
    pub(super) uplink: Uplink,
    pub(super) addresses: Addresses,
    #[serde(default)]
    pub(super) taps: Taps,
    #[serde(default)]
    pub(super) vm: Vec<Spanned<Vm>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    pub(super) interface: Spanned<String>,
    pub(super) mode: UplinkMode,
    pub(super) gateway: Option<Spanned<Ipv4Addr>>,
    pub(super) accelerate: Option<Spanned<Accelerate>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addresses {
    pub(super) internal: Spanned<Ipv4Net>,
    pub(super) router: Spanned<Ipv4Addr>,
    pub(super) external: Spanned<Ipv4Net>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Taps {
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vm {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<Ipv4Addr>,
    pub(super) mac: Option<Spanned<MacText>>,
}

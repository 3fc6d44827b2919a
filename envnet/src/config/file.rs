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
    pub(super) host: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Addresses {
    pub(super) internal: Spanned<PrefixText>,
    pub(super) router: Spanned<Ipv4Addr>,
    pub(super) external: Spanned<PrefixText>,
}

/// A prefix as it is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PrefixText(pub(super) Ipv4Net);

impl TryFrom<String> for PrefixText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |_| format!("`{text}` is not an IPv4 prefix; write one with its length, 10.0.0.0/24");
        text.parse().map(Self).map_err(wrong)
    }
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
    #[serde(default)]
    pub(super) floating: bool,
}

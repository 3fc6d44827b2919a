//! What `envnet status` has counted.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result};
use serde_json::Value;

/// Packets and bytes in, then out, by environment and internal address.
pub type Counters = BTreeMap<(u8, Ipv4Addr), [u64; 4]>;

/// The counters in an answer of `envnet --json status`.
pub fn counters(status: &Value) -> Result<Counters> {
    let mut counters = Counters::new();
    for environment in status["environments"].as_array().context("no environments")? {
        let number = environment["environment"].as_u64().context("no number")?;
        for guest in environment["guests"].as_array().context("no guests")? {
            let internal = guest["internal"].as_str().context("no address")?.parse()?;
            let mut values = [0; 4];
            for (value, name) in values
                .iter_mut()
                .zip(["packets_in", "bytes_in", "packets_out", "bytes_out"])
            {
                *value = guest[name].as_u64().context(name)?;
            }
            counters.insert((u8::try_from(number)?, internal), values);
        }
    }
    Ok(counters)
}

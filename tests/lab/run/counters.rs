//! The counters in `envnet status --json`.

use std::net::Ipv4Addr;

use serde_json::Value;

/// Packets in and out of one guest.
pub(super) fn of(status: &Value, environment: u8, internal: Ipv4Addr) -> Option<(u64, u64)> {
    let environments = status["environments"].as_array()?;
    let environment = environments.iter().find(|entry| entry["environment"] == environment)?;
    let internal = internal.to_string();
    let guest = environment["guests"]
        .as_array()?
        .iter()
        .find(|entry| entry["internal"] == internal.as_str())?;
    Some((guest["packets_in"].as_u64()?, guest["packets_out"].as_u64()?))
}

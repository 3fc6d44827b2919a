//! `net.*` sysctls, as files. `/proc/sys/net` shows those of the namespace of the thread that opens the file.

use std::fs;

use anyhow::{Context, Result};

use super::netns::Netns;

/// A sysctl by its path below `/proc/sys/net`, with slashes: interface names may have dots (`vm1.2`).
#[must_use]
pub fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

/// Reads several values; `None` for one that does not exist (a kernel without IPv6, an interface that is not there).
pub fn read(netns: &Netns, keys: &[&str]) -> Result<Vec<Option<String>>> {
    netns.run(|| {
        keys.iter()
            .map(|key| Some(fs::read_to_string(path(key)).ok()?.trim().to_owned()))
            .collect()
    })
}

/// Writes a value.
pub fn write(netns: &Netns, key: &str, value: &str) -> Result<()> {
    netns
        .run(|| fs::write(path(key), value))?
        .with_context(|| format!("cannot set sysctl {key} to {value}"))
}

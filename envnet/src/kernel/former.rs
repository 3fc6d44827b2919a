//! Names that maps and programs had in earlier builds. An upgrade keeps such maps with all that is in them, and replaces such
//! programs like those of any other build.

use std::{
    fs,
    path::{Path, PathBuf},
};

use envnet_common::maps;

use super::{Explain as _, Result};

/// Maps of the present layout version that were renamed: name, former name. A new version starts without any.
const MAPS: [(&str, &str); 2] = [(maps::ROUTER_WANS, "GATEWAYS"), (maps::FDB, "STATIONS")];

/// Former names of programs.
pub(super) const PROGRAMS: [&str; 1] = ["gateway_port_egress"];

/// The names that maps have or had.
pub(super) fn map_names() -> impl Iterator<Item = &'static str> {
    maps::ALL.into_iter().chain(MAPS.map(|(_, former)| former))
}

/// Where a map is pinned in the directory of all maps. A pin with a former name has priority: this build renames pins at the
/// end of an upgrade, so that such a pin means that an earlier build ran last, or that an upgrade is unfinished.
#[must_use]
pub(super) fn map_pin(directory: &Path, name: &str) -> PathBuf {
    let pins = renamed_pins(directory).find(|(present, _)| present.ends_with(name));
    pins.map_or_else(|| directory.join(name), |(_, former)| former)
}

/// Whether maps are pinned under former names.
#[must_use]
pub(super) fn has_map_pins(directory: &Path) -> bool {
    renamed_pins(directory).next().is_some()
}

/// Gives pins of maps their present names.
pub(super) fn rename_map_pins(directory: &Path) -> Result<()> {
    for (present, former) in renamed_pins(directory) {
        fs::rename(&former, &present)
            .explain(|| format!("cannot rename {} to {}", former.display(), present.display()))?;
    }
    Ok(())
}

/// The pins with former names that are there: the path of the present name, and that of the former one.
fn renamed_pins(directory: &Path) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    let pins = MAPS.map(|(name, former)| (directory.join(name), directory.join(former)));
    pins.into_iter().filter(|(_, former)| former.exists())
}

//! A map that cannot be found any more while an environment goes: one `attach` is enough for both.

use std::fs;

use anyhow::{Context, Result, ensure};
use envnet::{kernel::pinned_maps, names::Instance};
use envnet_common::maps;
use envnet_lab::Configuration;

use crate::fixture::attached;

#[test]
fn an_environment_goes_at_once_although_a_map_is_missing() -> Result<()> {
    attached(|lab| {
        let pins = pinned_maps::directory(&Instance::Named(lab.host().name().to_owned()));
        for name in maps::ALL {
            lab.attach_as(Configuration::of(2))?;
            fs::remove_file(pins.join(name)).context(name)?;
            lab.attach_as(Configuration::of(1))?;
            let left = lab.envnet().succeed("plan")?;
            ensure!(left.contains("no change"), "{name}: {left}");
        }
        Ok(())
    })
}

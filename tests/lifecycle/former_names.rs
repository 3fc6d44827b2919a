//! An upgrade from a build whose maps and programs had other names.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, MapInfo};
use envnet_common::maps;
use envnet_lab::Lab;

use crate::{
    flood::{Busy, counted},
    upgrade::{builds, check_programs, each_way, gone, pins},
};

const MAPS: [(&str, &str); 2] = [(maps::ROUTER_WANS, "GATEWAYS"), (maps::FDB, "STATIONS")];
const PROGRAMS: [(&str, &str); 1] = [("wan_port_egress", "gateway_port_egress")];

fn directory(lab: &Lab) -> PathBuf {
    pins(lab).join(format!("maps-v{}", maps::LAYOUT_VERSION))
}

/// Turns the pins into those of the former build.
fn give_former_names(lab: &Lab) -> Result<()> {
    give_maps_former_names(lab)?;
    for build in builds(lab)? {
        for (name, former) in PROGRAMS {
            fs::rename(build.join(name), build.join(former)).context(name)?;
        }
        fs::rename(build, pins(lab).join("programs-0"))?;
    }
    Ok(())
}

fn give_maps_former_names(lab: &Lab) -> Result<()> {
    for (name, former) in MAPS {
        fs::rename(directory(lab).join(name), directory(lab).join(former)).context(name)?;
    }
    Ok(())
}

/// The pinned maps: name and number.
fn pinned(lab: &Lab) -> Result<BTreeSet<(String, u32)>> {
    let entries = fs::read_dir(directory(lab))?.map(|entry| {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, MapInfo::from_pin(entry.path())?.id()))
    });
    entries.collect()
}

#[test]
fn an_upgrade_keeps_renamed_maps_while_packets_flow() -> Result<()> {
    each_way(|lab| {
        let busy = Busy::start(lab)?;
        let (old, kept) = (check_programs(lab)?, pinned(lab)?);
        give_former_names(lab)?;
        // As left by a still earlier attempt, to which the former build has returned.
        MapData::from_pin(directory(lab).join(maps::SETTINGS))?.pin(directory(lab).join(maps::ROUTER_WANS))?;
        let text = lab.envnet().succeed("status")?;
        ensure!(text.contains("another build"), "{text}");
        busy.during("the upgrade", || {
            ensure!(lab.envnet().changes("attach")? > 0, "nothing was changed");
            Ok(())
        })?;
        let new = check_programs(lab)?;
        ensure!(new.is_disjoint(&old), "programs of both builds: {old:?}, {new:?}");
        gone(&old)?;
        let present = pinned(lab)?;
        ensure!(present == kept, "other maps: {present:?}, not {kept:?}");
        ensure!(lab.envnet().changes("attach")? == 0, "the upgrade was not complete");

        // Interrupted before its last step.
        give_maps_former_names(lab)?;
        busy.during("the end of the upgrade", || {
            ensure!(lab.envnet().changes("attach")? > 0, "former names are not seen");
            Ok(())
        })?;
        ensure!(check_programs(lab)? == new, "the programs were replaced");
        let present = pinned(lab)?;
        ensure!(present == kept, "other maps: {present:?}, not {kept:?}");
        let due = busy.end()?;
        let counted = counted(lab)?;
        ensure!(counted == due, "{counted:?} packets in and out counted, not {due:?}");
        Ok(())
    })
}

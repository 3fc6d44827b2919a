//! Which BPF programs and maps the laboratory's instance has ever had, to see that they go.
//!
//! Other programs come and go on the machine meanwhile: those count that use a map which was pinned here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use aya::{
    maps::{MapInfo, loaded_maps},
    programs::loaded_programs,
};

use super::world::files;

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Loaded {
    pins: PathBuf,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Loaded {
    pub(super) fn of(pins: &Path) -> Self {
        Self {
            pins: pins.to_owned(),
            programs: BTreeSet::new(),
            maps: BTreeSet::new(),
        }
    }

    /// Looks at what is there; whether everything is there once only is a question for a settled state.
    pub(super) fn look(&mut self, settled: bool) -> Result<()> {
        if self.pins.exists() {
            // A pin of something else is no map.
            let maps = files(&self.pins)?
                .into_iter()
                .filter_map(|pin| MapInfo::from_pin(pin).ok());
            self.maps.extend(maps.map(|map| map.id()));
        }
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        // What goes while it is looked at does not count.
        for program in loaded_programs().flatten() {
            let maps = program.map_ids().ok().flatten().unwrap_or_default();
            if maps.iter().any(|map| self.maps.contains(map)) {
                self.programs.insert(program.id());
                // Maps without a pin.
                self.maps.extend(maps);
                let name = program.name_as_str().unwrap_or_default().to_owned();
                *names.entry(name).or_default() += 1;
            }
        }
        let twice: Vec<_> = names.into_iter().filter(|(_, count)| *count > 1).collect();
        ensure!(
            !settled || twice.is_empty(),
            "programs are loaded more than once: {twice:?}"
        );
        Ok(())
    }

    /// How many of the programs and maps that were ever seen are there now.
    pub(super) fn left(&self) -> (usize, usize) {
        let programs = loaded_programs()
            .flatten()
            .filter(|program| self.programs.contains(&program.id()));
        let maps = loaded_maps().flatten().filter(|map| self.maps.contains(&map.id()));
        (programs.count(), maps.count())
    }

    /// How many there have been.
    pub(super) fn ever(&self) -> (usize, usize) {
        (self.programs.len(), self.maps.len())
    }
}

//! Which BPF programs and maps the laboratory's instance has ever had, to see that they go.
//!
//! Other programs come and go on the machine meanwhile: those count that use a map which was pinned here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    maps::{MapInfo, loaded_maps},
    programs::loaded_programs,
};

use crate::world::files;
use envnet_lab::interrupt::wait_for;

/// How long the kernel may take to let go of programs. Those of filters wait in one queue for the whole machine, and each for
/// the lock that every change of a link takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What was ever seen.
#[derive(Debug)]
pub(crate) struct Loaded {
    pins: PathBuf,
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
}

impl Loaded {
    pub(crate) fn of(pins: &Path) -> Self {
        Self {
            pins: pins.to_owned(),
            programs: BTreeSet::new(),
            maps: BTreeSet::new(),
        }
    }

    /// Looks at what is there. In a settled state everything is there once only, when the kernel has let go of the rest.
    pub(crate) fn look(&mut self, settled: bool) -> Result<()> {
        if self.pins.exists() {
            // A pin of something else is no map.
            let maps = files(&self.pins)?
                .into_iter()
                .filter_map(|pin| MapInfo::from_pin(pin).ok());
            self.maps.extend(maps.map(|map| map.id()));
        }
        let twice = self.loaded_twice();
        if settled && !twice.is_empty() {
            let gone = wait_for("programs of before to go", PATIENCE, || {
                Ok(self.loaded_twice().is_empty().then_some(()))
            });
            gone.with_context(|| format!("programs are loaded more than once: {twice:?}"))?;
        }
        Ok(())
    }

    /// The names of programs that are loaded more than once; notes all that are loaded.
    fn loaded_twice(&mut self) -> Vec<String> {
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
        let twice = names.into_iter().filter(|(_, count)| *count > 1);
        twice.map(|(name, _)| name).collect()
    }

    /// How many of the programs and maps that were ever seen are there now.
    pub(crate) fn left(&self) -> (usize, usize) {
        let programs = loaded_programs()
            .flatten()
            .filter(|program| self.programs.contains(&program.id()));
        let maps = loaded_maps().flatten().filter(|map| self.maps.contains(&map.id()));
        (programs.count(), maps.count())
    }

    /// How many there have been.
    pub(crate) fn ever(&self) -> (usize, usize) {
        (self.programs.len(), self.maps.len())
    }
}

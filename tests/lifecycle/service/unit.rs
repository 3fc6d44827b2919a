//! Reads a unit file.

use anyhow::{Context, Result};

pub(super) const TEXT: &str = include_str!("../../../packaging/envnet.service");

/// The assignments of a unit file, of all its sections.
pub(super) struct Unit(Vec<(&'static str, &'static str)>);

impl Unit {
    /// Reads the project's.
    pub(super) fn read() -> Result<Self> {
        let lines = TEXT.lines().map(str::trim);
        let assignments = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
        assignments
            .map(|line| line.split_once('=').with_context(|| format!("no assignment: {line}")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Everything that is assigned to a key.
    pub(super) fn all(&self, key: &str) -> Vec<&'static str> {
        let assigned = self.0.iter().filter(|(name, _)| *name == key);
        assigned.map(|(_, value)| *value).collect()
    }

    /// The words of all that is assigned to a key.
    pub(super) fn words(&self, key: &str) -> Vec<&'static str> {
        self.all(key)
            .iter()
            .flat_map(|value| value.split_ascii_whitespace())
            .collect()
    }

    /// The command that a key has; there is just one.
    pub(super) fn command(&self, key: &str) -> Result<Vec<String>> {
        let words = self.words(key);
        anyhow::ensure!(self.all(key).len() == 1, "{key} is not one command: {words:?}");
        Ok(words.into_iter().map(str::to_owned).collect())
    }
}

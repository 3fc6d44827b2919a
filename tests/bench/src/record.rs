//! What a run found, as it is written to JSON and read again: raw samples first, everything else follows from them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    methods::{LIMIT, REFERENCE},
    statistics::{median, spread},
};

/// A row with a larger spread is refused.
pub(crate) const LARGEST_SPREAD: f64 = 0.15;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) machine: Machine,
    /// Quick or full.
    pub(crate) mode: String,
    pub(crate) seconds: f64,
    pub(crate) methods: Vec<Participant>,
    pub(crate) rows: Vec<Row>,
}

/// A method and whether it took part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Why it did not.
    pub(crate) unavailable: Option<String>,
}

/// One thing measured for one method.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) measurement: String,
    pub(crate) variant: String,
    pub(crate) method: String,
    pub(crate) unit: String,
    /// Whether less is better.
    pub(crate) less_is_better: bool,
    /// One for each round; the rounds are the same for all methods.
    pub(crate) samples: Vec<f64>,
    pub(crate) median: f64,
    /// Interquartile range by median.
    pub(crate) spread: f64,
    /// Frames or requests sent, and those that arrived, over all rounds.
    pub(crate) offered: u64,
    pub(crate) received: u64,
    /// Median of the rounds' ratios to the reference and to the limit.
    pub(crate) to_reference: Option<f64>,
    pub(crate) to_limit: Option<f64>,
    /// Why it has no samples, or why they count for nothing.
    pub(crate) refused: Option<String>,
}

impl Record {
    /// Reads the record of an earlier run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of a run", path.display()))
    }
}

impl Row {
    /// Computes what follows from the samples.
    pub(crate) fn finish(&mut self) {
        if self.samples.is_empty() {
            return;
        }
        self.median = median(&self.samples);
        self.spread = spread(&self.samples);
        if self.spread > LARGEST_SPREAD && self.refused.is_none() {
            self.refused = Some(format!("spread {:.0} %", self.spread * 100.0));
        }
    }

    /// The part of what was sent that did not arrive; none where nothing was counted.
    pub(crate) fn loss(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share of some million frames")]
        (self.offered > 0).then(|| self.offered.saturating_sub(self.received) as f64 / self.offered as f64)
    }

    /// Whether both are about the same thing.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.measurement == other.measurement && self.variant == other.variant
    }
}

/// Adds the ratios: rounds are compared one by one, so that what slows the whole machine for a while cancels out.
pub(crate) fn relate(rows: &mut [Row]) {
    for at in 0..rows.len() {
        let row = &rows[at];
        let to = |method: &str| {
            let other = rows
                .iter()
                .find(|other| other.method == method && other.is_beside(row))?;
            let ratios: Vec<_> = row
                .samples
                .iter()
                .zip(&other.samples)
                .map(|(own, other)| own / other)
                .collect();
            (!ratios.is_empty()).then(|| median(&ratios))
        };
        let (reference, limit) = (to(REFERENCE), to(LIMIT));
        rows[at].to_reference = reference;
        rows[at].to_limit = limit;
    }
}

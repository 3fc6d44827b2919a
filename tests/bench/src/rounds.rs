//! Interleaving: every round measures everything once, and for each thing one method after the other. What disturbs the
//! machine for a while then disturbs all methods, and shows in the spread.

use std::io::{IsTerminal, Write as _, stderr};

use anyhow::Result;
use envnet_lab::interrupt;

use crate::record::Row;

/// What one number of a sample is called.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) measurement: &'static str,
    pub(crate) variant: String,
    pub(crate) unit: &'static str,
    pub(crate) less_is_better: bool,
}

/// What a cell gives in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// One for each of the cell's names.
    pub(crate) values: Vec<f64>,
    pub(crate) offered: u64,
    pub(crate) received: u64,
}

/// One thing to measure for one method, again and again.
pub(crate) struct Cell<'a> {
    pub(crate) method: String,
    pub(crate) names: Vec<Name>,
    pub(crate) measure: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// Measures all cells in as many rounds. A cell that fails is refused and not tried again; an interruption ends all.
pub(crate) fn run(mut cells: Vec<Cell<'_>>, rounds: usize, progress: &Progress) -> Result<Vec<Row>> {
    let mut rows: Vec<Vec<Row>> = cells.iter().map(empty).collect();
    for round in 1..=rounds {
        for (cell, rows) in cells.iter_mut().zip(&mut rows) {
            if rows.iter().any(|row| row.refused.is_some()) {
                continue;
            }
            progress.show(&format!(
                "round {round} of {rounds}: {}, {}: {}",
                cell.names[0].measurement, cell.names[0].variant, cell.method
            ));
            let sample = (cell.measure)();
            interrupt::check()?;
            match sample {
                Ok(sample) => {
                    for (row, value) in rows.iter_mut().zip(&sample.values) {
                        row.samples.push(*value);
                        row.offered += sample.offered;
                        row.received += sample.received;
                    }
                }
                Err(error) => rows.iter_mut().for_each(|row| {
                    row.samples.clear();
                    row.refused = Some(format!("{error:#}").replace('\n', " ").trim().to_owned());
                }),
            }
        }
    }
    progress.clear();
    let mut rows: Vec<_> = rows.into_iter().flatten().collect();
    rows.iter_mut().for_each(Row::finish);
    Ok(grouped(rows))
}

/// Rows about the same thing side by side, in the order in which things came up first.
fn grouped(rows: Vec<Row>) -> Vec<Row> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| group[0].is_beside(&row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups.into_iter().flatten().collect()
}

fn empty(cell: &Cell<'_>) -> Vec<Row> {
    let row = |name: &Name| Row {
        measurement: name.measurement.to_owned(),
        variant: name.variant.clone(),
        method: cell.method.clone(),
        unit: name.unit.to_owned(),
        less_is_better: name.less_is_better,
        samples: Vec::new(),
        median: 0.0,
        spread: 0.0,
        offered: 0,
        received: 0,
        to_reference: None,
        to_limit: None,
        refused: None,
    };
    cell.names.iter().map(row).collect()
}

/// The line that says what is being done, on a terminal only; steps are said anywhere.
#[derive(Debug)]
pub(crate) struct Progress {
    started: std::time::Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self {
            started: std::time::Instant::now(),
            terminal: stderr().is_terminal(),
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Says something to be kept.
    pub(crate) fn step(&self, text: &str) {
        self.clear();
        eprintln!("{:6.1} s  {text}", self.seconds());
    }

    /// Says something for the moment.
    pub(crate) fn show(&self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{:6.1} s  {text}", self.seconds());
            // Nothing is lost when it is not shown.
            let _ = stderr().flush();
        }
    }

    /// Takes that back.
    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

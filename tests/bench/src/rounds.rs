//! Interleaving: every round measures everything once, and for each thing one method after the other. What disturbs the
//! machine for a while then disturbs all methods, and cancels out in the ratios of the round.

use std::{
    io::{IsTerminal, Write as _, stderr},
    time::Duration,
};

use anyhow::Result;
use envnet_lab::interrupt;

use crate::{
    headline,
    methods::REFERENCE,
    record::{Figure, Row, relate},
};

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
    /// What is different about it.
    pub(crate) note: Option<String>,
}

/// One thing to measure for one method, again and again.
pub(crate) struct Cell<'a> {
    pub(crate) method: String,
    pub(crate) names: Vec<Name>,
    pub(crate) measure: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// The rows as they grow from round to round.
#[derive(Debug)]
pub(crate) struct Ledger {
    rows: Vec<Row>,
    /// Rounds that everything takes part in; after them only what is not yet repeatable goes on.
    rounds: usize,
}

impl Ledger {
    pub(crate) fn new(rounds: usize) -> Self {
        Self {
            rows: Vec::new(),
            rounds,
        }
    }

    /// Whether another round has to measure it. Methods are settled together, because their rounds are compared. The
    /// headline is settled first.
    pub(crate) fn wants(&self, name: &Name) -> bool {
        let is_open = self.is_headline_open();
        let wants = |row: &Row| {
            let is_chosen = if is_open {
                headline::is_open(row)
            } else {
                !self.is_done(row)
            };
            is_chosen || self.lacks_rounds(row)
        };
        let mut beside = self.rows.iter().filter(|row| name.is_of(row)).peekable();
        beside.peek().is_none() || beside.any(wants)
    }

    /// Whether no row wants another round.
    pub(crate) fn is_settled(&self) -> bool {
        self.rows.iter().all(|row| self.is_done(row))
    }

    fn is_headline_open(&self) -> bool {
        self.rows.iter().any(headline::is_open)
    }

    fn is_done(&self, row: &Row) -> bool {
        !self.lacks_rounds(row) && row.is_settled()
    }

    fn lacks_rounds(&self, row: &Row) -> bool {
        row.refused.is_none() && row.samples.len() < self.rounds
    }

    /// Measures each cell once. A cell that fails is refused and not tried again; an interruption ends all.
    pub(crate) fn measure(&mut self, cells: &mut [Cell<'_>], progress: &Progress) -> Result<()> {
        for cell in cells {
            let indices: Vec<_> = cell.names.iter().map(|name| self.index(name, &cell.method)).collect();
            if indices.iter().any(|at| self.rows[*at].refused.is_some()) {
                continue;
            }
            progress.show(&format!(
                "round {}: {}, {}: {}",
                self.rows[indices[0]].samples.len() + 1,
                cell.names[0].measurement,
                cell.names[0].variant,
                cell.method
            ));
            let sample = (cell.measure)();
            interrupt::check()?;
            match sample {
                Ok(sample) => {
                    for (at, value) in indices.into_iter().zip(sample.values) {
                        let row = &mut self.rows[at];
                        row.samples.push(value);
                        row.offered += sample.offered;
                        row.received += sample.received;
                        row.note.clone_from(&sample.note);
                    }
                }
                Err(error) => {
                    let reason = format!("{error:#}").replace('\n', " ").trim().to_owned();
                    progress.step(&format!(
                        "refused: {}, {}: {}: {reason}",
                        cell.names[0].measurement, cell.names[0].variant, cell.method
                    ));
                    for at in indices {
                        self.rows[at].samples.clear();
                        self.rows[at].refused = Some(reason.clone());
                    }
                }
            }
        }
        relate(&mut self.rows);
        progress.clear();
        Ok(())
    }

    /// The index of the row, which comes into being when it is asked for.
    fn index(&mut self, name: &Name, method: &str) -> usize {
        let found = self.rows.iter().position(|row| row.method == method && name.is_of(row));
        found.unwrap_or_else(|| {
            self.rows.push(name.row(method));
            self.rows.len() - 1
        })
    }

    /// All rows, those about the same thing side by side, in the order in which things came up first.
    pub(crate) fn rows(self) -> Vec<Row> {
        let mut groups: Vec<Vec<Row>> = Vec::new();
        for row in self.rows {
            match groups.iter_mut().find(|group| group[0].is_beside(&row)) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
        groups.into_iter().flatten().collect()
    }
}

/// Measures the same cells again and again: at least so many rounds, and then until they are settled, unless the time is
/// over before. Where the headline shows some of them, only those go on. A round that has begun is finished.
pub(crate) fn repeat(mut cells: Vec<Cell<'_>>, rounds: usize, time: Duration, progress: &Progress) -> Result<Vec<Row>> {
    let mut ledger = Ledger::new(rounds);
    let start = progress.seconds();
    for round in 1.. {
        let before = progress.seconds();
        ledger.measure(&mut cells, progress)?;
        let now = progress.seconds();
        // The next round takes as long as this one.
        if ledger.is_settled() || now + (now - before) > start + time.as_secs_f64() {
            break;
        }
        let is_in_headline = |method: &str| {
            ledger
                .rows
                .iter()
                .any(|row| row.method == method && headline::shows(row))
        };
        if round >= rounds && is_in_headline(REFERENCE) {
            if !ledger.is_headline_open() {
                break;
            }
            // For good: whoever came back would be compared with another round's samples.
            cells.retain(|cell| is_in_headline(&cell.method));
        }
    }
    Ok(ledger.rows())
}

impl Name {
    fn is_of(&self, row: &Row) -> bool {
        row.measurement == self.measurement && row.variant == self.variant
    }

    fn row(&self, method: &str) -> Row {
        Row {
            measurement: self.measurement.to_owned(),
            variant: self.variant.clone(),
            method: method.to_owned(),
            unit: self.unit.to_owned(),
            less_is_better: self.less_is_better,
            samples: Vec::new(),
            offered: 0,
            received: 0,
            note: None,
            refused: None,
            median: Figure::default(),
            to_reference: None,
            to_limit: None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::{NOISY, few_rows, row};

    fn name(row: &Row) -> Name {
        Name {
            measurement: "rate",
            variant: row.variant.clone(),
            unit: "ns/packet",
            less_is_better: true,
        }
    }

    #[test]
    fn the_headline_is_settled_first() {
        let shown = few_rows().rows.swap_remove(1);
        let other = row(
            ["rate", "out, 1400 bytes, 1 flow", "envnet-tc"],
            "ns/packet",
            1.0,
            &NOISY,
        );
        let reference = row(
            ["rate", "out, 1400 bytes, 1 flow", REFERENCE],
            "ns/packet",
            1.0,
            &[1.0; 8],
        );
        let mut ledger = Ledger::new(8);
        ledger.rows = vec![shown, other, reference];
        ledger.rows.extend(few_rows().rows.drain(..1));
        relate(&mut ledger.rows);
        let [shown, other] = [0, 1].map(|at| name(&ledger.rows[at]));
        assert!(ledger.wants(&shown) && !ledger.wants(&other));
        ledger.rows[0].samples = vec![1.0; 8];
        relate(&mut ledger.rows);
        assert!(!ledger.wants(&shown) && ledger.wants(&other));
        ledger.rounds = 9;
        assert!(
            ledger.wants(&shown) && ledger.wants(&other),
            "everything has its first rounds"
        );
    }
}

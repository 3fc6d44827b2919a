//! What a run found, as it is written to JSON and read again: raw samples first, everything else follows from them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    methods::{LIMIT, REFERENCE},
    report::table::number,
    statistics::{median, within},
};

/// How much a ratio may differ from one run to the next.
pub(crate) const TOLERANCE: f64 = 0.10;

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
    /// One for each round; the rounds are the same for all methods beside each other.
    pub(crate) samples: Vec<f64>,
    /// Frames or requests sent, and those that arrived, over all rounds.
    pub(crate) offered: u64,
    pub(crate) received: u64,
    /// What is different about this row.
    #[serde(default)]
    pub(crate) note: Option<String>,
    /// Why it has no samples.
    pub(crate) refused: Option<String>,
    // From here on it follows from the samples.
    #[serde(skip_deserializing)]
    pub(crate) median: Figure,
    /// To the reference and to the limit: the median of the rounds' ratios.
    #[serde(skip_deserializing)]
    pub(crate) to_reference: Option<Figure>,
    #[serde(skip_deserializing)]
    pub(crate) to_limit: Option<Figure>,
}

/// A median and how far the true one may be away from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// As a part of it, with 95 % confidence; none when there were too few rounds to say.
    pub(crate) within: Option<f64>,
}

impl Figure {
    fn of(samples: &[f64]) -> Self {
        Self {
            value: median(samples),
            within: within(samples),
        }
    }

    /// How much this figure of two runs may differ. Both are as far away from the true one, in either direction: standard
    /// deviations add in squares.
    pub(crate) fn between_runs(&self) -> Option<f64> {
        self.within.map(|within| within * 2.0_f64.sqrt())
    }

    /// Whether it is the same in two runs, as far as one run can say.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.between_runs().is_some_and(|difference| difference <= TOLERANCE)
    }
}

impl Record {
    /// Reads the record of an earlier run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut record: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is no record of a run", path.display()))?;
        relate(&mut record.rows);
        Ok(record)
    }
}

impl Row {
    /// The part of what was sent that did not arrive; none where nothing was counted.
    pub(crate) fn loss(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a share of some million frames")]
        (self.offered > 0).then(|| self.offered.saturating_sub(self.received) as f64 / self.offered as f64)
    }

    /// Whether both are about the same thing.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.measurement == other.measurement && self.variant == other.variant
    }

    /// Whether more rounds would not change what the row says.
    pub(crate) fn is_settled(&self) -> bool {
        let figures = [self.to_reference, self.to_limit].into_iter().flatten();
        self.refused.is_some() || figures.into_iter().all(|figure| figure.is_repeatable())
    }

    /// Whether there were rounds enough to say how far its figures can be trusted.
    pub(crate) fn has_interval(&self) -> bool {
        self.median.within.is_some()
    }

    /// What so few rounds found that nothing follows from them.
    fn spread(&self) -> String {
        match &self.samples[..] {
            [_] => "one round".to_owned(),
            samples => {
                let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
                let most = samples.iter().copied().fold(0.0, f64::max);
                format!("{} rounds, {} to {}", samples.len(), number(least), number(most))
            }
        }
    }

    /// Why the row's ratios may not be the same next time.
    pub(crate) fn doubt(&self) -> Option<String> {
        if !self.samples.is_empty() && !self.has_interval() {
            return Some(self.spread());
        }
        let figures = [self.to_reference, self.to_limit].into_iter().flatten();
        let doubtful = figures.filter(|figure| !figure.is_repeatable());
        let worst = doubtful.filter_map(|figure| figure.between_runs()).reduce(f64::max)?;
        Some(if worst > 1.0 {
            "not repeatable: two runs may differ by more than twice".to_owned()
        } else {
            format!(
                "not repeatable within 10 %: two runs may differ by {:.0} %",
                worst * 100.0
            )
        })
    }
}

/// Adds what follows from the samples. Rounds are compared one by one, so that what slows the whole machine for a while
/// cancels out, and a ratio varies no more than its rounds' ratios do.
pub(crate) fn relate(rows: &mut [Row]) {
    for at in 0..rows.len() {
        let row = &rows[at];
        if row.samples.is_empty() {
            let row = &mut rows[at];
            (row.median, row.to_reference, row.to_limit) = (Figure::default(), None, None);
            continue;
        }
        let to = |method: &str| {
            let mut others = rows.iter().filter(|other| other.method == method);
            let other = others.find(|other| other.is_beside(row))?;
            if other.method == row.method {
                // It is its own measure, in every run.
                return Some(Figure {
                    value: 1.0,
                    within: Some(0.0),
                });
            }
            let pairs = row.samples.iter().zip(&other.samples);
            let ratios: Vec<_> = pairs.map(|(own, other)| own / other).collect();
            (!ratios.is_empty()).then(|| Figure::of(&ratios))
        };
        let (median, reference, limit) = (Figure::of(&row.samples), to(REFERENCE), to(LIMIT));
        let row = &mut rows[at];
        (row.median, row.to_reference, row.to_limit) = (median, reference, limit);
        // Earlier records refused rows by their spread, and kept the samples.
        row.refused = None;
    }
}

#[cfg(test)]
pub(crate) mod example {
    //! Rows and records by hand.

    use super::{Figure, Machine, Record, Row, relate};

    /// Eight rounds, as factors of a value.
    pub(crate) const STEADY: [f64; 8] = [1.0, 0.99, 1.01, 1.0, 1.0, 1.0, 1.02, 1.0];
    pub(crate) const NOISY: [f64; 8] = [1.0, 0.5, 1.5, 1.0, 1.0, 1.0, 2.0, 1.0];

    pub(crate) fn row(about: [&str; 3], unit: &str, value: f64, rounds: &[f64]) -> Row {
        let [measurement, variant, method] = about.map(str::to_owned);
        Row {
            measurement,
            variant,
            method,
            unit: unit.to_owned(),
            less_is_better: !unit.ends_with("/s"),
            samples: rounds.iter().map(|round| round * value).collect(),
            offered: 0,
            received: 0,
            note: None,
            refused: None,
            median: Figure::default(),
            to_reference: None,
            to_limit: None,
        }
    }

    pub(crate) fn record(mut rows: Vec<Row>) -> Record {
        relate(&mut rows);
        Record {
            machine: Machine {
                kernel: "6.18".to_owned(),
                processor: "Processor".to_owned(),
                processors: 2,
                memory_mib: 4096,
                load: "0.00".to_owned(),
                time: 20_785 * 86_400,
                tools: Vec::new(),
                instructions: "not counted".to_owned(),
            },
            mode: "full".to_owned(),
            seconds: 840.0,
            methods: Vec::new(),
            rows,
        }
    }

    /// In: all columns, one of them noisy. Latency: envnet noisy. TCP in: more is better. Set-up: envnet alone. All else: no rows.
    pub(crate) fn few_rows() -> Record {
        let rate = |method| ["rate", "in, 64 bytes, 64k flows", method];
        let latency = |method| ["latency", "median (p50)", method];
        let throughput = |method| ["tcp throughput", "in, both ends on one processor", method];
        record(vec![
            row(rate("iptables-nft"), "ns/packet", 1400.0, &[1.0; 8]),
            row(rate("nft-maps"), "ns/packet", 1400.0, &NOISY),
            row(rate("nft-stateless"), "ns/packet", 1000.0, &STEADY),
            row(rate("envnet-slow"), "ns/packet", 1.0, &STEADY),
            row(rate("envnet-tc"), "ns/packet", 350.0, &STEADY),
            row(rate("limit-tc"), "ns/packet", 280.0, &STEADY),
            row(latency("iptables-nft"), "µs", 7.0, &[1.0; 8]),
            row(latency("envnet-tc"), "µs", 5.0, &NOISY),
            row(throughput("iptables-nft"), "Gbit/s", 10.0, &[1.0; 8]),
            row(throughput("envnet-tc"), "Gbit/s", 15.0, &STEADY),
            row(
                ["environments", "set-up, 100 at once", "envnet"],
                "ms each",
                4.0,
                &STEADY,
            ),
        ])
    }
}

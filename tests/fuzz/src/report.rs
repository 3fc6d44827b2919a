//! What a campaign has covered, so that one sees whether the generator reaches everything.

use std::{collections::BTreeMap, fmt};

use envnet_model::Reason;

/// What a program has run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runs {
    /// All packets.
    pub packets: u64,
    /// Those that it has translated, as it had to.
    pub taken: u64,
}

/// What became of the packets of one kind, on the slow path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// Went on.
    pub passed: u64,
    /// Were turned round.
    pub redirected: u64,
    /// Went nowhere.
    pub dropped: u64,
}

/// Packets by kind, and drops by reason.
#[derive(Debug, Default)]
pub struct Report {
    /// How many packets were run, each by every program that it concerns.
    pub packets: u64,
    /// By which programs.
    pub programs: BTreeMap<&'static str, Runs>,
    /// What the generator made.
    pub kinds: BTreeMap<&'static str, Kind>,
    /// What the programs counted.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Reasons to refuse a packet that were never given.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let labels = Reason::ALL.iter().map(|reason| reason.label());
        labels.filter(|label| !self.reasons.contains_key(label)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26}{:>12}{:>12}", "program", "packets", "translated")?;
        for (program, Runs { packets, taken }) in &self.programs {
            writeln!(f, "{program:<26}{packets:>12}{taken:>12}")?;
        }
        writeln!(
            f,
            "\n{:<26}{:>12}{:>12}{:>12}",
            "kind", "passed", "redirected", "dropped"
        )?;
        for (kind, count) in &self.kinds {
            let Kind {
                passed,
                redirected,
                dropped,
            } = count;
            writeln!(f, "{kind:<26}{passed:>12}{redirected:>12}{dropped:>12}")?;
        }
        writeln!(f, "\n{:<26}{:>12}", "drop reason", "packets")?;
        for reason in Reason::ALL {
            let label = reason.label();
            let count = self.reasons.get(label).copied().unwrap_or_default();
            writeln!(f, "{label:<26}{count:>12}")?;
        }
        Ok(())
    }
}

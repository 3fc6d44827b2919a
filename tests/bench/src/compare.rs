//! Two records side by side: a ratio that is a property of the methods is the same in both.

use std::path::Path;

use anyhow::Result;

use crate::{
    methods::{LIMIT, REFERENCE},
    record::{Figure, Record, Row, TOLERANCE},
};

type Ratio = fn(&Row) -> Option<Figure>;

/// How ratios fare.
#[derive(Debug, Default)]
struct Verdict {
    agree: usize,
    /// Neither record said that they might.
    differ_silently: usize,
    announced: usize,
    /// They agree, but a record said that they might not.
    doubted: usize,
    alone: usize,
}

/// Says which ratios agree and which do not; whether every one agrees or one of the records has said why it need not.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<bool> {
    let verdict = judge(&Record::read(a)?, &Record::read(b)?);
    let limit = TOLERANCE * 100.0;
    println!(
        "{} ratios agree within {limit:.0} %, and {} more that a record has doubted; {} differ by more and a record says so; \
         {} differ silently; {} rows are in one record only",
        verdict.agree, verdict.doubted, verdict.announced, verdict.differ_silently, verdict.alone
    );
    let passed = verdict.differ_silently == 0;
    println!(
        "{}",
        if passed {
            "the records agree: every ratio is the same or its row says why not"
        } else {
            "the records disagree"
        }
    );
    Ok(passed)
}

fn judge(a: &Record, b: &Record) -> Verdict {
    let mut verdict = Verdict::default();
    let find = |row: &Row| {
        let mut others = b.rows.iter().filter(|other| other.method == row.method);
        others.find(|other| other.is_beside(row))
    };
    for row in &a.rows {
        let Some(other) = find(row) else {
            verdict.alone += 1;
            continue;
        };
        let ratios: [(&str, Ratio); 2] = [(REFERENCE, |row| row.to_reference), (LIMIT, |row| row.to_limit)];
        for (to, ratio) in ratios {
            let (Some(first), Some(second)) = (ratio(row), ratio(other)) else {
                continue;
            };
            if row.method == to {
                continue;
            }
            let difference = (first.value - second.value).abs() / first.value.min(second.value);
            let trusted = first.is_repeatable() && second.is_repeatable();
            let said = match (difference <= TOLERANCE, trusted) {
                (true, true) => {
                    verdict.agree += 1;
                    continue;
                }
                (true, false) => {
                    verdict.doubted += 1;
                    continue;
                }
                (false, true) => {
                    verdict.differ_silently += 1;
                    "silently".to_owned()
                }
                (false, false) => {
                    verdict.announced += 1;
                    let reasons = [row, other].map(Row::doubt);
                    reasons.into_iter().flatten().next().unwrap_or_default()
                }
            };
            println!(
                "{}: {}: {} to {to}: {:.3} and {:.3} differ by {:.0} %; {said}",
                row.measurement,
                row.variant,
                row.method,
                first.value,
                second.value,
                difference * 100.0
            );
        }
    }
    let missing = |row: &&Row| {
        let mut others = a.rows.iter().filter(|other| other.method == row.method);
        !others.any(|other| other.is_beside(row))
    };
    verdict.alone += b.rows.iter().filter(missing).count();
    verdict
}

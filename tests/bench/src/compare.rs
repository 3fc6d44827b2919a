//! Two records side by side: a ratio that is a property of the methods is the same in both.

use std::{iter, path::Path};

use anyhow::Result;

use crate::{
    methods::{LIMIT, REFERENCE},
    record::{Record, Row},
};

type Ratio = fn(&Row) -> Option<f64>;

/// How much two ratios may differ.
const TOLERANCE: f64 = 0.10;

/// Says which ratios agree and which do not; whether all do that no record has refused.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (Record::read(a)?, Record::read(b)?);
    let (mut agreed, mut differ, mut refused, mut alone) = (0, 0, 0, 0);
    for row in &a.rows {
        let Some(other) = b
            .rows
            .iter()
            .find(|other| other.method == row.method && other.is_beside(row))
        else {
            alone += 1;
            continue;
        };
        let ratios: [(&str, Ratio); 2] = [(REFERENCE, |row| row.to_reference), (LIMIT, |row| row.to_limit)];
        for (to, ratio) in ratios {
            let (Some(first), Some(second)) = (ratio(row), ratio(other)) else {
                continue;
            };
            let difference = (first - second).abs() / first.min(second);
            let name = format!("{}: {}: {} to {to}", row.measurement, row.variant, row.method);
            // A ratio is no better than the worst of the four rows that it is made of.
            let reason = [(&a, row), (&b, other)].into_iter().find_map(|(record, row)| {
                let beside = record
                    .rows
                    .iter()
                    .filter(|beside| beside.method == to && beside.is_beside(row));
                iter::once(row).chain(beside).find_map(|row| row.refused.as_ref())
            });
            match reason {
                _ if difference <= TOLERANCE => agreed += 1,
                Some(reason) => {
                    refused += 1;
                    println!("{name}: {first:.2} and {second:.2}; a run refused it: {reason}");
                }
                None => {
                    differ += 1;
                    println!(
                        "{name}: {first:.2} and {second:.2} differ by {:.0} %",
                        difference * 100.0
                    );
                }
            }
        }
    }
    println!(
        "{agreed} ratios agree within {:.0} %, {differ} differ, {refused} differ that a run refused, {alone} rows are in one only",
        TOLERANCE * 100.0
    );
    Ok(differ == 0)
}

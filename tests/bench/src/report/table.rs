//! The record as text: one block for each thing measured, one line for each method.

use std::fmt::Write as _;

use super::why::remarks;
use crate::record::{Figure, Record, Row};

/// All of it.
pub(crate) fn table(record: &Record) -> String {
    let mut text = String::new();
    let machine = &record.machine;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{machine}, load {}, {} run of {:.0} s",
        machine.load, record.mode, record.seconds
    );
    for participant in &record.methods {
        if let Some(reason) = &participant.unavailable {
            let _ = writeln!(text, "not available: {}: {reason}", participant.name);
        }
    }
    let mut block: Option<&Row> = None;
    for row in &record.rows {
        if !block.is_some_and(|before| before.is_beside(row)) {
            let _ = writeln!(
                text,
                "\n{}: {}\n  {:<34}{:>12}{:>9}{:>9}{:>16}{:>16}",
                row.measurement, row.variant, "", row.unit, "±", "loss", "× iptables", "× limit"
            );
        }
        block = Some(row);
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let remarks = remarks(row);
    if row.samples.is_empty() {
        return format!("  {:<34}  {remarks}", row.method);
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "  {:<34}{:>12}{:>9}{:>9}{:>16}{:>16}  {remarks}",
        row.method,
        number(row.median.value),
        or_dash(row.median.within.map(percent)),
        or_dash(row.loss().map(percent)),
        or_dash(row.to_reference.map(ratio)),
        or_dash(row.to_limit.map(ratio)),
    )
    .trim_end()
    .to_owned()
}

/// A ratio with how far it can be trusted; with more digits where it is small.
pub(super) fn ratio(figure: Figure) -> String {
    let value = figure.value;
    let digits = if value < 0.1 { 4 } else { 2 };
    match figure.within {
        Some(0.0) => format!("{value:.digits$}"),
        Some(within) => format!("{value:.digits$} ± {}", whole_percent(within)),
        None => format!("{value:.digits$} ± ?"),
    }
}

/// With as many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

pub(super) fn percent(part: f64) -> String {
    if part > 1.0 {
        return whole_percent(part);
    }
    format!("{:.1} %", part * 100.0)
}

fn whole_percent(part: f64) -> String {
    if part > 1.0 {
        return "> 100 %".to_owned();
    }
    format!("{:.0} %", part * 100.0)
}

//! The record as text: one block for each thing measured, one line for each method.

use std::fmt::Write as _;

use crate::record::{Record, Row};

/// All of it.
pub(crate) fn table(record: &Record) -> String {
    let mut text = String::new();
    let machine = &record.machine;
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "Linux {}, {} × {}, {} MiB, load {}, {} run of {:.0} s",
        machine.kernel,
        machine.processors,
        machine.processor,
        machine.memory_mib,
        machine.load,
        record.mode,
        record.seconds
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
                "\n{}: {}\n  {:<28}{:>12}{:>10}{:>9}{:>12}{:>10}",
                row.measurement, row.variant, "", row.unit, "spread", "loss", "× iptables", "× limit"
            );
        }
        block = Some(row);
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let loss = row.loss().map_or("-".to_owned(), percent);
    let refused = row
        .refused
        .as_ref()
        .map_or(String::new(), |reason| format!("  refused: {reason}"));
    if row.samples.is_empty() {
        return format!("  {:<28}{refused}", row.method);
    }
    format!(
        "  {:<28}{:>12}{:>10}{:>9}{:>12}{:>10}{refused}",
        row.method,
        number(row.median),
        percent(row.spread),
        loss,
        ratio(row.to_reference),
        ratio(row.to_limit),
    )
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

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

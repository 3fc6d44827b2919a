//! The page `docs/benchmarks-detail.md`: how it is measured, all charts, all rows.

use std::fmt::Write as _;

use super::{
    chart::Chart,
    table::{number, percent, ratio},
    why::remarks,
};
use crate::{
    machine::date,
    record::{Record, Row},
};

const HOW: &str = include_str!("how.md");

/// The whole page.
pub(crate) fn page(record: &Record, charts: &[Chart]) -> String {
    let machine = &record.machine;
    let mut text = format!(
        "# Benchmarks in detail\n\n\
         Written by `cargo xtask bench --full`; do not edit. [Benchmarks](benchmarks.md) has the headline and how to repeat \
         it.\n\n\
         Measured on {}: {machine}, {:.0} minutes, load {} at the start, with {}; {}.\n\n{HOW}\n",
        date(machine.time),
        record.seconds / 60.0,
        machine.load,
        machine.tools.join(", "),
        machine.instructions,
    );
    text.push_str("## Methods\n\n| method | what it is |\n|---|---|\n");
    for method in &record.methods {
        let absent = method
            .unavailable
            .as_ref()
            .map_or(String::new(), |reason| format!("; **not available here**: {reason}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {}{absent} |", method.name, method.description);
    }
    text.push_str("\n## Charts\n\n");
    for Chart { title, file } in charts {
        let _ = writeln!(text, "![{title}](benchmarks/{file})\n");
    }
    text.extend(super::scale::section(record));
    text.push_str(
        "\n## All rows\n\n\
         Medians. ± is how far the true median may be away (95 %). Loss is the share of what was sent that did not arrive. \
         × iptables and × limit are ratios to `iptables-nft` and `limit-xdp`.\n",
    );
    let mut block: Option<&Row> = None;
    for row in &record.rows {
        if !block.is_some_and(|before| before.is_beside(row)) {
            let _ = write!(
                text,
                "\n### {}: {}\n\n| method | {} | ± | loss | × iptables | × limit | |\n|---|--:|--:|--:|--:|--:|---|\n",
                row.measurement, row.variant, row.unit
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
        return format!("| {} | | | | | | {remarks} |", row.method);
    }
    format!(
        "| {} | {} | {} | {} | {} | {} | {remarks} |",
        row.method,
        number(row.median.value),
        row.median.within.map_or(String::new(), percent),
        row.loss().map_or(String::new(), percent),
        row.to_reference.map_or(String::new(), ratio),
        row.to_limit.map_or(String::new(), ratio),
    )
}

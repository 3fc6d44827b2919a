//! The page `docs/benchmarks.md`.

use std::fmt::Write as _;

use super::{chart::Chart, table::number};
use crate::record::{LARGEST_SPREAD, Record, Row};

const HOW: &str = include_str!("how.md");

/// The whole page.
pub(crate) fn page(record: &Record, charts: &[Chart]) -> String {
    let machine = &record.machine;
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --full`; do not edit. This run took {:.0} minutes on Linux {}, {} × {}, {} MiB, with {}; \
         {}.\n\n{HOW}\n",
        record.seconds / 60.0,
        machine.kernel,
        machine.processors,
        machine.processor,
        machine.memory_mib,
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
    let _ = write!(
        text,
        "## All rows\n\n\
         Medians; the spread is the interquartile range by the median, and a row is refused above {:.0} %.\n",
        LARGEST_SPREAD * 100.0
    );
    let mut block: Option<&Row> = None;
    for row in &record.rows {
        if !block.is_some_and(|before| before.is_beside(row)) {
            let _ = write!(
                text,
                "\n### {}: {}\n\n| method | {} | spread | loss | × iptables | × limit | |\n|---|--:|--:|--:|--:|--:|---|\n",
                row.measurement, row.variant, row.unit
            );
        }
        block = Some(row);
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let refused = row
        .refused
        .as_ref()
        .map_or(String::new(), |reason| format!("refused: {reason}"));
    if row.samples.is_empty() {
        return format!("| {} | | | | | | {refused} |", row.method);
    }
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let ratio = |ratio: Option<f64>| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    format!(
        "| {} | {} | {} | {} | {} | {} | {refused} |",
        row.method,
        number(row.median),
        percent(row.spread),
        row.loss().map_or(String::new(), percent),
        ratio(row.to_reference),
        ratio(row.to_limit),
    )
}

//! The page `docs/benchmarks.md`: the headline, three charts and how to repeat it. And its essence for `README.md`.

use std::fmt::Write as _;

use super::{
    chart::{Chart, file_of},
    table::{number, ratio},
};
use crate::{
    headline::{COLUMNS, Headline, Shown},
    machine::date,
    record::{Figure, Record},
};

const REPEAT: &str = include_str!("repeat.md");
const CHARTS: usize = 3;

/// Around the essence in `README.md`.
pub(crate) const BEGIN: &str = "<!-- benchmarks: begin (written by `cargo xtask bench --full`) -->\n";
pub(crate) const END: &str = "<!-- benchmarks: end -->\n";
/// The columns of the essence, out of [`COLUMNS`].
const ESSENTIAL: [usize; 3] = [0, 1, 4];

/// The whole page.
pub(crate) fn page(record: &Record, charts: &[Chart]) -> String {
    let headline = Headline::of(record);
    let rounds = record.rows.iter().map(|row| row.samples.len());
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --full`; do not edit. Measured on {}: {}, {:.0} minutes, up to {} rounds. \
         [Benchmarks in detail](benchmarks-detail.md) has all rows, all charts, and how it is measured.\n\n\
         Each figure says how many times as good as iptables a method is: as many packets in the same time, or the same \
         work in so much less time or memory. Above 1 is better than iptables, in every line.\n\n",
        date(record.machine.time),
        record.machine,
        record.seconds / 60.0,
        rounds.max().unwrap_or(0),
    );
    let header: Vec<_> = COLUMNS.iter().map(|column| format!(" {column} |")).collect();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| | iptables, measured |{}\n|---|--:|{}",
        header.concat(),
        "--:|".repeat(COLUMNS.len())
    );
    for Shown {
        line,
        reference,
        figures,
    } in &headline.shown
    {
        let figures: Vec<_> = figures.iter().map(|figure| format!(" {} |", cell(*figure))).collect();
        let _ = writeln!(
            text,
            "| {} | {} {} |{}",
            line.name,
            number(reference.median.value),
            reference.unit,
            figures.concat()
        );
    }
    text.push_str(
        "\n\
         - **±**: how far the true ratio may be away (95 %). **—**: not measured, or not repeatable within 10 %.\n\
         - **iptables**: a DNAT and a SNAT rule per guest; environments are made by the classic script, \
         fewer of them, because it takes as long for each.\n\
         - **envnet**: as it is by default, with its fast path by TC.\n\
         - **nftables**: a map per direction, with connection tracking. **stateless**: without; it does not translate \
         packets inside ICMP errors.\n\
         - **routing**: no translation at all, which is no solution for clones.\n\
         - **limit**: a TC program that only redirects; for removal, the kernel deleting the same links.\n",
    );
    for (reason, lines) in [
        ("Not repeatable within 10 % in this run", &headline.doubtful),
        ("Not measured in this run", &headline.missing),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{reason}: {}.", lines.join("; "));
        }
    }
    text.push('\n');
    for Chart { title, file } in headline_charts(&headline, charts) {
        let _ = writeln!(text, "![{title}](benchmarks/{file})\n");
    }
    text.push_str(REPEAT);
    text
}

/// The charts of the first essential lines.
fn headline_charts<'c>(headline: &Headline<'_>, charts: &'c [Chart]) -> impl Iterator<Item = &'c Chart> {
    let essential = headline.shown.iter().filter(|shown| shown.line.is_essential);
    let files: Vec<_> = essential.map(|shown| file_of(shown.reference)).collect();
    let find = move |file: String| charts.iter().find(|chart| chart.file == file);
    files.into_iter().filter_map(find).take(CHARTS)
}

fn cell(figure: Option<Figure>) -> String {
    figure.map_or("—".to_owned(), |figure| format!("× {}", ratio(figure)))
}

/// The text of `README.md` with the essence between its markers; none where it lacks them.
pub(crate) fn readme(text: &str, record: &Record) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", essence(record)))
}

/// The essential lines of the table.
fn essence(record: &Record) -> String {
    let headline = Headline::of(record);
    let columns = ESSENTIAL.map(|column| format!(" {} |", COLUMNS[column]));
    let mut text = format!(
        "| times as good as iptables |{}\n|---|{}\n",
        columns.concat(),
        "--:|".repeat(ESSENTIAL.len())
    );
    for shown in headline.shown.iter().filter(|shown| shown.line.is_essential) {
        let figures = ESSENTIAL.map(|column| format!(" {} |", cell(shown.figures[column])));
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} |{}", shown.line.name, figures.concat());
    }
    let _ = writeln!(
        text,
        "\nMeasured on {} on {} in one run; [all of it](docs/benchmarks.md).",
        date(record.machine.time),
        record.machine,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::few_rows;

    #[test]
    fn the_page_has_a_table_then_charts_then_how_to_repeat_it() {
        let charts = ["rate-in-64-bytes-64k-flows.svg", "latency-median-p50.svg"].map(|file| Chart {
            title: "title".to_owned(),
            file: file.to_owned(),
        });
        let page = page(&few_rows(), &charts);
        let parts = [
            "Measured on 2026-11-28: Linux 6.18, 2 × Processor, 4096 MiB, 14 minutes, up to 8 rounds.",
            "| | iptables, measured | envnet | nftables | nftables, stateless | routing | limit |\n|---|--:|--:|--:|--:|--:|--:|\n",
            "| packets in, 64k flows | 1400 ns/packet | × 4.00 ± 2 % | — | × 1.40 ± 2 % | — | × 5.00 ± 2 % |\n",
            "| TCP throughput in | 10.0 Gbit/s | × 1.50 ± 2 % | — | — | — | — |\n",
            "\nNot repeatable within 10 % in this run: latency, median.\n",
            "\nNot measured in this run: packets in, 1 flow; ",
            "![title](benchmarks/rate-in-64-bytes-64k-flows.svg)\n",
            "## How to repeat it\n",
        ];
        let mut rest = page.as_str();
        for part in parts {
            let found = rest.split_once(part);
            assert!(found.is_some(), "{part:?} is not in {rest}");
            rest = found.map_or("", |(_, rest)| rest);
        }
        assert!(
            !page.contains("latency-median-p50.svg"),
            "a chart of a line that is left out"
        );
    }

    #[test]
    fn the_readme_changes_between_its_markers_only() {
        let old = format!("# Title\n\n{BEGIN}old\n{END}\nrest\n");
        let new = readme(&old, &few_rows()).unwrap_or_default();
        assert_eq!(
            new,
            format!(
                "# Title\n\n{BEGIN}\
                 | times as good as iptables | envnet | nftables | limit |\n|---|--:|--:|--:|\n\
                 | packets in, 64k flows | × 4.00 ± 2 % | — | × 5.00 ± 2 % |\n\n\
                 Measured on 2026-11-28 on Linux 6.18, 2 × Processor, 4096 MiB in one run; [all of it](docs/benchmarks.md).\n\
                 {END}\nrest\n"
            )
        );
        assert_eq!(readme(&new, &few_rows()), Some(new), "a second time changes nothing");
        assert_eq!(readme("# Title\n", &few_rows()), None);
    }
}

//! The headline: the few rows that the first page shows, beside iptables. They are measured until they are repeatable.

use crate::{
    measure::lifecycle::{self, LINKS},
    methods::REFERENCE,
    record::{Figure, Record, Row},
};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    measurement: &'static str,
    variant: &'static str,
    /// The methods in the columns for envnet and for the limit.
    envnet: &'static str,
    limit: &'static str,
    /// Whether README.md shows it, too.
    pub(crate) is_essential: bool,
}

/// Titles of the columns beside that of iptables.
pub(crate) const COLUMNS: [&str; 5] = ["envnet", "nftables", "nftables, stateless", "routing", "limit"];

pub(crate) const LINES: [Line; 11] = [
    packets("packets in, 1 flow", "rate", "in, 64 bytes, 1 flow"),
    packets("packets in, 64k flows", "rate", "in, 64 bytes, 64k flows").essential(),
    packets("packets out, 1 flow", "rate", "out, 64 bytes, 1 flow"),
    packets(
        "packets between environments, 1 flow",
        "rate",
        "environment to environment, 64 bytes, 1 flow",
    )
    .essential(),
    packets("latency, median", "latency", "median (p50)"),
    packets("new TCP connections", "new connections", "TCP, in").essential(),
    packets("TCP throughput in", "tcp throughput", "in, both ends on one processor"),
    packets(
        "TCP throughput out",
        "tcp throughput",
        "out, both ends on one processor",
    ),
    environments("set-up of 100 environments", "set-up, 100 at once").essential(),
    environments("removal of 100 environments", "teardown, 100 at once"),
    environments("memory of 100 environments", "memory, 100 at once").essential(),
];

/// envnet takes this way by default; the limit is a program at the same place.
const fn packets(name: &'static str, measurement: &'static str, variant: &'static str) -> Line {
    Line {
        name,
        measurement,
        variant,
        envnet: "envnet-tc",
        limit: "limit-tc",
        is_essential: false,
    }
}

const fn environments(name: &'static str, variant: &'static str) -> Line {
    Line {
        envnet: lifecycle::ENVNET,
        limit: LINKS,
        ..packets(name, lifecycle::MEASUREMENT, variant)
    }
}

impl Line {
    const fn essential(self) -> Self {
        Self {
            is_essential: true,
            ..self
        }
    }

    /// The methods in the columns.
    const fn methods(&self) -> [&'static str; COLUMNS.len()] {
        [self.envnet, "nft-maps", "nft-stateless", "routing", self.limit]
    }

    /// Whether the row is about what the line is about.
    pub(crate) fn is_about(&self, row: &Row) -> bool {
        row.measurement == self.measurement && row.variant == self.variant
    }
}

/// A line that a record has figures for.
#[derive(Debug)]
pub(crate) struct Shown<'r> {
    pub(crate) line: &'static Line,
    pub(crate) reference: &'r Row,
    /// How many times as good as the reference, for each column; none where that is not known or not repeatable.
    pub(crate) figures: [Option<Figure>; COLUMNS.len()],
}

/// A record's headline.
#[derive(Debug, Default)]
pub(crate) struct Headline<'r> {
    pub(crate) shown: Vec<Shown<'r>>,
    /// Lines that are left out, because envnet's figure is not repeatable or there is none.
    pub(crate) doubtful: Vec<&'static str>,
    pub(crate) missing: Vec<&'static str>,
}

impl<'r> Headline<'r> {
    pub(crate) fn of(record: &'r Record) -> Self {
        let mut headline = Self::default();
        for line in &LINES {
            let find = |method: &str| {
                let mut rows = record.rows.iter().filter(|row| line.is_about(row));
                rows.find(|row| row.method == method && !row.samples.is_empty())
            };
            let (Some(reference), Some(_)) = (find(REFERENCE), find(line.envnet)) else {
                headline.missing.push(line.name);
                continue;
            };
            let figures = line.methods().map(|method| find(method).and_then(times_as_good));
            if figures[0].is_none() {
                headline.doubtful.push(line.name);
                continue;
            }
            headline.shown.push(Shown {
                line,
                reference,
                figures,
            });
        }
        headline
    }
}

/// The ratio to the reference, if it is repeatable, turned so that more is better.
fn times_as_good(row: &Row) -> Option<Figure> {
    let ratio = row.to_reference.filter(Figure::is_repeatable)?;
    // The interval is a factor in either direction, so it stays the same.
    let value = if row.less_is_better {
        1.0 / ratio.value
    } else {
        ratio.value
    };
    Some(Figure { value, ..ratio })
}

/// Whether the headline shows the row, or would if it were repeatable.
pub(crate) fn shows(row: &Row) -> bool {
    LINES
        .iter()
        .any(|line| line.is_about(row) && (row.method == REFERENCE || line.methods().contains(&row.method.as_str())))
}

/// Whether more rounds could make the headline better.
pub(crate) fn is_open(row: &Row) -> bool {
    shows(row) && row.refused.is_none() && row.to_reference.is_some_and(|ratio| !ratio.is_repeatable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::example::few_rows;

    #[test]
    fn lines_without_a_repeatable_figure_of_envnet_are_left_out() {
        let record = few_rows();
        let headline = Headline::of(&record);
        let shown: Vec<_> = headline.shown.iter().map(|shown| shown.line.name).collect();
        assert_eq!(shown, ["packets in, 64k flows", "TCP throughput in"]);
        assert_eq!(headline.doubtful, ["latency, median"]);
        assert!(headline.missing.contains(&"set-up of 100 environments"));
        assert_eq!(headline.missing.len(), LINES.len() - 3);
    }

    #[test]
    fn more_is_better_in_every_line() {
        let record = few_rows();
        let headline = Headline::of(&record);
        let [packets, throughput] = &headline.shown[..] else {
            panic!("{headline:?}");
        };
        let values = |shown: &Shown<'_>| shown.figures.map(|figure| figure.map(|figure| figure.value));
        // The noisy column and the one without a row are empty.
        assert_eq!(values(packets), [Some(4.0), None, Some(1.4), None, Some(5.0)]);
        assert_eq!(values(throughput), [Some(1.5), None, None, None, None]);
    }

    #[test]
    fn only_what_the_headline_shows_keeps_it_open() {
        let record = few_rows();
        let open: Vec<_> = record.rows.iter().filter(|row| is_open(row)).collect();
        let open: Vec<_> = open.iter().map(|row| row.method.as_str()).collect();
        assert_eq!(open, ["nft-maps", "envnet-tc"]);
        let slow = record.rows.iter().find(|row| row.method == "envnet-slow");
        assert!(slow.is_some_and(|row| !shows(row)));
    }
}

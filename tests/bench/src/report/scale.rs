//! What the page says about numbers of environments: figures that follow from several rows.

use std::fmt::Write as _;

use super::table::number;
use crate::{
    measure::lifecycle::{
        BARE, BRIDGES, ENVNET, LINKS, MEASUREMENT, MEMORY, NO_CHANGE, PORTS, SET_UP, STATUS, TEARDOWN, variant,
    },
    methods::REFERENCE,
    record::{Record, Row},
};

/// How much more one environment may cost among many than among ten.
const TARGET: f64 = 1.5;
const FEW: u16 = 10;
/// How many times as long the script may well take.
const FASTER: f64 = 20.0;
/// What takes at most a second for up to so many.
const WITHIN_A_SECOND: [(&str, &str, u16); 2] = [("attach again", NO_CHANGE, 1000), ("status", STATUS, 4000)];

/// Name and unit of a line, and which row it is.
const LINES: [(&str, &str, &str, &str); 13] = [
    ("attach", "ms", SET_UP, ENVNET),
    ("attach again", "ms", NO_CHANGE, ENVNET),
    ("status", "ms", STATUS, ENVNET),
    ("detach", "ms", TEARDOWN, ENVNET),
    ("memory", "KiB", MEMORY, ENVNET),
    ("kernel: remove bridge, two taps, veth pair", "ms", TEARDOWN, LINKS),
    ("kernel: remove the bridge alone", "ms", TEARDOWN, BRIDGES),
    ("kernel: let three ports leave the bridge", "ms", TEARDOWN, PORTS),
    ("script: up", "ms", SET_UP, REFERENCE),
    ("script: down", "ms", TEARDOWN, REFERENCE),
    ("script: memory", "KiB", MEMORY, REFERENCE),
    ("empty namespace and bridge: down", "ms", TEARDOWN, BARE),
    ("empty namespace and bridge: memory", "KiB", MEMORY, BARE),
];

/// Which row, by what is measured and for whom.
type Cell = (&'static str, &'static str);

/// Name of a line, and which row by which.
const QUOTIENTS: [(&str, Cell, Cell); 5] = [
    ("detach to attach", (TEARDOWN, ENVNET), (SET_UP, ENVNET)),
    (
        "detach to what the kernel alone takes for the same links",
        (TEARDOWN, ENVNET),
        (TEARDOWN, LINKS),
    ),
    ("script's way up to attach", (SET_UP, REFERENCE), (SET_UP, ENVNET)),
    ("script's way down to detach", (TEARDOWN, REFERENCE), (TEARDOWN, ENVNET)),
    (
        "memory to that of an empty namespace and bridge",
        (MEMORY, ENVNET),
        (MEMORY, BARE),
    ),
];

const BRIDGES_TAKE_TIME: &str = "
Where detach's time goes: deleting a bridge waits until the kernel has freed all that was waiting to be freed (`rcu_barrier` in
`br_multicast_dev_del`), once for every bridge and with the lock on all interfaces held, so that bridges go one after the other,
whoever deletes them and in how many requests. Letting go of a port takes an expedited grace period only, which is short.
";

/// The section, if there is anything for it.
pub(crate) fn section(record: &Record) -> Option<String> {
    let sizes = sizes(record);
    let quotient = |first: Option<f64>, second: Option<f64>| Some(first? / second?);
    if sizes.is_empty() {
        return None;
    }
    let find = |what: &str, size: u16, method: &str| {
        let variant = variant(what, size);
        let is_it = |row: &&Row| {
            row.measurement == MEASUREMENT && row.variant == variant && row.method == method && !row.samples.is_empty()
        };
        record.rows.iter().find(is_it).map(|row| row.median.value)
    };
    let mut text = String::from("## Number of environments\n\nFor each environment of two machines:\n\n|  | unit |");
    // Writing to a string does not fail.
    for size in &sizes {
        let _ = write!(text, " {size} at once |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "--:|".repeat(sizes.len()));
    for (name, unit, what, method) in LINES {
        let _ = write!(text, "| {name} | {unit} |");
        for &size in &sizes {
            let value = find(what, size, method);
            let _ = write!(text, " {} |", value.map_or(String::new(), number));
        }
        text.push('\n');
    }
    for (name, (what, method), (to, other)) in QUOTIENTS {
        let _ = write!(text, "| {name} | × |");
        for &size in &sizes {
            let ratio = quotient(find(what, size, method), find(to, size, other));
            let _ = write!(text, " {} |", ratio.map_or(String::new(), number));
        }
        text.push('\n');
    }
    text.push('\n');
    let most = *sizes.last()?;
    for (name, _, what, _) in LINES.iter().filter(|(.., method)| *method == ENVNET && most > FEW) {
        if let Some(ratio) = quotient(find(what, most, ENVNET), find(what, FEW, ENVNET)) {
            let missed = missed(ratio <= TARGET);
            let _ = writeln!(
                text,
                "- {name}: one of {most} costs {ratio:.2} times what one of {FEW} costs (the aim is at most {TARGET}{missed})."
            );
        }
    }
    if let Some(ratio) = quotient(find(SET_UP, most, REFERENCE), find(SET_UP, most, ENVNET)).filter(|_| most > FEW) {
        let missed = missed(ratio >= FASTER);
        let _ = writeln!(
            text,
            "- attach of {most}: the script takes {ratio:.1} times as long (the aim is at least {FASTER}{missed})."
        );
    }
    for (name, what, limit) in WITHIN_A_SECOND {
        let seconds = find(what, most, ENVNET).map(|each| each * f64::from(most) / 1e3);
        if let Some(seconds) = seconds.filter(|_| most <= limit && most > FEW) {
            let missed = missed(seconds <= 1.0);
            let _ = writeln!(
                text,
                "- {name} of {most}: {seconds:.2} s in all (the aim is at most 1 s for {limit}{missed})."
            );
        }
    }
    text.push_str(BRIDGES_TAKE_TIME);
    Some(text)
}

const fn missed(is_met: bool) -> &'static str {
    if is_met { "" } else { ", which it misses" }
}

/// Numbers of environments that were made, from few to many.
fn sizes(record: &Record) -> Vec<u16> {
    let size = |row: &Row| {
        let rest = row.variant.strip_prefix(SET_UP)?.strip_prefix(", ")?;
        rest.strip_suffix(" at once")?.parse().ok()
    };
    let own = |row: &&Row| row.measurement == MEASUREMENT && row.method == ENVNET;
    let mut sizes: Vec<u16> = record.rows.iter().filter(own).filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

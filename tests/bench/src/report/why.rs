//! Why a row may differ from run to run: what is known of it beyond chance.

use crate::record::Row;

/// Measurement, a part of the variant, and the reason.
const REASONS: [(&str, &str, &str); 8] = [
    (
        "rate",
        "read from a tap",
        "sender and reader meet in the tap's queue, from two processors: who of them waits for memory changes by chance",
    ),
    (
        "rate",
        "to the queue of a tap",
        "short bursts: caches are as cold as what happened between them left them",
    ),
    (
        "tcp throughput",
        "a processor for each end",
        "two states: the way between is run by the sender's processor or, clocked by acknowledgements, by the receiver's",
    ),
    ("latency", "p99", "the tail is what else the machine does meanwhile"),
    (
        "growth",
        "first packet",
        "a sample is as short as there are flows, and long lists of rules lie elsewhere in memory each time",
    ),
    (
        "environments",
        "memory",
        "the kernel takes memory in pages and, for each processor, in larger pieces, which neighbours share",
    ),
    (
        "environments",
        "teardown",
        "most of it is waiting for the kernel's grace periods, which what else the machine does makes longer",
    ),
    (
        "environments",
        "1 at once",
        "a few waits for the kernel, which one environment has for itself",
    ),
];

/// The row's remarks: what is different about it, whether it can be trusted, and if not, why.
pub(crate) fn remarks(row: &Row) -> String {
    let doubt = row.doubt().map(|doubt| {
        let is_it = |(measurement, variant, _): &&(&str, &str, &str)| {
            row.measurement == *measurement && row.variant.contains(variant)
        };
        match REASONS.iter().find(is_it) {
            Some((.., reason)) if row.has_interval() => format!("{doubt} ({reason})"),
            _ => doubt,
        }
    });
    let refused = row.refused.as_ref().map(|reason| format!("refused: {reason}"));
    let remarks: Vec<_> = [row.note.clone(), refused, doubt].into_iter().flatten().collect();
    remarks.join("; ")
}

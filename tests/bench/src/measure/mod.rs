//! What is measured, one file each. A measurement makes cells; `rounds` interleaves them.

pub(crate) mod connections;
pub(crate) mod growth;
pub(crate) mod latency;
pub(crate) mod lifecycle;
pub(crate) mod program;
pub(crate) mod rate;
pub(crate) mod throughput;

use std::time::Duration;

/// How thorough a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) name: &'static str,
    /// Rounds of everything, if the time allows. What is not repeatable yet goes on in the time that is left: first what
    /// the headline shows, then the rest.
    pub(crate) rounds: usize,
    /// How long rounds may be begun.
    pub(crate) time: Duration,
    /// How long a flood for one sample should take.
    pub(crate) flood: Duration,
    /// Bursts to a tap's queue for one sample.
    pub(crate) bursts: u32,
    /// Sent over TCP for one sample.
    pub(crate) megabytes: u32,
    /// Requests for one sample.
    pub(crate) requests: usize,
    /// New connections for one sample.
    pub(crate) connections: u32,
    /// Numbers of mappings of a router, the two guests' among them.
    pub(crate) mappings: &'static [usize],
    /// Numbers of environments, and how long they may be made and removed again and again.
    pub(crate) environments: &'static [(u16, Duration)],
    /// Whether combinations are left out.
    pub(crate) is_quick: bool,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        name: "quick",
        rounds: 6,
        time: Duration::from_secs(75),
        flood: Duration::from_millis(20),
        bursts: 2,
        megabytes: 150,
        requests: 3_000,
        connections: 1_000,
        mappings: &[2, 10_000],
        environments: &[(1, Duration::from_secs(8)), (10, Duration::from_secs(15))],
        is_quick: true,
    };
    pub(crate) const FULL: Self = Self {
        name: "full",
        rounds: 6,
        time: Duration::from_secs(630),
        flood: Duration::from_millis(30),
        bursts: 4,
        megabytes: 400,
        requests: 15_000,
        connections: 4_000,
        mappings: &[2, 1_000, 10_000, 100_000],
        environments: &[
            (1, Duration::from_secs(20)),
            (10, Duration::from_secs(45)),
            (100, Duration::from_secs(200)),
        ],
        is_quick: false,
    };
}

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
    pub(crate) rounds: usize,
    /// Rounds of what takes a second each time.
    pub(crate) long_rounds: usize,
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
    /// Numbers of environments, and how often each is made.
    pub(crate) environments: &'static [(u16, usize)],
    /// Whether combinations are left out.
    pub(crate) is_quick: bool,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        name: "quick",
        rounds: 5,
        long_rounds: 3,
        flood: Duration::from_millis(20),
        bursts: 2,
        megabytes: 200,
        requests: 3_000,
        connections: 1_000,
        mappings: &[2, 1_000, 10_000],
        environments: &[(1, 3), (5, 3)],
        is_quick: true,
    };
    pub(crate) const FULL: Self = Self {
        name: "full",
        rounds: 7,
        long_rounds: 5,
        flood: Duration::from_millis(40),
        bursts: 6,
        megabytes: 600,
        requests: 20_000,
        connections: 5_000,
        mappings: &[2, 1_000, 10_000, 100_000],
        environments: &[(1, 5), (10, 3), (100, 2)],
        is_quick: false,
    };
}

//! TCP throughput by iperf3, with segmentation and checksum offloads as everywhere between virtual machines.
//!
//! A window larger than a veth's queue makes it one of two, and by chance: with the queue full now and then, the sender
//! backs off for good, without, it is three times as fast. And with a processor for each end, chance says on which of them
//! the way between is run, by who acknowledges. So the window always fits into the queue, and both ends are on one
//! processor, too, where the throughput is what the ends and the way cost together.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use envnet_lab::{
    interrupt,
    process::{self, Process},
};
use serde_json::Value;

use super::Effort;
use crate::{
    processor,
    rounds::{Cell, Ledger, Name, Sample},
    world::{DC, World},
};

/// Bytes of a segment, to tell segments from retransmissions.
const SEGMENT: u64 = 1448;
/// Of either end's buffer, in bytes. The kernel doubles it, and half of that is for data: 68 segments, in a veth's queue of 256.
const WINDOW: &str = "96K";
/// How long the server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server in a guest; ended when dropped.
pub(crate) struct Server<'w> {
    world: &'w World<'w>,
    _process: Process,
}

impl<'w> Server<'w> {
    pub(crate) fn start(world: &'w World<'w>) -> Result<Self> {
        let mut command = world.guests[0].namespace.command("iperf3");
        command.args(["--server"]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self {
            world,
            _process: Process::start(command)?,
        })
    }

    fn client(&self, megabytes: u32, variant: Variant) -> Command {
        let mut command = self.world.testbed.outside.command("iperf3");
        let (first, last) = processor::outermost();
        let server = if variant.one_processor { first } else { last };
        command
            .args(["--json", "--affinity", &format!("{first},{server}")])
            .args(["--bytes", &format!("{megabytes}M"), "--window", WINDOW])
            // What a kernel has by default paces itself or not; this one is in all.
            .args(["--congestion", "cubic"])
            .args(["--client", &DC.external(1).to_string()])
            .args((!variant.inwards).then_some("--reverse"));
        command
    }

    fn sample(&self, megabytes: u32, variant: Variant) -> Result<Sample> {
        let (end, bits) = interrupt::wait_for("iperf3", PATIENCE, || {
            let output = process::wait(&mut self.client(megabytes, variant))?;
            // The server is not there yet, or busy with the one before: then there is no such number.
            let mut result: Value = serde_json::from_slice(&output.stdout).context("iperf3 does not speak JSON")?;
            let end = result["end"].take();
            let bits = end["sum_received"]["bits_per_second"].as_f64();
            Ok(bits.map(|bits| (end, bits)))
        })?;
        let segments = end["sum_sent"]["bytes"].as_u64().unwrap_or(0) / SEGMENT;
        let again = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
        Ok(Sample {
            values: vec![bits / 1e9],
            offered: segments,
            received: segments.saturating_sub(again),
            note: None,
        })
    }
}

/// One combination.
#[derive(Clone, Copy, Debug)]
struct Variant {
    inwards: bool,
    one_processor: bool,
}

impl Variant {
    const ALL: [Self; 4] = [
        Self::new(true, true),
        Self::new(false, true),
        Self::new(true, false),
        Self::new(false, false),
    ];

    const fn new(inwards: bool, one_processor: bool) -> Self {
        Self { inwards, one_processor }
    }

    fn name(self) -> Name {
        let way = if self.inwards { "in" } else { "out" };
        let processors = if self.one_processor {
            "both ends on one processor"
        } else {
            "a processor for each end"
        };
        Name {
            measurement: "tcp throughput",
            variant: format!("{way}, {processors}"),
            unit: "Gbit/s",
            less_is_better: false,
        }
    }
}

/// Both directions, as far as another round has to measure them.
pub(crate) fn cells<'w>(servers: &'w [Server<'w>], effort: &Effort, ledger: &Ledger) -> Vec<Cell<'w>> {
    let megabytes = effort.megabytes;
    let mut cells = Vec::new();
    for variant in Variant::ALL {
        if !ledger.wants(&variant.name()) || effort.is_quick && !variant.one_processor {
            continue;
        }
        for server in servers {
            cells.push(Cell {
                method: server.world.method.name().to_owned(),
                names: vec![variant.name()],
                measure: Box::new(move || server.sample(megabytes, variant)),
            });
        }
    }
    cells
}

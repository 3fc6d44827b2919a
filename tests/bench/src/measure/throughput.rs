//! TCP throughput by iperf3, with segmentation and checksum offloads as everywhere between virtual machines.

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
    rounds::{Cell, Name, Sample},
    world::{DC, World},
};

/// Bytes of a segment, to tell segments from retransmissions.
const SEGMENT: u64 = 1448;
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

    fn client(&self, megabytes: u32, reverse: bool) -> Command {
        let mut command = self.world.site.outside.command("iperf3");
        // Client and server each on a processor of their own.
        command
            .args(["--json", "--affinity", "0,1", "--bytes", &format!("{megabytes}M")])
            // What a kernel has by default paces itself or not; this one is in all.
            .args(["--congestion", "cubic"])
            .args(["--client", &DC.external(1).to_string()])
            .args(reverse.then_some("--reverse"));
        command
    }

    fn sample(&self, megabytes: u32, reverse: bool) -> Result<Sample> {
        let (end, bits) = interrupt::wait_for("iperf3", PATIENCE, || {
            let output = process::wait(&mut self.client(megabytes, reverse))?;
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
        })
    }
}

/// Both directions.
pub(crate) fn cells<'w>(servers: &'w [Server<'w>], effort: &Effort) -> Vec<Cell<'w>> {
    let megabytes = effort.megabytes;
    let mut cells = Vec::new();
    for (variant, reverse) in [("in", false), ("out", true)] {
        for server in servers {
            cells.push(Cell {
                method: server.world.method.name().to_owned(),
                names: vec![Name {
                    measurement: "tcp throughput",
                    variant: variant.to_owned(),
                    unit: "Gbit/s",
                    less_is_better: false,
                }],
                measure: Box::new(move || server.sample(megabytes, reverse)),
            });
        }
    }
    cells
}

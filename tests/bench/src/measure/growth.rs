//! What a frame costs with more and more mappings: the next frame of a flow, and the first one, for which a method that
//! remembers connections looks at its rules.

use std::time::Duration;

use anyhow::Result;
use envnet_lab::parallel::in_parallel;

use super::{
    Effort,
    rate::{Flood, Sinks},
};
use crate::{
    conntrack,
    rounds::{Cell, Ledger, Name, Progress},
    world::{Direction, World},
};

const MEASUREMENT: &str = "growth";
const LENGTH: usize = 64;
/// More flows than one sample has frames.
const FLOWS: u32 = 1 << 16;
/// First frames of flows in one sample: one connection each, and with 100,000 rules to look at they take a while.
const FIRSTS: u32 = 2048;
const FEWEST_FIRSTS: u32 = 128;

/// Fills, measures, and fills more, once. The worlds stay full: they are measured last.
pub(crate) fn measure(
    worlds: &mut [World<'_>],
    effort: &Effort,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<()> {
    for &size in effort.mappings {
        if ![false, true].iter().any(|first| ledger.wants(&name(size, *first))) {
            continue;
        }
        progress.show(&format!("making {size} mappings"));
        let filled = in_parallel(worlds.iter_mut(), |world| Ok(world.standing.fill(&world.testbed, size)))?;
        let sinks: Vec<_> = worlds.iter().map(Sinks::attach).collect::<Result<_>>()?;
        let mut cells = Vec::new();
        for first in [false, true] {
            if !ledger.wants(&name(size, first)) {
                continue;
            }
            for (sinks, filled) in sinks.iter().zip(&filled) {
                let reason = match filled {
                    Ok(true) => None,
                    // What does not grow is measured once.
                    Ok(false) if size == effort.mappings[0] => None,
                    Ok(false) => continue,
                    Err(error) => Some(format!("{error:#}")),
                };
                cells.push(cell(sinks, size, first, reason, effort.flood)?);
            }
        }
        ledger.measure(&mut cells, progress)?;
    }
    Ok(())
}

fn name(size: usize, first: bool) -> Name {
    let what = if first {
        "first packet of a flow"
    } else {
        "next packet of a flow"
    };
    Name {
        measurement: MEASUREMENT,
        variant: format!("{what}, {size} mappings"),
        unit: "ns/packet",
        less_is_better: true,
    }
}

fn cell<'w>(
    sinks: &'w Sinks<'w>,
    size: usize,
    first: bool,
    reason: Option<String>,
    duration: Duration,
) -> Result<Cell<'w>> {
    let world = sinks.world;
    let mut flood = Flood::new(sinks, Direction::In, LENGTH, if first { FLOWS } else { 1 })?;
    let mut frames = FIRSTS;
    Ok(Cell {
        method: world.method.name().to_owned(),
        names: vec![name(size, first)],
        measure: Box::new(move || {
            if let Some(reason) = &reason {
                anyhow::bail!("{reason}");
            }
            if !first {
                // Others have forgotten it meanwhile.
                flood.exactly(FEWEST_FIRSTS)?;
                return flood.sample(duration);
            }
            let router = world.router();
            let forget = || router.as_ref().map_or(Ok(()), conntrack::flush);
            if frames == FIRSTS {
                // How long a few take tells how many can be waited for.
                forget()?;
                let probe = flood.exactly(FEWEST_FIRSTS)?.values[0];
                if probe * f64::from(FIRSTS) > duration.as_secs_f64() * 1e9 * 4.0 {
                    frames = FEWEST_FIRSTS;
                }
            }
            forget()?;
            flood.exactly(frames)
        }),
    })
}

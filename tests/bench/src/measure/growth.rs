//! What a frame costs with more and more mappings: the next frame of a flow, and the first one, for which a method that
//! remembers connections looks at its rules.

use std::time::Duration;

use anyhow::Result;

use super::{
    Effort,
    rate::{Flood, Sinks},
};
use crate::{
    conntrack,
    record::Row,
    rounds::{self, Cell, Name, Progress},
    world::{Direction, World},
};

const MEASUREMENT: &str = "growth";
const LENGTH: usize = 64;
/// More flows than one sample has frames.
const FLOWS: u32 = 1 << 16;
/// First frames of flows in one sample: one connection each, and with 100,000 rules to look at they take a while.
const FIRSTS: u32 = 2048;
const FEWEST_FIRSTS: u32 = 128;

/// Fills, measures, and fills more. Growing worlds stay full: they are measured last.
pub(crate) fn rows(worlds: &mut [World<'_>], effort: &Effort, progress: &Progress) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &size in effort.mappings {
        let mut filled = Vec::new();
        for world in &mut *worlds {
            progress.show(&format!("{}: {size} mappings", world.method.name()));
            filled.push(world.standing.fill(&world.site, size));
        }
        let sinks: Vec<_> = worlds.iter().map(Sinks::attach).collect::<Result<_>>()?;
        let mut cells = Vec::new();
        for first in [false, true] {
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
        rows.extend(rounds::run(cells, effort.long_rounds, progress)?);
    }
    Ok(rows)
}

fn cell<'w>(
    sinks: &'w Sinks<'w>,
    size: usize,
    first: bool,
    reason: Option<String>,
    duration: Duration,
) -> Result<Cell<'w>> {
    let what = if first {
        "first packet of a flow"
    } else {
        "next packet of a flow"
    };
    let world = sinks.world;
    let mut flood = Flood::new(sinks, Direction::In, LENGTH, if first { FLOWS } else { 1 })?;
    let mut frames = FIRSTS;
    Ok(Cell {
        method: world.method.name().to_owned(),
        names: vec![Name {
            measurement: MEASUREMENT,
            variant: format!("{what}, {size} mappings"),
            unit: "ns/packet",
            less_is_better: true,
        }],
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

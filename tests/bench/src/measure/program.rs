//! What each of envnet's programs costs by itself, as the kernel measures it (`BPF_ENABLE_STATS`) while it is flooded by
//! `BPF_PROG_TEST_RUN`. The latter's own repetitions would not do: they run on one frame, and a program that translates
//! finds its own result the second time.
//!
//! The kernel reads a clock before and after, which is part of the result: the rows of the limits, whose programs do next
//! to nothing, show how much that is.

use std::{collections::BTreeMap, rc::Rc};

use anyhow::Result;
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};

use super::rate::{Flood, Sinks};
use crate::{
    rounds::{Cell, Ledger, Name, Sample},
    world::Direction,
};

const LENGTH: usize = 64;
/// Frames of one sample.
const FRAMES: u32 = 20_000;
/// The benchmark's own, which run just as often.
const OWN: [&str; 2] = ["generate", "sink"];

/// Programs by number: name, nanoseconds and runs since they were loaded.
type Snapshot = BTreeMap<u32, (String, u64, u64)>;

/// One cell for each program that a method runs for each frame in a direction, if another round has to measure it.
pub(crate) fn cells<'w>(sinks: &'w [Sinks<'w>], ledger: &Ledger) -> Result<Vec<Cell<'w>>> {
    let mut cells = Vec::new();
    for (direction, way) in [
        (Direction::In, "in"),
        (Direction::Out, "out"),
        (Direction::Across, "environment to environment"),
    ] {
        let name = Name {
            measurement: "programs",
            variant: format!("{way}, {LENGTH} bytes, 1 flow"),
            unit: "ns/run",
            less_is_better: true,
        };
        if !ledger.wants(&name) {
            continue;
        }
        for sinks in sinks {
            let flood = Rc::new(Flood::new(sinks, direction, LENGTH, 1)?);
            let (_, runs) = observe(&flood)?;
            for (number, (program, ..)) in runs {
                let flood = Rc::clone(&flood);
                cells.push(Cell {
                    method: format!("{}: {program}", sinks.world.method.name()),
                    names: vec![name.clone()],
                    measure: Box::new(move || {
                        let (sample, runs) = observe(&flood)?;
                        let (_, time, count) = runs.get(&number).cloned().unwrap_or_default();
                        anyhow::ensure!(count > 0, "the program is gone");
                        #[expect(clippy::cast_precision_loss, reason = "some million nanoseconds")]
                        let value = time as f64 / count as f64;
                        Ok(Sample {
                            values: vec![value],
                            ..sample
                        })
                    }),
                });
            }
        }
    }
    Ok(cells)
}

/// Floods once and returns the programs that ran for the frames, each with the time and the runs that it took.
fn observe(flood: &Flood<'_>) -> Result<(Sample, Snapshot)> {
    let _enabled = enable_stats(Stats::RunTime)?;
    let before = snapshot();
    let sample = flood.exactly(FRAMES)?;
    let mut runs = snapshot();
    runs.retain(|number, (name, time, count)| {
        if let Some((_, time_before, count_before)) = before.get(number) {
            *time -= time_before;
            *count -= count_before;
        }
        // Other programs on this machine run now and then.
        *count > u64::from(FRAMES) * 9 / 10 && !OWN.contains(&name.as_str())
    });
    Ok((sample, runs))
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::new();
    for program in loaded_programs() {
        // One that was unloaded meanwhile is none of ours.
        let Ok(program) = program else { continue };
        let name = program.name_as_str().unwrap_or_default().to_owned();
        snapshot.insert(
            program.id(),
            (
                name,
                u64::try_from(program.run_time().as_nanos()).unwrap_or(u64::MAX),
                program.run_count(),
            ),
        );
    }
    snapshot
}

//! A random walk through everything that can happen to environments, for as long as one likes.
//!
//! The seed decides on the walk, and nothing else does: what is chosen depends on the model only, never on what has just been
//! measured. After every step the invariants are checked, and whenever nothing is attached, everything is counted.

mod actions;
mod bpf;
mod damage;
mod guests;
mod invariants;
mod leaks;
mod model;
mod perform;
mod reachability;
mod report;
mod traffic;
mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use fastrand::Rng;

use crate::{
    actions::{Action, choose},
    invariants::Memory,
    leaks::Leaks,
    report::Tally,
    world::World,
};
use envnet_lab::{cable::Cable, interrupt};

/// How long, and which walk.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How long to go on
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub minutes: f32,
    /// The same steps again; every walk prints its seed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print every step as it begins
    #[arg(long)]
    pub verbose: bool,
}

/// Walks until the time is over, an invariant does not hold or it is interrupted. Returns whether all was right; nothing
/// is left when it returns.
pub fn run(options: &Options) -> Result<bool> {
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    };
    let seed = options.seed.unwrap_or_else(clock);
    let duration = Duration::try_from_secs_f32(options.minutes * 60.0).context("--minutes")?;
    walk(seed, duration, true, options.verbose)
}

/// A walk of that seed; `alone` says that nothing else happens in this process, so that its files may be counted.
pub fn walk(seed: u64, duration: Duration, alone: bool, verbose: bool) -> Result<bool> {
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let mut world = World::build()?;
    let (mut memory, mut tally) = (Memory::default(), Tally::start());
    let mut leaks = Leaks::start(&world, alone)?;
    let mut last = false;
    while !last {
        last = tally.elapsed() >= duration;
        let action = if last {
            Action::Rest
        } else {
            choose(&mut rng, &world.model)
        };
        tally.begin(&action);
        if verbose {
            println!("{}", tally.latest());
        }
        if let Err(error) = step(&action, &mut world, &mut memory, &mut tally, &mut leaks, last) {
            if interrupt::requested() {
                println!("interrupted; until then all was right (seed {seed})");
                break;
            }
            println!("{}", failure(seed, &world, &tally));
            println!("FAILED (seed {seed}): {error:#}");
            return Ok(false);
        }
        tally.progress(&world, &memory);
    }
    println!("\nseed {seed}: {}{}", tally.summary(&world, &memory), leaks.table());
    Ok(true)
}

fn step(
    action: &Action,
    world: &mut World,
    memory: &mut Memory,
    tally: &mut Tally,
    leaks: &mut Leaks,
    last: bool,
) -> Result<()> {
    let effect = world.perform(action)?;
    tally.done(action, &effect);
    memory.check(world, action, &effect)?;
    if *action == Action::Rest {
        leaks.look(world)?;
    }
    if last {
        world.lab.check_no_leak()?;
        leaks.judge()?;
    }
    Ok(())
}

/// Everything that helps to understand what has happened.
fn failure(seed: u64, world: &World, tally: &Tally) -> String {
    let said = |arguments: &str| match world.lab.envnet().run(arguments) {
        Ok(outcome) => format!("$ envnet {arguments}\n{}{}", outcome.stdout, outcome.stderr),
        Err(error) => format!("$ envnet {arguments}\n{error:#}\n"),
    };
    let links = world.lab.host().ip("-brief link show").unwrap_or_default();
    let mut text = format!(
        "\nseed {seed}, the last steps:\n{}\n\nthe file:\n{}\n{}{}host:\n{links}",
        tally.last(),
        world.model.file.configuration(),
        said("status"),
        said("plan")
    );
    for (seat, guest) in &world.guests {
        let said = |arguments: &str| guest.namespace().ip(arguments).unwrap_or_default();
        text = format!(
            "{text}guest of {}, {:?}:\n{}{}",
            seat.tap(),
            guest.cable().map(Cable::traffic),
            said("-statistics link show eth0"),
            said("-statistics neighbour show")
        );
    }
    for router in world.routers().unwrap_or_default() {
        let links = router.ip("-brief link show").unwrap_or_default();
        let neighbours = router.ip("-statistics neighbour show").unwrap_or_default();
        text = format!("{text}{}:\n{links}{neighbours}", router.name());
    }
    text
}

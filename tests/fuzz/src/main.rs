//! The fuzzer: `cargo xtask fuzz` builds and runs it as root.

use std::{
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use clap::Parser;
use envnet_fuzz::{Disagreement, campaign::Campaign, corpus, differential};

/// Disagreements after which there is enough to look at.
const ENOUGH: usize = 10;

/// Runs random packets through the programs and compares with the model.
#[derive(Debug, Parser)]
struct Options {
    /// How long to go on.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Makes the same packets again.
    #[arg(long)]
    seed: Option<u64>,
    /// Send packets through a router with iptables and one with envnet, and compare what comes out.
    #[arg(long)]
    differential: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all packets were as the model says.
fn run(options: &Options) -> Result<bool> {
    let seed = options.seed.unwrap_or_else(fresh_seed);
    println!("seed {seed}");
    if options.differential {
        return differential::run(seed);
    }
    let mut campaign = Campaign::load()?;
    let mut found = campaign.replay(corpus::KEPT)?;
    found.iter().for_each(print);

    let (start, length) = (Instant::now(), Duration::from_secs(options.seconds));
    let mut number = 0;
    while start.elapsed() < length && found.len() < ENOUGH {
        let new = campaign.batch(seed, number)?;
        new.iter().for_each(print);
        found.extend(new);
        number += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let report = &campaign.report;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = report.packets as f64 / seconds;
    println!("\n{report}");
    let missing = report.missing();
    if !missing.is_empty() {
        println!("never dropped for: {}", missing.join(", "));
    }
    println!(
        "{} packets in {seconds:.1} s, {rate:.0} a second, {} disagreements",
        report.packets,
        found.len()
    );
    Ok(found.is_empty())
}

fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
}

fn print(disagreement: &Disagreement) {
    let Disagreement {
        world,
        case,
        difference,
    } = disagreement;
    println!(
        "\n{} ({} bytes):\n  {difference}\n  to keep it, in tests/fuzz/corpus/kept.txt:\n  {}",
        case.kind,
        case.frame.len(),
        corpus::line(world, case)
    );
}

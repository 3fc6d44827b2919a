//! The comparison: what envnet's users could use instead, on one topology and in one run. `cargo xtask bench` builds it.

mod compare;
mod conntrack;
mod flood;
mod frames;
mod headline;
mod machine;
mod measure;
mod methods;
mod port;
mod processor;
mod reader;
mod record;
mod report;
mod rounds;
mod statistics;
mod testbed;
mod world;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use envnet_lab::{interrupt, parallel::in_parallel, remains};
use nix::unistd::geteuid;

use crate::{
    machine::Machine,
    measure::{Effort, connections, growth, latency, lifecycle, program, rate, throughput},
    methods::Method,
    record::{Participant, Record, Row},
    rounds::{Ledger, Progress},
    world::World,
};

/// The programs, as the ELF object the build script makes from the crate in `ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ENVNET_EBPF_OBJECT"));

/// Compares ways to give cloned machines addresses of their own.
///
/// Without options it is quick: less than two minutes, fewer combinations, fewer rounds.
#[derive(Debug, Parser)]
#[command(name = "envnet-bench", bin_name = "cargo xtask bench")]
struct Options {
    /// All combinations in more rounds, and the page with charts; at most a quarter of an hour, on a machine that does nothing else
    #[arg(long)]
    full: bool,
    /// Only this; can be given more than once
    #[arg(long, value_enum, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// Only these methods, by their names in the tables; iptables-nft and limit-xdp are what others are compared with
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<String>,
    /// Make 10, 100 and so many environments, which takes minutes more
    #[arg(long, value_name = "ENVIRONMENTS", num_args = 0..=1, default_missing_value = "1000",
          value_parser = clap::value_parser!(u16).range(2..4096))]
    scale: Option<u16>,
    /// Folder for the record (JSON) and the charts
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "target/bench",
        overrides_with = "output"
    )]
    output: PathBuf,
    /// Folder for the page, which a full run of everything writes anew
    #[arg(long, value_name = "FOLDER", overrides_with = "docs")]
    docs: Option<PathBuf>,
    /// Measure nothing: write the page from the record of a full run
    #[arg(long, value_name = "RECORD.json", requires = "docs")]
    publish: Option<PathBuf>,
    /// Measure nothing: say whether the ratios of two records agree within 10 %, or their rows say why not
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    compare: Vec<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Frames through the whole path
    Rate,
    /// TCP
    Throughput,
    /// Request and response
    Latency,
    /// New TCP connections
    Connections,
    /// Each program by itself
    Programs,
    /// Many mappings
    Growth,
    /// Making and removing environments
    Environments,
}

impl Measurement {
    /// Those that compare methods in worlds that stand side by side.
    const SIDE_BY_SIDE: [Self; 6] = [
        Self::Rate,
        Self::Throughput,
        Self::Latency,
        Self::Connections,
        Self::Programs,
        Self::Growth,
    ];
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match (options.compare.as_slice(), &options.publish, &options.docs) {
        ([a, b], ..) => compare::compare(a, b),
        (_, Some(record), Some(docs)) => Record::read(record)
            .and_then(|record| report::publish(&record, docs))
            .map(|()| true),
        _ => run(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("envnet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "the benchmark makes network namespaces and must be root; run it with sudo"
    );
    interrupt::install();
    remains::clear().context("what an earlier run left")?;
    let effort = if options.full { Effort::FULL } else { Effort::QUICK };
    let progress = Progress::start();
    let methods = methods::all();
    let is_chosen = |name: &str| options.methods.is_empty() || options.methods.iter().any(|chosen| chosen == name);
    for name in &options.methods {
        ensure!(
            methods.iter().any(|method| method.name() == name),
            "no method {name}; there are {}",
            methods
                .iter()
                .map(|method| method.name())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let chosen: Vec<_> = methods
        .iter()
        .map(AsRef::as_ref)
        .filter(|method: &&dyn Method| is_chosen(method.name()))
        .collect();
    let mut record = Record {
        machine: Machine::here(),
        mode: effort.name.to_owned(),
        seconds: 0.0,
        methods: Vec::new(),
        rows: Vec::new(),
    };
    record.rows = measure(&chosen, options, &effort, &mut record.methods, &progress)?;
    if is_wanted(options, Measurement::Environments) {
        record.rows.extend(lifecycle::rows(&effort, options.scale, &progress)?);
        progress.step("environments made and removed");
    }
    record.seconds = progress.seconds();
    println!("{}", report::table::table(&record));
    if options.scale.is_some() {
        println!("{}", report::scale::section(&record).unwrap_or_default());
    }
    report::write(&record, &options.output)?;
    if let Some(docs) = options.docs.as_ref().filter(|_| options.full)
        && options.only.is_empty()
        && options.methods.is_empty()
    {
        report::publish(&record, docs)?;
    }
    Ok(())
}

/// Everything that is measured with methods side by side. Every round builds everything anew: what depends on where the
/// kernel happens to put programs, rules and interfaces differs from round to round as it does from run to run.
fn measure(
    methods: &[&dyn Method],
    options: &Options,
    effort: &Effort,
    participants: &mut Vec<Participant>,
    progress: &Progress,
) -> Result<Vec<Row>> {
    let mut ledger = Ledger::new(effort.rounds);
    let is_none_wanted = Measurement::SIDE_BY_SIDE.iter().all(|one| !is_wanted(options, *one));
    let mut longest = 0.0_f64;
    for round in 1.. {
        let before = progress.seconds();
        let is_late = before + longest > effort.time.as_secs_f64();
        if is_none_wanted || round > 1 && is_late || round > effort.rounds && ledger.is_settled() {
            break;
        }
        let (mut worlds, all) = match build(methods, progress) {
            Err(error) if round > 1 => {
                interrupt::check()?;
                // What has been measured is worth keeping.
                progress.step(&format!("round {round} cannot be set up, so it is the end: {error:#}"));
                break;
            }
            built => built?,
        };
        if round == 1 {
            for participant in &all {
                if let Some(reason) = &participant.unavailable {
                    progress.step(&format!("{} is not available: {reason}", participant.name));
                }
            }
            *participants = all;
        } else if worlds.len() != participants.iter().filter(|one| one.unavailable.is_none()).count() {
            progress.step(&format!("round {round} lacks a method, so it is the end"));
            break;
        }
        let built = progress.seconds() - before;
        let parts = pass(&mut worlds, options, effort, &mut ledger, progress)?;
        drop(worlds);
        // What goes on with less takes less.
        longest = progress.seconds() - before;
        progress.step(&format!("round {round} took {longest:.0} s: set-up {built:.0}{parts}"));
    }
    Ok(ledger.rows())
}

/// One round; returns how long its parts took.
fn pass(
    worlds: &mut [World<'_>],
    options: &Options,
    effort: &Effort,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<String> {
    let wanted = |measurement| is_wanted(options, measurement);
    let mut parts = String::new();
    let mut since = progress.seconds();
    let mut done = |what: &str| {
        let now = progress.seconds();
        // Writing to a string does not fail.
        let _ = write!(parts, ", {what} {:.0}", now - since);
        since = now;
    };
    if wanted(Measurement::Rate) || wanted(Measurement::Programs) {
        let bare = rate::Bare::new()?;
        let sinks: Vec<_> = worlds.iter().map(rate::Sinks::attach).collect::<Result<_>>()?;
        if wanted(Measurement::Rate) {
            ledger.measure(&mut rate::cells(&sinks, &bare, effort, ledger)?, progress)?;
            done("rates");
        }
        if wanted(Measurement::Programs) {
            ledger.measure(&mut program::cells(&sinks, ledger)?, progress)?;
            done("programs");
        }
    }
    if wanted(Measurement::Throughput) {
        let servers: Vec<_> = worlds
            .iter()
            .filter(|world| !world.method.is_limit())
            .map(throughput::Server::start)
            .collect::<Result<_>>()?;
        ledger.measure(&mut throughput::cells(&servers, effort, ledger), progress)?;
        done("TCP");
    }
    if wanted(Measurement::Latency) {
        ledger.measure(&mut latency::cells(worlds, effort, ledger), progress)?;
        done("latency");
    }
    if wanted(Measurement::Connections) {
        ledger.measure(&mut connections::cells(worlds, effort, ledger), progress)?;
        done("connections");
    }
    // Last, because the worlds stay full.
    if wanted(Measurement::Growth) {
        growth::measure(worlds, effort, ledger, progress)?;
        done("growth");
    }
    Ok(parts)
}

fn is_wanted(options: &Options, measurement: Measurement) -> bool {
    options.only.is_empty() || options.only.contains(&measurement)
}

/// Builds a world for each method that can be had here, and says which can.
fn build<'m>(methods: &[&'m dyn Method], progress: &Progress) -> Result<(Vec<World<'m>>, Vec<Participant>)> {
    progress.show("setting up and checking");
    let built = in_parallel(methods.iter().enumerate(), |(number, method)| {
        Ok(World::new(*method, &format!("b{number}")))
    })?;
    interrupt::check()?;
    let participant = |(method, world): (&&dyn Method, &Result<World<'_>>)| Participant {
        name: method.name().to_owned(),
        description: method.description().to_owned(),
        unavailable: world
            .as_ref()
            .err()
            .map(|error| format!("{error:#}").replace('\n', " ")),
    };
    let participants = methods.iter().zip(&built).map(participant).collect();
    Ok((built.into_iter().flatten().collect(), participants))
}

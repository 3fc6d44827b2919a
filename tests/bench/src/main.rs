//! The comparison: what envnet's users could use instead, on one topology and in one run. `cargo xtask bench` builds it.

mod compare;
mod conntrack;
mod flood;
mod frames;
mod machine;
mod measure;
mod methods;
mod port;
mod processor;
mod reader;
mod record;
mod report;
mod rounds;
mod site;
mod statistics;
mod world;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use envnet_lab::{interrupt, parallel::in_parallel, remains};
use nix::unistd::geteuid;

use crate::{
    machine::Machine,
    measure::{Effort, connections, growth, latency, lifecycle, program, rate, throughput},
    methods::Method,
    record::{Participant, Record, Row, relate},
    rounds::Progress,
    world::World,
};

/// The programs, as the ELF object the build script makes from the crate in `ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ENVNET_EBPF_OBJECT"));

/// Compares ways to give cloned machines addresses of their own.
///
/// Without options it is quick: two minutes, fewer combinations, five rounds.
#[derive(Debug, Parser)]
#[command(name = "envnet-bench", bin_name = "cargo xtask bench")]
struct Options {
    /// All combinations in more rounds, and the page with charts; some ten minutes on a machine that does nothing else
    #[arg(long)]
    full: bool,
    /// Only this; can be given more than once
    #[arg(long, value_enum, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// Only these methods, by their names in the tables; iptables-nft and limit-xdp are what others are compared with
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<String>,
    /// Make 1,000 environments, too, which takes minutes more
    #[arg(long)]
    scale: bool,
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
    /// Measure nothing: say whether the ratios of two records agree within 10 %
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
    let mut worlds = build(&chosen, &mut record, &progress)?;
    record.rows = measure(&mut worlds, options, &effort, &progress)?;
    drop(worlds);
    if is_wanted(options, Measurement::Environments) {
        record.rows.extend(lifecycle::rows(&effort, options.scale, &progress)?);
        progress.step("environments made and removed");
    }
    relate(&mut record.rows);
    record.seconds = progress.seconds();
    println!("{}", report::table::table(&record));
    report::write(&record, &options.output)?;
    if let Some(docs) = options.docs.as_ref().filter(|_| options.full)
        && options.only.is_empty()
        && options.methods.is_empty()
    {
        report::publish(&record, docs)?;
    }
    Ok(())
}

/// Everything that is measured with methods side by side.
fn measure(worlds: &mut [World<'_>], options: &Options, effort: &Effort, progress: &Progress) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = |measurement| is_wanted(options, measurement);
    if wanted(Measurement::Rate) || wanted(Measurement::Programs) {
        let bare = rate::Bare::new()?;
        let sinks: Vec<_> = worlds.iter().map(rate::Sinks::attach).collect::<Result<_>>()?;
        if wanted(Measurement::Rate) {
            let cells = rate::cells(&sinks, &bare, effort)?;
            rows.extend(rounds::run(cells, effort.rounds, progress)?);
            progress.step("rates measured");
        }
        if wanted(Measurement::Programs) {
            let cells = program::cells(&sinks)?;
            rows.extend(rounds::run(cells, effort.rounds, progress)?);
            progress.step("programs measured");
        }
    }
    if wanted(Measurement::Throughput) {
        let servers: Vec<_> = worlds
            .iter()
            .filter(|world| !world.method.is_limit())
            .map(throughput::Server::start)
            .collect::<Result<_>>()?;
        rows.extend(rounds::run(
            throughput::cells(&servers, effort),
            effort.rounds,
            progress,
        )?);
        progress.step("TCP throughput measured");
    }
    if wanted(Measurement::Latency) {
        rows.extend(rounds::run(latency::cells(worlds, effort), effort.rounds, progress)?);
        progress.step("latency measured");
    }
    if wanted(Measurement::Connections) {
        rows.extend(rounds::run(
            connections::cells(worlds, effort),
            effort.rounds,
            progress,
        )?);
        progress.step("new connections measured");
    }
    // Last, because the worlds stay full.
    if wanted(Measurement::Growth) {
        rows.extend(growth::rows(worlds, effort, progress)?);
        progress.step("growth measured");
    }
    Ok(rows)
}

fn is_wanted(options: &Options, measurement: Measurement) -> bool {
    options.only.is_empty() || options.only.contains(&measurement)
}

/// Builds a world for each method that can be had here.
fn build<'m>(methods: &[&'m dyn Method], record: &mut Record, progress: &Progress) -> Result<Vec<World<'m>>> {
    progress.show("setting up and checking");
    let built = in_parallel(methods.iter().enumerate(), |(number, method)| {
        Ok(World::new(*method, &format!("b{number}")))
    })?;
    interrupt::check()?;
    let mut worlds = Vec::new();
    for (method, world) in methods.iter().zip(built) {
        let unavailable = world
            .as_ref()
            .err()
            .map(|error| format!("{error:#}").replace('\n', " "));
        if let Some(reason) = &unavailable {
            progress.step(&format!("{} is not available: {reason}", method.name()));
        }
        record.methods.push(Participant {
            name: method.name().to_owned(),
            description: method.description().to_owned(),
            unavailable,
        });
        worlds.extend(world);
    }
    progress.step(&format!("{} methods set up and checked", worlds.len()));
    Ok(worlds)
}

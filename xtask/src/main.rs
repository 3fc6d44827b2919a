//! `cargo xtask`: one verb per file, for people and for continuous integration alike.

mod bench;
mod build;
mod compliance;
mod fuzz;
mod kernels;
mod libtest;
mod lint;
mod run;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Sets up, builds, runs, tests, measures and lints envnet.
///
/// Every verb first makes private copies, in .tools, of what it needs and the system lacks. The system is not changed.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Verb {
    /// Fetch what building, running, testing and linting need, as private copies; show it; or install it.
    Setup(setup::Options),
    /// Build the release binary, with the eBPF programs inside.
    Build,
    /// Bring up the demonstration laboratory: cloned machines behind envnet.
    Run(run::Options),
    /// Run the tests, layer by layer.
    Test(test::Options),
    /// Run random packets through the programs and compare with a model of the translation.
    Fuzz(fuzz::Options),
    /// Change, kill, damage and use environments at random, and check all the time that nothing is lost or left.
    Soak(soak::Options),
    /// Compare envnet with other ways to the same end: rates, latency, growth; writes tables and charts.
    Bench(bench::Options),
    /// Check format, lints, documentation and licences.
    Lint,
}

fn main() -> ExitCode {
    let result = match Verb::parse() {
        Verb::Setup(options) => setup::setup(&options),
        Verb::Build => build::build(),
        Verb::Run(options) => run::run(&options),
        Verb::Test(options) => test::test(&options),
        Verb::Fuzz(options) => fuzz::fuzz(&options),
        Verb::Soak(options) => soak::soak(&options),
        Verb::Bench(options) => bench::bench(&options),
        Verb::Lint => lint::lint(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The target directory this program was built in, whatever chose it.
fn target_dir() -> Result<std::path::PathBuf> {
    Ok(xtask::ebpf::shared_target_dir(&std::env::current_exe()?))
}

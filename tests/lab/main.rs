//! The laboratory as a command; `cargo xtask run` builds and starts it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use envnet_lab::{kernel, run};

#[derive(Debug, Parser)]
#[command(
    name = "envnet-lab",
    about = "Builds a small network with envnet in it, in network namespaces of its own"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clone a set of virtual machines into every environment and reach each clone from outside
    Run(run::Options),
    /// Run a test program under another kernel, in QEMU
    Kernel(kernel::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Kernel(options) => kernel::run(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("envnet-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

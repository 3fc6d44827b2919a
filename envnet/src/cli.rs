//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{config::Environments, kernel::programs::Hook};

/// Networks for copies of virtual machines that all have the same addresses.
///
/// Every copy (environment) of the machines in the configuration gets its own bridge, router and taps; machine 10.0.0.V of
/// environment E is reachable from outside as 172.16.E.V. Nothing in the machines is changed.
#[derive(Clone, Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// Configuration file
    #[arg(long, short, global = true, value_name = "FILE", default_value = "envnet.toml")]
    pub config: PathBuf,
    /// Manage this network namespace as the host
    #[arg(long, global = true, value_name = "NAME")]
    pub netns: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; `RUST_LOG` chooses more finely
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Attach the programs this way instead of the best one the kernel has
    #[arg(long, global = true, hide = true, value_name = "HOOK")]
    pub hook: Option<Hook>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make the network what the configuration says; changes only what differs
    Attach(Part),
    /// Remove everything envnet made
    Detach(Part),
    /// Show environments, guests, counters and drops
    Status(Status),
    /// Show what `attach` would change, and change nothing
    Plan(Part),
    /// Check the configuration file without looking at the host
    Check,
}

/// Which environments a command is about.
#[derive(Clone, Debug, Args)]
pub struct Part {
    /// Only these environments, as in "1-3, 7"; all others stay as they are
    #[arg(long, value_name = "LIST")]
    pub environments: Option<Environments>,
}

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Then print what the programs log, dropped packets (with --verbose, translated ones, too), until Ctrl-C
    #[arg(long)]
    pub log: bool,
}

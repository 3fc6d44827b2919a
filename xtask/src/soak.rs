//! The verb `soak`: a random walk through everything that can happen to environments, as root.

use std::os::unix::process::CommandExt;

use anyhow::{Error, Result};
use clap::Args;

use xtask::process::Privilege;

use crate::{build, setup};

/// Options of the verb `soak`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long to go on.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f32,
    /// Take the same steps again; every walk prints its seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step as it begins.
    #[arg(long)]
    verbose: bool,
}

/// The verb `soak`; returns only when the soak test cannot be started.
pub(crate) fn soak(options: &Options) -> Result<()> {
    let privilege = Privilege::find("the laboratory (network namespaces and eBPF)")?;
    setup::network_tests()?;
    let soak = build::release(&["envnet", "envnet-soak"])?.join("envnet-soak");
    let mut command = privilege.command(&soak);
    command.args(["--minutes", &options.minutes.to_string()]);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if options.verbose {
        command.arg("--verbose");
    }
    // In place of this process: Ctrl-C and the exit status are then the soak test's own.
    Err(Error::new(command.exec()).context(format!("{} does not start", soak.display())))
}

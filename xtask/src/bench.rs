//! The verb `bench`: envnet compared with what one could use instead, as root.

use std::{ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Error, Result};
use clap::Args;

use xtask::{process::Privilege, workspace};

use crate::{build, setup, target_dir};

/// Options of the verb `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Options for the benchmark: --full, --only rate, --methods iptables-nft,envnet-xdp, --help …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    benchmark: Vec<OsString>,
}

/// The verb `bench`; returns only when the benchmark cannot be started.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let privilege = Privilege::find("the benchmark (network namespaces and eBPF)")?;
    setup::comparisons()?;
    let benchmark = build::release(&["envnet", "envnet-bench"])?.join("envnet-bench");
    let mut command = privilege.command(&benchmark);
    command
        .arg("--output")
        .arg(target_dir()?.join("bench"))
        .arg("--docs")
        .arg(workspace().join("docs"))
        .args(&options.benchmark);
    // In place of this process: Ctrl-C, the terminal and the exit status are then the benchmark's own.
    Err(Error::new(command.exec()).context(format!("{} does not start", benchmark.display())))
}

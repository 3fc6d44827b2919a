//! The verb `run`: the demonstration laboratory, as root.

use std::{ffi::OsString, os::unix::process::CommandExt};

use anyhow::{Error, Result};
use clap::Args;

use xtask::process::Privilege;

use crate::{build, setup};

/// Options of the verb `run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Options for the laboratory: --once, --environments N, --guests qemu|netns …
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    laboratory: Vec<OsString>,
}

/// The verb `run`; returns only when the laboratory cannot be started.
pub(crate) fn run(options: &Options) -> Result<()> {
    let privilege = Privilege::find("the laboratory (network namespaces and eBPF)")?;
    let assets = setup::guests()?;
    let laboratory = build::release(&["envnet", "envnet-lab"])?.join("envnet-lab");
    let mut command = privilege.command(&laboratory);
    command
        .arg("run")
        .arg("--assets")
        .arg(&assets)
        .args(&options.laboratory);
    // In place of this process: Ctrl-C, the terminal and the exit status are then the laboratory's own.
    Err(Error::new(command.exec()).context(format!("{} does not start", laboratory.display())))
}

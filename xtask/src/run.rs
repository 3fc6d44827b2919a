//! The verb `run`: the demonstration laboratory, as root.

use std::{os::unix::process::CommandExt, path::PathBuf};

use anyhow::{Error, Result};
use clap::{Args, ValueEnum};

use xtask::process::Privilege;

use crate::{build, setup};

/// Options of the verb `run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End after the check; the exit status is 0 only if every guest gave the right answer.
    #[arg(long)]
    once: bool,
    /// How many environments.
    #[arg(long, value_name = "NUMBER")]
    environments: Option<u8>,
    /// What the guests are made of.
    #[arg(long, value_enum, default_value_t = Guests::Qemu)]
    guests: Guests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Guests {
    /// Virtual machines, cloned from memory snapshots.
    Qemu,
    /// Network namespaces.
    Netns,
}

/// The verb `run`; returns only when the laboratory cannot be started.
pub(crate) fn run(options: &Options) -> Result<()> {
    let privilege = Privilege::find("the laboratory (network namespaces and eBPF)")?;
    setup::laboratory()?;
    let machines = match options.guests {
        Guests::Qemu => Some(machines()),
        Guests::Netns => None,
    };
    let laboratory = build::release(&["envnet", "envnet-lab"])?.join("envnet-lab");
    let mut command = privilege.command(&laboratory);
    command.arg("run");
    match &machines {
        Some(Ok(assets)) => command.arg("--assets").arg(assets),
        Some(Err(reason)) => command.args(["--guests", "netns", "--no-machines", reason]),
        None => command.args(["--guests", "netns"]),
    };
    if options.once {
        command.arg("--once");
    }
    if let Some(environments) = options.environments {
        command.args(["--environments", &environments.to_string()]);
    }
    // In place of this process: Ctrl-C, the terminal and the exit status are then the laboratory's own.
    Err(Error::new(command.exec()).context(format!("{} does not start", laboratory.display())))
}

/// The folder with what virtual machines boot, or why there can be none.
fn machines() -> Result<PathBuf, String> {
    setup::machines().map_err(|error| {
        let reason = format!("{error:#}");
        eprintln!("no virtual machines: {reason}\nnetwork namespaces take the guests' places");
        reason
    })
}

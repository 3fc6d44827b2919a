//! `envnet-lab run`: one set of machines, cloned into every environment, each clone reached from outside.

mod check;
mod counters;
mod member;
mod population;
mod progress;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::{check::Answer, progress::Progress};
use crate::{
    Configuration, Lab,
    addresses::{MOST_ENVIRONMENTS, ROLES},
    qemu::Assets,
};

/// What is to be shown.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// End after the check; the exit status is 0 only if every guest answered rightly
    #[arg(long)]
    pub once: bool,
    /// How many environments
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_ENVIRONMENTS)))]
    pub environments: u8,
    /// What the guests are made of
    #[arg(long, value_enum, default_value_t = GuestKind::Qemu)]
    pub guests: GuestKind,
    /// Folder with the virtual machines' kernel, modules and busybox
    #[arg(long, value_name = "FOLDER")]
    pub assets: Option<PathBuf>,
    /// Say with the table that the guests are no virtual machines, and why
    #[arg(long, value_name = "REASON", hide = true)]
    pub no_machines: Option<String>,
}

/// What the guests are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GuestKind {
    /// Virtual machines, cloned from memory snapshots
    Qemu,
    /// Network namespaces
    Netns,
}

/// Builds everything, asks every guest, and shows the counters until it is interrupted. Returns whether all answered
/// rightly; nothing is left when it returns.
pub fn run(options: &Options) -> Result<bool> {
    let assets = match (options.guests, &options.assets) {
        (GuestKind::Netns, _) => None,
        (GuestKind::Qemu, Some(folder)) => Some(Assets::open(folder)?),
        (GuestKind::Qemu, None) => bail!("virtual machines need --assets; try --guests netns"),
    };
    let progress = Progress::start();
    let environments = options.environments;
    let lab = Lab::new(Configuration::of(environments))?;
    progress.step(format!(
        "host {} with an uplink to {}",
        lab.host().name(),
        lab.outside().name()
    ));
    lab.attach()?;
    progress.step(format!(
        "envnet attach: environments 1 to {environments}, {} taps each",
        ROLES.len()
    ));
    let mut members = match assets {
        None => population::namespaces(&lab, environments)?,
        Some(assets) => population::clones(&lab, environments, &assets, &progress)?,
    };
    progress.step(format!("{} guests plugged in, waiting", members.len()));
    let answers = check::ask_all(&lab, &mut members, &progress)?;
    let frames = lab.check_no_leak()?;
    progress.step(format!(
        "{frames} frames left the uplink, none with an internal address"
    ));
    let right = answers.iter().all(Answer::is_right);
    let notice = options
        .no_machines
        .as_deref()
        .map(|reason| format!("NOT virtual machines: these guests are network namespaces, because {reason}\n"));
    table::Table {
        lab: &lab,
        members: &members,
        answers: &answers,
        notice: notice.unwrap_or_default(),
    }
    .show(options.once)?;
    Ok(right)
}

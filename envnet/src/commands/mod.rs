//! One file per subcommand, and what they share.

mod attach;
mod check;
mod context;
mod detach;
mod lock;
mod plan;
mod status;

use anyhow::Result;

use crate::{
    cli::{Cli, Command, Selection},
    config::Config,
    plan::Others,
};

/// Carries a command line out. Must be called inside a tokio runtime.
pub async fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Check => check::run(cli),
        Command::Attach(part) => attach::run(cli, part).await,
        Command::Detach(part) => detach::run(cli, part).await,
        Command::Plan(part) => plan::run(cli, part).await,
        Command::Status(options) => status::run(cli, options).await,
    }
}

fn config(cli: &Cli) -> Result<Config> {
    Ok(Config::load(cli.configuration())?)
}

/// The configuration of the environments a command is about, and what is to become of the others that are there.
fn config_of(cli: &Cli, part: &Selection) -> Result<(Config, Others)> {
    let config = config(cli)?;
    warn(&config);
    match &part.environments {
        Some(part) => Ok((config.only(part, cli.configuration())?, Others::Keep)),
        None => Ok((config, Others::Prune)),
    }
}

fn warn(config: &Config) {
    if let Some(warning) = config.warning() {
        log::warn!("{warning}");
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

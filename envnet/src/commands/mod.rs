//! One file per subcommand, and what they share.

mod attach;
mod check;
mod detach;
mod lock;
mod plan;
mod session;
mod status;

use anyhow::Result;

use crate::{
    cli::{Cli, Command},
    config::Config,
};

/// Carries a command line out. Must be called inside a tokio runtime.
pub async fn run(cli: Cli) -> Result<()> {
    match &cli.command {
        Command::Check => check::run(&cli),
        Command::Attach => attach::run(&cli).await,
        Command::Detach => detach::run(&cli).await,
        Command::Plan => plan::run(&cli).await,
        Command::Status(options) => status::run(&cli, options).await,
    }
}

fn config(cli: &Cli) -> Result<Config> {
    Ok(Config::load(&cli.config)?)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

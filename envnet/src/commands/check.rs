//! `envnet check`: is the configuration file right?

use anyhow::Result;
use serde_json::json;

use super::{config, count, warn};
use crate::cli::Cli;

pub(super) fn run(cli: &Cli) -> Result<()> {
    let config = config(cli)?;
    warn(&config);
    if cli.json {
        println!(
            "{}",
            json!({ "environments": config.environments, "vms": config.vms.len() })
        );
    } else {
        let (environments, vms) = (config.environments.len(), config.vms.len());
        println!(
            "{} is right: {} of {}",
            cli.configuration().display(),
            count(environments, "environment"),
            count(vms, "machine")
        );
    }
    Ok(())
}

//! `envnet attach`: observe, plan, apply the difference.

use anyhow::Result;
use serde_json::json;

use super::{config, count, lock::Lock, session::Session};
use crate::{apply::Applier, cli::Cli, plan};

pub(super) async fn run(cli: &Cli) -> Result<()> {
    let config = config(cli)?;
    let session = Session::open(cli)?;
    let _lock = Lock::take()?;
    let (wanted, observed) = session.survey(&config).await?;
    let changes = plan::attach(&wanted, &observed, &session.instance)?;
    if !changes.is_empty() {
        Applier::new(&session.host, &session.instance, session.hook).apply_all(&changes)?;
    }
    let environments = count(wanted.environments.len(), "environment");
    if cli.json {
        println!(
            "{}",
            json!({ "environments": config.environments, "changes": changes.len() })
        );
    } else if changes.is_empty() {
        println!("{environments} attached already: no change");
    } else {
        println!("{environments} attached: {}", count(changes.len(), "change"));
    }
    Ok(())
}

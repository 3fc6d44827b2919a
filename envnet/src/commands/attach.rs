//! `envnet attach`: observe, plan, apply the difference.

use anyhow::Result;
use envnet_common::maps::LAYOUT_VERSION;
use serde_json::json;

use super::{config_of, count, lock::Lock, session::Session};
use crate::{
    apply::Applier,
    cli::{Cli, Part},
    plan,
    progress::Progress,
};

pub(super) async fn run(cli: &Cli, part: &Part) -> Result<()> {
    let (config, others) = config_of(cli, part)?;
    let session = Session::open(cli)?;
    let _lock = Lock::take()?;
    let (wanted, observed) = session.survey(&config).await?;
    let changes = plan::attach(&wanted, &observed, &session.instance, others)?;
    if !changes.is_empty() {
        let progress = Progress::new(changes.len(), cli.json || cli.verbose);
        Applier::new(&session.host, &session.instance, session.hook, &progress).apply_all(&changes)?;
    }
    let environments = count(wanted.environments.len(), "environment");
    let moved = observed.has_other_layout();
    if cli.json {
        println!(
            "{}",
            json!({ "environments": config.environments, "changes": changes.len(), "counters_restarted": moved })
        );
    } else if changes.is_empty() {
        println!("{environments} attached already: no change");
    } else {
        println!("{environments} attached: {}", count(changes.len(), "change"));
    }
    if moved && !cli.json {
        println!(
            "another build of envnet, with another layout of the maps than this one's ({LAYOUT_VERSION}), was replaced; packets and \
             drops are counted from 0 again"
        );
    }
    Ok(())
}

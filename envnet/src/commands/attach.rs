//! `envnet attach`: observe, plan, apply the difference.

use anyhow::Result;
use envnet_common::maps::LAYOUT_VERSION;
use serde_json::json;

use super::{config_of, context::HostContext, count, lock::Lock};
use crate::{
    apply::Applier,
    cli::{Cli, Selection},
    config::Config,
    plan::{self, Others},
    progress::Progress,
};

/// What one look at the host has led to.
struct Done {
    changes: usize,
    /// Whether there was something in the maps that could not be seen.
    maps_unread: bool,
    /// Whether another build's maps were there.
    other_layout: bool,
}

pub(super) async fn run(cli: &Cli, part: &Selection) -> Result<()> {
    let (config, others) = config_of(cli, part)?;
    let context = HostContext::open(cli)?;
    let _lock = Lock::take()?;
    let first = attach(cli, &context, &config, others).await?;
    let mut changes = first.changes;
    if first.maps_unread {
        // What they still hold of environments that are to go can be read now that none of them is missing any more.
        changes += attach(cli, &context, &config, others).await?.changes;
    }
    let environments = count(config.environments.len(), "environment");
    let moved = first.other_layout;
    if cli.json {
        println!(
            "{}",
            json!({ "environments": config.environments, "changes": changes, "counters_restarted": moved })
        );
    } else if changes == 0 {
        println!("{environments} attached already: no change");
    } else {
        println!("{environments} attached: {}", count(changes, "change"));
    }
    if moved && !cli.json {
        println!(
            "another build of envnet, with another layout of the maps than this one's ({LAYOUT_VERSION}), was replaced; packets and \
             drops are counted from 0 again"
        );
    }
    Ok(())
}

async fn attach(cli: &Cli, context: &HostContext, config: &Config, others: Others) -> Result<Done> {
    let (desired, observed) = context.compare(config).await?;
    let changes = plan::attach(&desired, &observed, &context.instance, others)?;
    if !changes.is_empty() {
        let progress = Progress::new(changes.len(), cli.json || cli.verbose);
        Applier::new(&context.host, &context.instance, context.hook, &progress).apply_all(&changes)?;
    }
    Ok(Done {
        changes: changes.len(),
        maps_unread: observed.pins.maps_unread(),
        other_layout: observed.pins.has_other_layout(),
    })
}

//! `envnet plan`: what `attach` would change.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{config_of, context::HostContext, count, lock::Lock};
use crate::{
    cli::{self, Cli, Selection},
    plan::{self, Change},
};

pub(super) async fn run(cli: &Cli, part: &Selection) -> Result<()> {
    let (config, others) = config_of(cli, part)?;
    let context = HostContext::open(cli)?;
    // Half of a change is no state to compare with.
    let _lock = Lock::take()?;
    let (desired, observed) = context.compare(&config).await?;
    let changes = plan::attach(&desired, &observed, &context.instance, others)?;
    if cli.json {
        let list: Vec<_> = changes
            .iter()
            .map(|change| json!({ "environment": change.environment, "change": change.to_string() }))
            .collect();
        println!("{}", json!({ "changes": list }));
        return Ok(());
    }
    // Environments are worked on in turns; each is shown once.
    let mut groups: BTreeMap<Option<u32>, Vec<&Change>> = BTreeMap::new();
    for change in &changes {
        groups.entry(change.environment).or_default().push(change);
    }
    for (environment, changes) in groups {
        match environment {
            Some(number) => println!("environment {number}"),
            None => println!("all environments"),
        }
        for change in changes {
            println!("  {change}");
        }
    }
    match changes.len() {
        0 => println!(
            "{} attached already: no change",
            count(desired.environments.len(), "environment")
        ),
        number => {
            let part = part.environments.as_ref();
            let part = part.map_or_else(String::new, |part| {
                format!(" --environments {}", cli::quoted(&part.to_string()))
            });
            let hint = cli.with_hints(&format!("`envnet attach{part}` applies them"));
            println!("{}; {hint}", count(number, "change"));
        }
    }
    Ok(())
}

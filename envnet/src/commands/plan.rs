//! `envnet plan`: what `attach` would change.

use anyhow::Result;
use serde_json::json;

use super::{config, count, lock::Lock, session::Session};
use crate::{cli::Cli, plan};

pub(super) async fn run(cli: &Cli) -> Result<()> {
    let config = config(cli)?;
    let session = Session::open(cli)?;
    // Half of a change is no state to compare with.
    let _lock = Lock::take()?;
    let (wanted, observed) = session.survey(&config).await?;
    let changes = plan::attach(&wanted, &observed, &session.instance)?;
    if cli.json {
        let list: Vec<_> = changes
            .iter()
            .map(|change| json!({ "environment": change.environment, "change": change.to_string() }))
            .collect();
        println!("{}", json!({ "changes": list }));
        return Ok(());
    }
    let mut heading = None;
    for change in &changes {
        if heading != Some(change.environment) {
            heading = Some(change.environment);
            match change.environment {
                Some(number) => println!("environment {number}"),
                None => println!("all environments"),
            }
        }
        println!("  {change}");
    }
    match changes.len() {
        0 => println!(
            "{} attached already: no change",
            count(wanted.environments.len(), "environment")
        ),
        number => println!("{}; `envnet attach` applies them", count(number, "change")),
    }
    Ok(())
}

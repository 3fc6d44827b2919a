//! `envnet detach`: remove everything that carries this instance's mark, or a part of it. Needs no configuration.

use anyhow::Result;
use serde_json::json;

use super::{context::HostContext, count, lock::Lock};
use crate::{
    apply::Applier,
    cli::{Cli, Selection},
    config::Environments,
    observe::Depth,
    plan,
    progress::Progress,
};

pub(super) async fn run(cli: &Cli, part: &Selection) -> Result<()> {
    let context = HostContext::open(cli)?;
    let _lock = Lock::take()?;
    let observed = context.observe(Depth::Everything).await?;
    let mut removed = plan::present(&observed, &context.instance);
    if let Some(part) = &part.environments {
        removed.retain(|number| part.contains(*number));
    }
    let changes = match &part.environments {
        Some(part) => plan::detach_selection(&observed, &context.instance, part)?,
        None => plan::detach(&observed, &context.instance),
    };
    let progress = Progress::new(changes.len(), cli.json || cli.verbose);
    Applier::new(&context.host, &context.instance, context.hook, &progress).apply_best_effort(&changes)?;
    let number = changes.len();
    match &part.environments {
        _ if cli.json => println!("{}", json!({ "environments": removed, "changes": number })),
        Some(part) if number == 0 => println!("nothing is attached of {}: no change", part.named()),
        None if number == 0 => println!("nothing is attached: no change"),
        Some(_) => println!(
            "{} detached: {}",
            removed.into_iter().collect::<Environments>().named(),
            count(number, "change")
        ),
        None => println!("detached: {}", count(number, "change")),
    }
    Ok(())
}

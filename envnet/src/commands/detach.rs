//! `envnet detach`: remove everything that carries this instance's mark, or a part of it. Needs no configuration.

use anyhow::Result;
use serde_json::json;

use super::{count, lock::Lock, session::Session};
use crate::{
    apply::Applier,
    cli::{Cli, Part},
    config::Environments,
    observe::Depth,
    plan,
    progress::Progress,
};

pub(super) async fn run(cli: &Cli, part: &Part) -> Result<()> {
    let session = Session::open(cli)?;
    let _lock = Lock::take()?;
    let observed = session.observe(Depth::Everything).await?;
    let mut removed = plan::present(&observed, &session.instance);
    if let Some(part) = &part.environments {
        removed.retain(|number| part.contains(*number));
    }
    let changes = match &part.environments {
        Some(part) => plan::detach_part(&observed, &session.instance, part)?,
        None => plan::detach(&observed, &session.instance),
    };
    let progress = Progress::new(changes.len(), cli.json || cli.verbose);
    Applier::new(&session.host, &session.instance, session.hook, &progress).apply_through(&changes)?;
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

//! `envnet detach`: remove everything that carries this instance's mark. Needs no configuration.

use anyhow::Result;
use serde_json::json;

use super::{count, lock::Lock, session::Session};
use crate::{apply::Applier, cli::Cli, plan};

pub(super) async fn run(cli: &Cli) -> Result<()> {
    let session = Session::open(cli)?;
    let _lock = Lock::take()?;
    let observed = session.observe().await?;
    let changes = plan::detach(&observed, &session.instance);
    Applier::new(&session.host, &session.instance, session.hook).apply_through(&changes)?;
    if cli.json {
        println!("{}", json!({ "changes": changes.len() }));
    } else if changes.is_empty() {
        println!("nothing is attached: no change");
    } else {
        println!("detached: {}", count(changes.len(), "change"));
    }
    Ok(())
}

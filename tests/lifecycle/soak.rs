//! A short random walk, so that `cargo xtask soak` keeps working.

use std::time::Duration;

use anyhow::{Result, ensure};

#[test]
fn a_short_walk_breaks_nothing() -> Result<()> {
    // Other tests run in this process, so that its files cannot be counted.
    ensure!(
        envnet_soak::walk(11, Duration::from_secs(20), false, true)?,
        "see above"
    );
    Ok(())
}

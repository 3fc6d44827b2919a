//! Which way traffic takes: what goes through a router is counted at its port, and what takes the fast path is not.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use envnet_lab::{Lab, interrupt, namespace::Namespace, ping::ping, pings::Pings};

const INTERVAL: Duration = Duration::from_millis(5);
const DURATION: Duration = Duration::from_millis(750);
const PATIENCE: Duration = Duration::from_secs(3);

/// How many packets pass the environment's router, to or from its inside, while `body` runs.
pub(crate) fn through_router<T>(lab: &Lab, environment: u8, body: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    let router = lab.router(environment)?;
    let port = format!("peer1-gw{environment}");
    let before = router.packets(&port)?;
    let result = body()?;
    Ok((router.packets(&port)? - before, result))
}

/// Pings for a while and returns how many packets passed the environment's router for each that was sent. None may be lost.
fn share(lab: &Lab, environment: u8, from: &Namespace, target: Ipv4Addr) -> Result<f64> {
    // What has to be learned is learned from the first.
    ensure!(ping(from, target, 56, PATIENCE)?.is_some(), "no answer from {target}");
    let (passed, course) = through_router(lab, environment, || {
        let pings = Pings::start(from, target, INTERVAL)?;
        interrupt::sleep(DURATION)?;
        pings.end()
    })?;
    ensure!(
        course.lost() == 0,
        "{} of {} pings of {target} were lost",
        course.lost(),
        course.sent.len()
    );
    #[expect(clippy::cast_precision_loss, reason = "a few hundred packets")]
    Ok(passed as f64 / course.sent.len() as f64)
}

/// Fails unless pings take the fast path past the environment's router, if the laboratory has one.
pub(crate) fn check(lab: &Lab, environment: u8, from: &Namespace, target: Ipv4Addr) -> Result<()> {
    let share = share(lab, environment, from, target)?;
    if lab.is_accelerated() {
        ensure!(
            share < 0.2,
            "{share:.2} packets per ping of {target} passed router {environment}"
        );
    } else {
        ensure!(
            share > 0.9,
            "{share:.2} packets per ping of {target} passed router {environment}"
        );
    }
    Ok(())
}

/// Fails unless pings go through the environment's router.
pub(crate) fn check_slow(lab: &Lab, environment: u8, from: &Namespace, target: Ipv4Addr) -> Result<()> {
    let share = share(lab, environment, from, target)?;
    ensure!(
        share > 0.9,
        "{share:.2} packets per ping of {target} passed router {environment}"
    );
    Ok(())
}

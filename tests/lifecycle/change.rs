//! Attaching twice, detaching, and changing the configuration.

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, addresses,
    addresses::ROLES,
    fixture::{attached, attached_each_way, detached},
    snapshot,
};

#[test]
fn a_second_attach_changes_nothing() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        ensure!(
            lab.envnet().changes("attach")? == 0,
            "the second attach changed something"
        );
        ensure!(
            planned(lab)?.is_empty(),
            "there is still something to change: {:?}",
            planned(lab)?
        );
        ensure!(guest.ping(addresses::UPSTREAM)?.is_some(), "the guest lost the outside");
        Ok(())
    })
}

#[test]
fn a_plan_changes_nothing_and_says_what_attach_will_do() -> Result<()> {
    detached(|lab| {
        let before = snapshot::of_host(lab)?;
        let planned = planned(lab)?.len();
        ensure!(planned > 0, "nothing to do on an empty host");
        ensure!(before == snapshot::of_host(lab)?, "plan changed the host");
        let done = lab.envnet().changes("attach")?;
        ensure!(done == planned as u64, "{planned} changes planned, {done} done");
        Ok(())
    })
}

#[test]
fn guests_survive_a_change_of_the_configuration() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        lab.attach_as(Configuration::of(3))?;
        let newcomer = lab.guest(3, dc)?;
        ensure!(
            lab.ping(dc.external(3))?.is_some(),
            "no answer from the new environment"
        );
        ensure!(
            guest.ping(dc.external(3))?.is_some(),
            "the new environment is not reachable from the old one"
        );
        drop(newcomer);
        lab.attach_as(Configuration::of(1))?;
        ensure!(guest.ping(addresses::UPSTREAM)?.is_some(), "the guest lost the outside");
        ensure!(lab.router(2).is_err(), "environment 2 is still there");
        ensure!(
            lab.ping(addresses::external(2, 1))?.is_none(),
            "environment 2 still answers"
        );
        Ok(())
    })
}

#[test]
fn detach_does_not_wait_for_guests_that_still_run() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let mut guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let frames = lab.capture().count()?;
        lab.detach()?;
        // Its cable came off with the tap, so that it may not even find a route.
        let answer = guest.ping(addresses::UPSTREAM).ok().flatten();
        ensure!(answer.is_none(), "the guest still reaches the outside");
        let frames = lab.capture().count()? - frames;
        ensure!(frames == 0, "{frames} frames passed the uplink after detach");
        // As when the machine is started again after the next attach.
        lab.attach()?;
        guest.plug(lab.host())?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer after the next attach");
        Ok(())
    })
}

#[test]
fn detach_without_anything_attached_succeeds() -> Result<()> {
    detached(|lab| lab.detach().map(drop))
}

#[test]
fn a_rebuilt_uplink_is_repaired() -> Result<()> {
    let lab = Lab::new(Configuration::default())?;
    lab.attach()?;
    let [dc, _] = ROLES;
    let _guest = lab.guest(1, dc)?;
    // The macvlans go with their parent.
    lab.host().ip("link del eth0")?;
    lab.host().ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        lab.outside().name()
    ))?;
    lab.host().ip("link set eth0 up")?;
    lab.outside()
        .ip(&format!("address add {}/16 dev eth0", addresses::UPSTREAM))?;
    lab.outside().ip("link set eth0 up")?;
    lab.attach()?;
    ensure!(lab.ping(dc.external(1))?.is_some(), "no answer after the repair");
    Ok(())
}

fn planned(lab: &Lab) -> Result<Vec<serde_json::Value>> {
    let text = lab.envnet().succeed("--json plan")?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    answer["changes"]
        .as_array()
        .cloned()
        .with_context(|| format!("no changes in {text}"))
}

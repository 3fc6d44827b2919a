//! What is not envnet's: refused with one error before the first change where it is in the way, and otherwise left exactly
//! as it was across attach, a second attach, status and detach.

mod foreign;
mod inside;
mod programs;
mod side_by_side;

use std::fs;

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::ROLES,
    fixture::{self, attached, detached, detached_with},
    snapshot,
};

use foreign::{REFUSED, TOLERATED};

/// Attaches, attaches again, asks for the status and detaches, and fails unless everything works and `view` never changes.
fn tolerated<T: PartialEq + std::fmt::Debug>(lab: &Lab, view: impl Fn() -> Result<T>) -> Result<()> {
    let host = snapshot::of_host(lab)?;
    let before = view()?;
    let unchanged = |when: &str| -> Result<()> {
        let now = view()?;
        ensure!(now == before, "{when} changed {before:?}\nto {now:?}");
        Ok(())
    };
    lab.attach()?;
    unchanged("attach")?;
    let [dc, _] = ROLES;
    let guest = lab.guest(1, dc)?;
    ensure!(lab.ping(dc.external(1))?.is_some(), "no answer to the outside");
    ensure!(
        guest.ping(envnet_lab::addresses::UPSTREAM)?.is_some(),
        "no answer to the guest"
    );
    ensure!(
        lab.envnet().changes("attach")? == 0,
        "the second attach changed something"
    );
    unchanged("the second attach")?;
    let status = lab.status()?;
    let environments = status["environments"].as_array().context("no environments")?;
    ensure!(
        environments.iter().all(|environment| environment["intact"] == true),
        "something is damaged: {status}"
    );
    unchanged("status")?;
    drop(guest);
    lab.detach()?;
    unchanged("detach")?;
    let after = snapshot::of_host(lab)?;
    ensure!(
        host == after,
        "detach has left the host otherwise:\n{}",
        snapshot::difference(&host, &after)
    );
    Ok(())
}

/// Fails unless attach is refused with one line that holds the words, before the first change, and detach removes nothing.
fn refused(lab: &Lab, words: &[&str]) -> Result<()> {
    fixture::refused(lab, 1, words, || {
        // With --verbose, every change is a line.
        let outcome = lab.envnet().run("--verbose attach")?;
        lab.detach()?;
        Ok(outcome)
    })
}

#[test]
fn what_is_not_in_the_way_is_left_alone() -> Result<()> {
    detached(|lab| {
        for foreign in &TOLERATED {
            foreign
                .check_tolerated(lab)
                .with_context(|| format!("{:?}", foreign.make))?;
        }
        Ok(())
    })
}

#[test]
fn what_has_a_wanted_name_is_refused_and_left_alone() -> Result<()> {
    detached(|lab| {
        for (foreign, words) in &REFUSED {
            foreign.make(lab)?;
            let view = foreign.view(lab)?;
            refused(lab, words).with_context(|| format!("{:?}", foreign.make))?;
            ensure!(foreign.view(lab)? == view, "{:?} was changed", foreign.make);
            foreign.remove(lab)?;
        }
        Ok(())
    })
}

#[test]
fn what_has_the_name_of_a_port_of_the_uplink_bridge_is_refused() -> Result<()> {
    detached_with(Configuration::default().mode(Mode::Bridge), |lab| {
        lab.host().ip("link add peer2-gw1 type bridge")?;
        refused(lab, &["link peer2-gw1", "environment 1"])?;
        lab.host().ip("link delete peer2-gw1").map(drop)
    })
}

/// What is added while environments are there, and is in the way of the next one only.
#[test]
fn what_is_in_the_way_of_a_new_environment_leaves_the_others_attached() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        lab.host().ip("link add br3 type bridge")?;
        lab.configure(Configuration::of(3))?;
        let outcome = lab.envnet().run("--verbose attach")?;
        ensure!(
            outcome.status == Some(1) && outcome.stderr.contains("br3"),
            "{outcome:?}"
        );
        ensure!(
            outcome.stderr.lines().count() == 1,
            "something was changed: {}",
            outcome.stderr
        );
        ensure!(
            lab.ping(dc.external(1))?.is_some(),
            "environment 1 does not answer any more"
        );
        lab.host().ip("link delete br3").map(drop)
    })
}

/// The kernel deletes whole groups; a foreign link in one of envnet's, even one that is a port of `brE`, has to survive.
#[test]
fn a_foreign_port_in_the_removal_group_survives() -> Result<()> {
    attached(|lab| {
        let host = lab.host();
        for group in [25966, 25967] {
            host.ip(&format!("link add other group {group} type veth peer name rehto"))?;
            host.ip("link set other master br1 up")?;
            lab.attach()?;
            ensure!(lab.envnet().changes("attach")? == 0, "attach again changed something");
            lab.detach()?;
            let link = host.ip("-details link show other").context("detach has removed it")?;
            // Its bridge is gone.
            ensure!(!link.contains("master"), "still a port: {link}");
            ensure!(link.contains(&format!("group {group}")), "another group: {link}");
            lab.attach()?;
            host.ip("link delete other")?;
        }
        Ok(())
    })
}

/// Pins and directories of others in the BPF filesystem, which envnet has mounted itself where nobody else had.
#[test]
fn pins_of_others_stay_and_keep_the_filesystem_mounted() -> Result<()> {
    attached(|lab| {
        let name = format!("foreign-{}", lab.host().name());
        let others = ["/sys/fs/bpf", "/sys/fs/bpf/envnet"].map(|directory| format!("{directory}/{name}"));
        for other in &others {
            fs::create_dir(other).with_context(|| other.clone())?;
        }
        lab.detach()?;
        for other in &others {
            ensure!(fs::exists(other)?, "detach has removed {other}");
            fs::remove_dir(other)?;
        }
        // Cleans up after this test: the detach that leaves nothing unmounts the filesystem.
        lab.attach().map(drop)
    })
}

/// Addresses that somebody gives to envnet's own links in the host go with the links, and not before.
#[test]
fn an_address_on_an_own_bridge_stays_until_the_bridge_goes() -> Result<()> {
    attached(|lab| {
        lab.host().ip("address add 10.0.0.250/24 dev br1")?;
        ensure!(lab.envnet().changes("attach")? == 0, "attach changed something");
        let addresses = lab.host().ip("-4 address show dev br1")?;
        ensure!(addresses.contains("10.0.0.250"), "it is gone: {addresses}");
        Ok(())
    })
}

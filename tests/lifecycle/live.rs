//! Changes while thousands of datagrams a second pass: what does not change loses none.

use std::time::Duration;

use anyhow::{Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{self, ROLES, Role},
    configuration::Vm,
    fixture::attached_with,
    interrupt,
    ping::ping,
};

use crate::flood::{Busy, with};

/// How long it may take until the outside has found everybody again.
const PATIENCE: Duration = Duration::from_secs(15);

/// A machine that comes and goes.
pub(crate) const THIRD: Role = Role {
    name: "third",
    number: 4,
    mac: "52:54:00:00:00:04",
};

/// That machine, whose Ethernet address may be said.
pub(crate) fn third(mac: Option<&str>) -> Vm {
    Vm {
        mac: mac.map(str::to_owned),
        ..THIRD.into()
    }
}

fn attach(lab: &Lab, configuration: Configuration) -> Result<()> {
    lab.configure(configuration)?;
    ensure!(lab.envnet().changes("attach")? > 0, "nothing was changed");
    Ok(())
}

fn what_does_not_change_loses_nothing(accelerate: &'static str) -> Result<()> {
    with(accelerate, |lab| {
        let [dc, _] = ROLES;
        let two = || Configuration::of(2).accelerate(accelerate);
        let busy = Busy::start(lab)?;
        busy.during("an environment is added", || {
            attach(lab, two().environments("1-3"))?;
            let guest = lab.guest(3, dc)?;
            ensure!(
                lab.ping(dc.external(3))?.is_some(),
                "no answer from the new environment"
            );
            ensure!(
                guest.ping(dc.external(1))?.is_some(),
                "no answer from the old environment"
            );
            Ok(())
        })?;
        busy.during("an environment is removed", || attach(lab, two()))?;
        busy.during("a machine is added to all environments", || {
            attach(lab, two().machine(third(None)))?;
            let _guest = lab.guest(1, THIRD)?;
            ensure!(lab.ping(THIRD.external(1))?.is_some(), "no answer from the new machine");
            Ok(())
        })?;
        for mac in [Some(THIRD.mac), Some("52:54:00:00:00:44"), None] {
            busy.during("another machine's Ethernet address is changed", || {
                lab.attach_as(two().machine(third(mac))).map(drop)
            })?;
        }
        busy.during("a machine is removed from all environments", || attach(lab, two()))?;
        busy.during("another environment is detached", || {
            ensure!(
                lab.envnet().changes("detach --environments 2")? > 0,
                "nothing was changed"
            );
            Ok(())
        })?;
        busy.during("another environment is attached", || {
            ensure!(
                lab.envnet().changes("attach --environments 2")? > 0,
                "nothing was changed"
            );
            Ok(())
        })?;
        busy.during("nothing is changed", || {
            ensure!(lab.envnet().changes("attach")? == 0, "something was changed");
            Ok(())
        })
    })
}

#[test]
fn what_does_not_change_loses_nothing_on_the_fast_path() -> Result<()> {
    what_does_not_change_loses_nothing("tc")
}

#[test]
fn what_does_not_change_loses_nothing_in_the_driver() -> Result<()> {
    what_does_not_change_loses_nothing("xdp")
}

#[test]
fn what_does_not_change_loses_nothing_on_the_slow_path() -> Result<()> {
    what_does_not_change_loses_nothing("off")
}

#[test]
fn switching_the_fast_path_loses_nothing() -> Result<()> {
    with("auto", |lab| {
        let busy = Busy::start(lab)?;
        for accelerate in ["off", "tc", "off", "auto"] {
            busy.during(accelerate, || attach(lab, Configuration::of(2).accelerate(accelerate)))?;
        }
        Ok(())
    })
}

#[test]
fn another_uplink_mode_is_a_matter_of_seconds() -> Result<()> {
    attached_with(Configuration::default().mode(Mode::Bridge), |lab| {
        // The outside forgets the routers' Ethernet addresses, which are others afterwards, as fast as it is told to.
        for (key, value) in [("base_reachable_time_ms", "500"), ("delay_first_probe_time", "1")] {
            lab.outside().set_sysctl(&format!("net/ipv4/neigh/eth0/{key}"), value)?;
        }
        let [dc, _] = ROLES;
        let guests = [lab.guest(1, dc)?, lab.guest(2, dc)?];
        let all_answer = || -> Result<()> {
            for (environment, guest) in (1..).zip(&guests) {
                for (from, target) in [
                    (lab.outside(), dc.external(environment)),
                    (guest.namespace(), addresses::UPSTREAM),
                ] {
                    interrupt::wait_for(&format!("an answer from {target}"), PATIENCE, || {
                        ping(from, target, 56, Duration::from_millis(500))
                    })?;
                }
            }
            Ok(())
        };
        all_answer()?;
        let bridge = lab.configuration();
        // A macvlan on the bridge itself: eth0 is the bridge's.
        let macvlan = bridge.clone().mode(Mode::Macvlan).uplink(Mode::Bridge.interface());
        for configuration in [macvlan, bridge] {
            attach(lab, configuration)?;
            all_answer()?;
        }
        Ok(())
    })
}

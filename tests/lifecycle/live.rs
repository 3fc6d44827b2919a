//! Changes while thousands of datagrams a second pass: what does not change loses none.

use std::time::Duration;

use anyhow::{Result, ensure};
use envnet_lab::{
    Lab, Options,
    addresses::{self, Mode, ROLES, Role},
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

/// The configuration with another machine, whose Ethernet address may be said.
pub(crate) fn with_third(configuration: &str, mac: Option<&str>) -> String {
    let (name, address) = (THIRD.name, THIRD.internal());
    let mac = mac.map_or_else(String::new, |mac| format!("mac = \"{mac}\"\n"));
    format!("{configuration}\n[[vm]]\nname = \"{name}\"\naddress = \"{address}\"\n{mac}")
}

fn attach(lab: &Lab, configuration: &str) -> Result<()> {
    lab.write_configuration(configuration)?;
    ensure!(lab.envnet().changes("attach")? > 0, "nothing was changed");
    Ok(())
}

fn what_does_not_change_loses_nothing(accelerate: &'static str) -> Result<()> {
    with(accelerate, |lab| {
        let [dc, _] = ROLES;
        let configuration = |environments| {
            let text = addresses::configuration(environments, Mode::Macvlan);
            addresses::accelerated(&text, accelerate)
        };
        let two = configuration(2);
        let busy = Busy::start(lab)?;
        busy.during("an environment is added", || {
            attach(lab, &configuration(3))?;
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
        busy.during("an environment is removed", || attach(lab, &two))?;
        busy.during("a machine is added to all environments", || {
            attach(lab, &with_third(&two, None))?;
            let _guest = lab.guest(1, THIRD)?;
            ensure!(lab.ping(THIRD.external(1))?.is_some(), "no answer from the new machine");
            Ok(())
        })?;
        for mac in [Some(THIRD.mac), Some("52:54:00:00:00:44"), None] {
            busy.during("another machine's Ethernet address is changed", || {
                lab.write_configuration(&with_third(&two, mac))?;
                lab.attach().map(drop)
            })?;
        }
        busy.during("a machine is removed from all environments", || attach(lab, &two))?;
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
        let text = addresses::configuration(2, Mode::Macvlan);
        for accelerate in ["off", "tc", "off", "auto"] {
            busy.during(accelerate, || attach(lab, &addresses::accelerated(&text, accelerate)))?;
        }
        Ok(())
    })
}

#[test]
fn another_uplink_mode_is_a_matter_of_seconds() -> Result<()> {
    let options = Options {
        mode: Mode::Bridge,
        ..Options::default()
    };
    attached_with(options, |lab| {
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
        let bridge = addresses::configuration(2, Mode::Bridge);
        // A macvlan on the bridge itself: eth0 is the bridge's.
        let macvlan = bridge.replace("mode = \"bridge\"", "mode = \"macvlan\"");
        for configuration in [macvlan, bridge] {
            attach(lab, &configuration)?;
            all_answer()?;
        }
        Ok(())
    })
}

//! Somebody has removed pins of maps, so that not all of what the maps hold can be read: whoever runs goes on running.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_common::maps;
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::ROLES,
    cable::Cable,
    counters::{Counters, counters},
    fixture::{attached_with, refused},
    guest::Guest,
    interrupt,
};

use crate::{
    partial::left,
    sweep::{Ended, Fault, Sweep},
};

const ENVIRONMENTS: u8 = 3;
/// How many steps a test takes unless it is told to take more.
const CASES: usize = 10;
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a test in a laboratory with three attached environments.
fn attached(mode: Mode, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    attached_with(Configuration::of(ENVIRONMENTS).mode(mode), test)
}

fn maps_of(lab: &Lab) -> PathBuf {
    let instance = format!("netns-{}", lab.host().name());
    let maps = format!("maps-v{}", maps::LAYOUT_VERSION);
    Path::new("/sys/fs/bpf/envnet").join(instance).join(maps)
}

fn remove_pin(lab: &Lab, map: &str) -> Result<()> {
    fs::remove_file(maps_of(lab).join(map)).with_context(|| format!("the pin of {map}"))
}

fn pinned_maps(lab: &Lab) -> Result<BTreeSet<OsString>> {
    let pins = fs::read_dir(maps_of(lab))?;
    pins.map(|pin| Ok(pin?.file_name())).collect()
}

/// One guest in each environment.
fn guests(lab: &Lab) -> Result<Vec<Guest>> {
    let [dc, _] = ROLES;
    (1..=ENVIRONMENTS)
        .map(|environment| lab.guest(environment, dc))
        .collect()
}

/// Fails unless the outside reaches the guest of every environment.
fn all_answer(lab: &Lab) -> Result<()> {
    let [dc, _] = ROLES;
    (1..=ENVIRONMENTS).try_for_each(|environment| {
        let what = format!("an answer from environment {environment}");
        interrupt::wait_for(&what, PATIENCE, || lab.ping(dc.external(environment))).map(drop)
    })
}

/// Fails if something that was counted is not any more.
fn ensure_counted(before: &Counters, now: &Counters) -> Result<()> {
    for (key, before) in before {
        let now = now.get(key).with_context(|| format!("no counters of {key:?}"))?;
        ensure!(
            before.iter().zip(now).all(|(before, now)| before <= now),
            "the counters of {key:?} went from {before:?} to {now:?}"
        );
    }
    Ok(())
}

#[test]
fn an_attach_without_a_pin_that_fails_at_any_call_disturbs_nobody() -> Result<()> {
    for mode in [Mode::Macvlan, Mode::Bridge] {
        attached(mode, |lab| {
            let guests = RefCell::new(guests(lab)?);
            let before = RefCell::default();
            let sweep = Sweep {
                lab,
                command: "attach",
                what: format!("attach without the pin of a map in {mode:?} mode"),
                cases: CASES,
            };
            let prepare = |lab: &Lab| {
                lab.attach()?;
                // After a case that has failed everything was detached.
                for guest in &mut *guests.borrow_mut() {
                    if guest.cable().is_none_or(Cable::is_broken) {
                        guest.plug(lab.host())?;
                    }
                }
                all_answer(lab)?;
                *before.borrow_mut() = counters(&lab.status()?)?;
                remove_pin(lab, maps::SETTINGS)
            };
            sweep.run(Fault::Fail, prepare, |case| {
                let ended = case.ended()?;
                all_answer(lab).context("after the fault")?;
                ensure!(ended != Ended::Halfway, "it could have been rolled back");
                case.repair()?;
                all_answer(lab).context("after the next attach")?;
                ensure_counted(&before.borrow(), &counters(&lab.status()?)?)
            })
        })?;
    }
    Ok(())
}

#[test]
fn a_part_is_not_detached_without_a_pin() -> Result<()> {
    attached(Mode::Macvlan, |lab| {
        let _guests = guests(lab)?;
        all_answer(lab)?;
        // The kernel's link watch takes up to a second to say that a link is up.
        interrupt::sleep(Duration::from_millis(1500))?;
        for map in [maps::SETTINGS, maps::FDB] {
            let before = counters(&lab.status()?)?;
            remove_pin(lab, map)?;
            let pinned = pinned_maps(lab)?;
            refused(lab, 1, &[" attach`"], || lab.envnet().run("detach --environments 2")).context(map)?;
            ensure!(pinned_maps(lab)? == pinned, "{map}: the pins are others");
            all_answer(lab).with_context(|| format!("without {map}"))?;
            lab.attach()?;
            ensure!(lab.envnet().changes("attach")? == 0, "{map} was not mended at once");
            all_answer(lab).with_context(|| format!("with {map} again"))?;
            ensure_counted(&before, &counters(&lab.status()?)?).context(map)?;
        }
        ensure!(
            lab.envnet().changes("detach --environments 2")? > 0,
            "nothing was detached"
        );
        Ok(())
    })
}

#[test]
fn what_goes_without_pins_does_not_come_back() -> Result<()> {
    let pairs: [&[&str]; 2] = [&[maps::MAPPINGS, maps::ENVIRONMENTS], &[maps::COUNTERS, maps::SETTINGS]];
    attached(Mode::Macvlan, |lab| {
        let [dc, _] = ROLES;
        let whole = lab.configuration();
        let _others = [lab.guest(1, dc)?, lab.guest(3, dc)?];
        for maps in pairs {
            let guest = lab.guest(2, dc)?;
            all_answer(lab)?;
            drop(guest);
            let of_second = || -> Result<u64> {
                let counters = counters(&lab.status()?)?;
                let all = counters.get(&(2, dc.internal())).context("no counters")?;
                Ok(all.iter().sum())
            };
            ensure!(of_second()? > 0, "nothing was counted");
            maps.iter().try_for_each(|map| remove_pin(lab, map))?;
            lab.attach_as(whole.clone().environments("1,3"))?;
            let kept = left(lab, 2, None)?;
            ensure!(kept.is_empty(), "without {maps:?}, left of environment 2: {kept:?}");
            lab.attach_as(whole.clone())?;
            let counted = of_second()?;
            ensure!(counted == 0, "without {maps:?}, the counters start from {counted}");
        }
        Ok(())
    })
}

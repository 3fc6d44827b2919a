//! A fault at every step: `envnet` is killed there, or told that the step failed. The next `attach` makes everything right,
//! the next `detach` leaves the host as it was.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab, Options,
    fixture::{attached, converged, detached_with, restored},
    pings::Pings,
    plan::{self, Mode, ROLES},
    snapshot,
};

use crate::sweep::{Case, Ended, Fault, Sweep};

/// How many steps a test takes of each kind of fabric, and of each change, unless it is told to take more.
const OF_FABRIC: usize = 24;
const OF_CHANGE: usize = 12;

#[test]
fn an_attach_killed_at_any_step_is_repaired_or_cleaned_up() -> Result<()> {
    each_fabric("attach", Fault::Kill, |_| Ok(()), |_, _| Ok(()))
}

#[test]
fn a_detach_killed_at_any_step_is_repaired_or_cleaned_up() -> Result<()> {
    each_fabric("detach", Fault::Kill, attach, |_, _| Ok(()))
}

#[test]
fn an_attach_that_fails_at_any_call_is_taken_back() -> Result<()> {
    let nothing = |_: &Lab| Ok(());
    each_fabric("attach", Fault::Fail, nothing, |case, before| match case.ended()? {
        Ended::Done => case.ensure_unchanging(),
        Ended::TakenBack => restored(case.lab, before),
        Ended::Halfway => Ok(()),
    })
}

#[test]
fn a_detach_that_fails_at_any_call_says_so() -> Result<()> {
    each_fabric("detach", Fault::Fail, attach, |case, before| {
        if case.ended()? == Ended::Done {
            restored(case.lab, before)?;
        }
        Ok(())
    })
}

fn attach(lab: &Lab) -> Result<()> {
    lab.attach().map(drop)
}

/// Runs a command with faults where one environment with two machines is to be, once for each kind of fabric. `test` looks
/// at what each fault has left, and is told what the host looks like without envnet; in the end everything is removed.
fn each_fabric(
    command: &str,
    fault: Fault,
    prepare: impl Fn(&Lab) -> Result<()>,
    test: impl Fn(&Case<'_>, &str) -> Result<()>,
) -> Result<()> {
    for mode in [Mode::Macvlan, Mode::Bridge] {
        let options = Options {
            environments: 1,
            mode,
            accelerate: Some("tc"),
            ..Options::default()
        };
        detached_with(options, |lab| {
            let before = snapshot::of_host(lab)?;
            let sweep = Sweep {
                lab,
                command,
                what: format!("{command} in {mode:?} mode"),
                cases: OF_FABRIC,
            };
            sweep.run(fault, &prepare, |case| {
                test(case, &before)?;
                // Half of what is left is repaired, the other half removed as it is.
                if case.is_one_of(8) {
                    converged(lab)?;
                } else if case.is_one_of(2) {
                    case.repair()?;
                }
                lab.detach()?;
                restored(lab, &before)
            })
        })?;
    }
    Ok(())
}

/// A change of the configuration of two environments.
struct Change {
    what: &'static str,
    configuration: fn() -> String,
}

const CHANGES: [Change; 3] = [
    Change {
        what: "adding an environment",
        configuration: || plan::configuration(3, Mode::Macvlan),
    },
    Change {
        what: "removing an environment",
        configuration: || plan::configuration(1, Mode::Macvlan),
    },
    Change {
        what: "removing a machine",
        configuration: || {
            let configuration = plan::configuration(2, Mode::Macvlan);
            let last = configuration.rfind("\n[[vm]]").unwrap_or(configuration.len());
            configuration[..last].to_owned()
        },
    },
];

#[test]
fn a_change_killed_at_any_step_leaves_the_rest_at_work() -> Result<()> {
    each_change(Fault::Kill)
}

#[test]
fn a_change_that_fails_at_any_call_leaves_the_rest_at_work() -> Result<()> {
    each_change(Fault::Fail)
}

/// Runs every change with faults, while a machine that none of them is about is pinged without pause and must not miss a
/// packet.
fn each_change(fault: Fault) -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let old = plan::configuration(2, Mode::Macvlan);
        for Change { what, configuration } in CHANGES {
            let sweep = Sweep {
                lab,
                command: "attach",
                what: what.to_owned(),
                cases: OF_CHANGE,
            };
            let prepare = |lab: &Lab| {
                lab.write_configuration(&old)?;
                lab.attach()?;
                lab.write_configuration(&configuration())
            };
            let pings = Pings::start(lab.outside(), dc.external(1), Duration::from_millis(10))?;
            let ends = RefCell::new(Vec::new());
            sweep.run(fault, prepare, |case| {
                ends.borrow_mut().push((Instant::now(), case.to_string()));
                if fault == Fault::Fail && case.ended()? == Ended::TakenBack {
                    lab.write_configuration(&old)?;
                    case.ensure_unchanging()?;
                    lab.write_configuration(&configuration())?;
                }
                if case.is_one_of(2) {
                    case.repair()?;
                }
                lab.write_configuration(&old)?;
                case.repair()
            })?;
            let course = pings.end()?;
            let (lost, sent) = (course.lost(), course.sent.len());
            let gaps = course.answered.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
            let (longest, end) = gaps.max().context("no answer at all")?;
            let ends = ends.into_inner();
            let about = ends.iter().find(|(moment, _)| *moment >= end).or(ends.last());
            ensure!(
                lost == 0,
                "{what}: the guest missed {lost} of {sent} packets; the longest time without an answer was {longest:?}, about\n{}",
                about.map_or("", |(_, case)| case)
            );
        }
        Ok(())
    })
}

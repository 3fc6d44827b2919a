//! A fault at every step: `envnet` is killed there, or told that the step failed. The next `attach` makes everything right,
//! the next `detach` leaves the host as it was.

use anyhow::{Result, bail};
use envnet_lab::{
    Configuration, Lab,
    fixture::{attached, converged, detached_each_mode, restored},
};

use crate::{
    flood::Busy,
    live::third,
    sweep::{Case, Ended, Fault, Sweep},
};

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
        Ended::Halfway => bail!("it could have been rolled back"),
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
    detached_each_mode(|lab, mode, before| {
        let sweep = Sweep {
            lab,
            command,
            what: format!("{command} in {mode:?} mode"),
            cases: OF_FABRIC,
        };
        sweep.run(fault, &prepare, |case| {
            test(case, before)?;
            // Half of what is left is repaired, the other half removed as it is.
            if case.is_one_of(8) {
                converged(lab)?;
            } else if case.is_one_of(2) {
                case.repair()?;
            }
            lab.detach()?;
            restored(lab, before)
        })
    })
}

/// A change of the configuration of two environments with three machines.
struct Change {
    what: &'static str,
    configuration: fn() -> Configuration,
}

const CHANGES: [Change; 3] = [
    Change {
        what: "adding an environment",
        configuration: || Configuration::of(3).machine(third(None)),
    },
    Change {
        what: "removing an environment",
        configuration: || Configuration::of(1).machine(third(None)),
    },
    Change {
        what: "removing a machine",
        configuration: || Configuration::of(2),
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

/// Runs every change with faults, while datagrams flow to, from and between machines that none of them is about, of which
/// none may be missing.
fn each_change(fault: Fault) -> Result<()> {
    attached(|lab| {
        let old = || Configuration::of(2).machine(third(None));
        let busy = Busy::start(lab)?;
        for Change { what, configuration } in CHANGES {
            let sweep = Sweep {
                lab,
                command: "attach",
                what: what.to_owned(),
                cases: OF_CHANGE,
            };
            let prepare = |lab: &Lab| {
                lab.attach_as(old())?;
                // After a case that has failed.
                busy.resume()?;
                lab.configure(configuration())
            };
            sweep.run(fault, prepare, |case| {
                if fault == Fault::Fail && case.ended()? == Ended::TakenBack {
                    lab.configure(old())?;
                    case.ensure_unchanging()?;
                    lab.configure(configuration())?;
                }
                if case.is_one_of(2) {
                    case.repair()?;
                }
                lab.configure(old())?;
                busy.during("the fault, or what came of it", || case.repair())
            })?;
        }
        Ok(())
    })
}

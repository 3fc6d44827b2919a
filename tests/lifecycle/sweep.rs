//! Runs of one command, each with a fault at another of its steps.
//!
//! A test takes as many of the steps as it has time for, others every day. `ENVNET_LAB_EVERY=1` takes all.

use std::{
    env, fmt,
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::{
    Lab,
    envnet::Outcome,
    faults::{self, Course, Effect, Kind},
    interrupt,
};
use nix::errno::Errno;

/// What the kernel says when a call fails on purpose.
const ERRORS: [Errno; 3] = [Errno::EIO, Errno::ENOMEM, Errno::EBUSY];
/// After so many failures a test gives up.
const MOST_FAILURES: usize = 10;

/// What happens at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The command is killed before a change, and so after the one before it.
    Kill,
    /// A change or a question fails.
    Fail,
}

impl Fault {
    /// Which calls are its steps.
    fn among(self) -> Kind {
        match self {
            Self::Kill => Kind::Change,
            Self::Fail => Kind::Question,
        }
    }

    fn at(self, step: usize) -> Effect {
        match self {
            Self::Kill => Effect::Kill,
            Self::Fail => Effect::Fail(ERRORS[step % ERRORS.len()]),
        }
    }
}

/// Runs of a command in one laboratory, each with a fault at another step.
pub(crate) struct Sweep<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) command: &'a str,
    /// What is done, for people.
    pub(crate) what: String,
    /// How many steps are taken unless all are.
    pub(crate) cases: usize,
}

/// One of these runs, after the fault.
pub(crate) struct Case<'a> {
    pub(crate) lab: &'a Lab,
    course: &'a Course,
    number: usize,
}

/// How a command says that it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    TakenBack,
    Halfway,
}

impl Sweep<'_> {
    /// Counts the steps of the command, then runs it with a fault at every step, or at as many as there is time for. Each
    /// time, `prepare` makes what the command finds, and `test` looks at what it leaves.
    pub(crate) fn run(
        &self,
        fault: Fault,
        prepare: impl Fn(&Lab) -> Result<()>,
        test: impl Fn(&Case<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self { lab, command, what, .. } = self;
        prepare(lab)?;
        let whole = faults::count(lab.envnet(), command)?;
        ensure!(whole.outcome.status == Some(0), "{what}: {}", whole.outcome.stderr);
        let case = Case {
            lab,
            course: &whole,
            number: 0,
        };
        test(&case).with_context(|| format!("{what} without a fault"))?;
        let steps = whole.count(fault.among());
        let (every, first) = self.points(steps)?;
        // Not by `println`, whose output is shown for failed tests only.
        writeln!(
            io::stderr(),
            "{what}, {fault:?}: {steps} steps, {} of them changes; every {every}. from {first} on (ENVNET_LAB_EVERY=1 for all)",
            whole.count(Kind::Change)
        )?;
        let mut failures = Vec::new();
        for (number, step) in (first..steps).step_by(every).enumerate() {
            interrupt::check()?;
            if let Err(error) = prepare(lab) {
                failures.push(format!("{what}: before step {step}\n{error:#}"));
                break;
            }
            let effect = fault.at(step);
            let course = faults::strike(lab.envnet(), command, fault.among(), step, effect)?;
            let case = Case {
                lab,
                course: &course,
                number: number + day()?,
            };
            if let Err(error) = test(&case) {
                failures.push(format!(
                    "{what}, {effect:?} at step {step} of {steps}, {case}\n{error:#}"
                ));
                ensure!(failures.len() < MOST_FAILURES, "{}", failures.join("\n\n"));
                lab.detach()?;
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
        Ok(())
    }

    /// Every how many steps, and from which on.
    fn points(&self, steps: usize) -> Result<(usize, usize)> {
        let every = match env::var("ENVNET_LAB_EVERY") {
            Ok(every) => every.parse().context("ENVNET_LAB_EVERY is a number")?,
            Err(_) => steps.div_ceil(self.cases),
        };
        let every = every.max(1);
        Ok((every, day()? % every))
    }
}

/// Days since 1970.
fn day() -> Result<usize> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(usize::try_from(now.as_secs() / (24 * 60 * 60))?)
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { status, stdout, stderr } = &self.course.outcome;
        write!(f, "ended with {status:?}: {stdout}{stderr}\n{}", self.course.log())
    }
}

impl Case<'_> {
    /// How the command says that it has ended; an error when that is unclear.
    pub(crate) fn ended(&self) -> Result<Ended> {
        let outcome = &self.course.outcome;
        match outcome.status {
            Some(0) => return Ok(Ended::Done),
            Some(1) => {}
            status => bail!("it ended with {status:?}"),
        }
        let message = outcome.stderr.strip_prefix("envnet: ");
        ensure!(
            message.is_some_and(|message| !message.trim().is_empty()),
            "no clear message"
        );
        Ok(if outcome.stderr.contains("not everything could be rolled back") {
            Ended::Halfway
        } else {
            Ended::TakenBack
        })
    }

    /// Whether this is one case of so many, other ones every day.
    pub(crate) fn is_one_of(&self, cases: usize) -> bool {
        self.number.is_multiple_of(cases)
    }

    /// Attaches, and leaves nothing to change for the next.
    pub(crate) fn repair(&self) -> Result<()> {
        self.lab.attach()?;
        self.ensure_unchanging()
    }

    /// Fails if there is anything to change.
    pub(crate) fn ensure_unchanging(&self) -> Result<()> {
        let changes = self.lab.envnet().changes("attach")?;
        ensure!(changes == 0, "there were {changes} changes to be made");
        Ok(())
    }
}

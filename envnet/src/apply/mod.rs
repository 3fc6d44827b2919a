//! Carries a plan out, and rolls it back when a step fails.
//!
//! Environments are worked on at the same time, in stages: each waits until the one before it is done.

mod error;
mod links;
mod maps;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};

pub use self::error::ApplyError;
use self::worker::Worker;
use crate::{
    kernel::{Error, Explain as _, Result, netns::Netns, programs::Hook},
    names::Instance,
    parallel::{self, Concurrency},
    plan::{Action, Change},
    progress::Progress,
};

/// What changes are applied to.
pub struct Applier<'a> {
    host: &'a Netns,
    instance: &'a Instance,
    hook: Option<Hook>,
    progress: &'a Progress,
}

/// Changes one after another, and how far they came.
struct Sequence<'a> {
    changes: &'a [Change],
    /// How many there is something of to roll back.
    begun: usize,
    /// Why the next one failed.
    error: Option<String>,
}

impl<'a> Applier<'a> {
    /// Prepares to change a host; `hook` says how programs are attached if not in the best way.
    #[must_use]
    pub const fn new(host: &'a Netns, instance: &'a Instance, hook: Option<Hook>, progress: &'a Progress) -> Self {
        Self {
            host,
            instance,
            hook,
            progress,
        }
    }

    /// Applies changes. When one fails, those before it are rolled back, last first, and the error says what could not be.
    pub fn apply_all(&self, changes: &[Change]) -> Result<(), ApplyError> {
        let mut done = Vec::new();
        for stage in stages(changes) {
            let mut sequences = self.run(stage)?;
            let failed: Vec<String> = sequences
                .iter_mut()
                .filter_map(|sequence| sequence.error.take())
                .collect();
            done.push(sequences);
            if !failed.is_empty() {
                let left = self.take_back(done)?;
                return Err(if left.is_empty() {
                    ApplyError::RolledBack(failed)
                } else {
                    ApplyError::PartlyRolledBack { failed, left }
                });
            }
        }
        Ok(())
    }

    /// Runs a stage; after an error nothing is begun any more.
    fn run<'c>(&self, stage: &'c [Change]) -> Result<Vec<Sequence<'c>>> {
        let failed = AtomicBool::new(false);
        self.each(
            concurrency(stage),
            sequences(stage).collect(),
            async |worker, changes: &'c [Change]| {
                let mut sequence = Sequence {
                    changes,
                    begun: 0,
                    error: None,
                };
                for change in changes {
                    if failed.load(Ordering::Relaxed) {
                        break;
                    }
                    log::debug!("{change}");
                    if let Err(error) = worker.apply(change).await {
                        failed.store(true, Ordering::Relaxed);
                        sequence.begun += usize::from(!is_one_request(change));
                        sequence.error = Some(message(change, &error));
                        break;
                    }
                    sequence.begun += 1;
                    self.progress.step();
                }
                sequence
            },
        )
    }

    /// Applies every change that can be, and reports every error.
    pub fn apply_best_effort(&self, changes: &[Change]) -> Result<(), ApplyError> {
        let mut failed = Vec::new();
        for stage in stages(changes) {
            let errors = self.each(
                concurrency(stage),
                sequences(stage).collect(),
                async |worker, changes: &[Change]| {
                    let mut errors = Vec::new();
                    for change in changes {
                        log::debug!("{change}");
                        if let Err(error) = worker.apply(change).await {
                            errors.push(message(change, &error));
                        }
                        self.progress.step();
                    }
                    errors
                },
            )?;
            failed.extend(errors.into_iter().flatten());
        }
        if failed.is_empty() {
            return Ok(());
        }
        let steps = changes.len();
        Err(ApplyError::Incomplete { failed, steps })
    }

    fn take_back(&self, done: Vec<Vec<Sequence<'_>>>) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for stage in done.into_iter().rev() {
            let begun = stage
                .into_iter()
                .rev()
                .map(|sequence| &sequence.changes[..sequence.begun]);
            let left_here = self.each(
                Concurrency::Waiting,
                begun.collect(),
                async |worker, changes: &[Change]| {
                    let mut left = Vec::new();
                    for change in changes.iter().rev() {
                        let Some(inverse) = change.inverse() else {
                            left.extend(change.irreversible().map(|why| format!("{}: {why}", describe(change))));
                            continue;
                        };
                        log::debug!("rolling back: {inverse}");
                        if let Err(error) = worker.apply(&inverse).await {
                            left.push(message(&inverse, &error));
                        }
                    }
                    left
                },
            );
            left.extend(
                left_here
                    .explain(|| "cannot roll back what was done")?
                    .into_iter()
                    .flatten(),
            );
        }
        Ok(left)
    }

    fn each<I: Send, R: Send>(
        &self,
        concurrency: Concurrency,
        items: Vec<I>,
        work: impl AsyncFn(&mut Worker<'a>, I) -> R + Sync,
    ) -> Result<Vec<R>> {
        parallel::each(
            concurrency,
            items,
            || Worker::new(self.host, self.instance, self.hook),
            work,
        )
    }
}

/// Changes of which those of different environments do not depend on each other.
fn stages(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    changes.chunk_by(|a, b| a.phase == b.phase)
}

/// The changes of a stage that have to be made one after another.
fn sequences(stage: &[Change]) -> impl Iterator<Item = &[Change]> {
    stage.chunk_by(|a, b| a.environment == b.environment)
}

/// Deleting a link is mostly waiting until the kernel is done with its packets.
fn concurrency(stage: &[Change]) -> Concurrency {
    if stage
        .iter()
        .any(|change| matches!(change.action, Action::DeleteLink { .. }))
    {
        Concurrency::Waiting
    } else {
        Concurrency::Working
    }
}

/// Whether a change is done as a whole or not at all. Of others something may be there, or gone, although they have failed.
fn is_one_request(change: &Change) -> bool {
    matches!(
        change.action,
        Action::DeleteLink { .. }
            | Action::AddAddress { .. }
            | Action::DeleteAddress { .. }
            | Action::AddRoute(_)
            | Action::DeleteRoute(_)
    )
}

fn message(change: &Change, error: &Error) -> String {
    format!("{}: {}", describe(change), error.with_causes())
}

fn describe(change: &Change) -> String {
    match change.environment {
        Some(environment) => format!("environment {environment}: {change}"),
        None => change.to_string(),
    }
}

//! The difference between what is wanted and what is there: pure, and the only place that decides anything.
//!
//! The order within an environment is what keeps untranslated packets in: the programs are attached and their maps filled
//! before `gwE` comes up, and `gwE` is the first thing to go.

mod change;
mod fast;
mod make;
mod remove;

pub use self::{
    change::{Action, Attribute, Change},
    remove::{detach, remove_environment},
};
use crate::{desired::Wanted, names::Instance, observe::Observed};

/// Why a plan cannot be made: something that is not envnet's is in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A link.
    #[error("link {name} exists and is not envnet's; rename or remove it, or leave environment {environment} out")]
    Link {
        /// Its name.
        name: String,
        /// The environment that wants the name.
        environment: u32,
    },
    /// A network namespace.
    #[error(
        "network namespace {name} exists and is not envnet's; rename or remove it, or leave environment {environment} out"
    )]
    Namespace {
        /// Its name.
        name: String,
        /// The environment that wants the name.
        environment: u32,
    },
}

/// Plans what `attach` has to do; refused before anything is changed when something foreign is in the way.
pub fn attach(wanted: &Wanted, observed: &Observed, instance: &Instance) -> Result<Vec<Change>, Conflict> {
    let mut changes = Vec::new();
    if !observed.programs_loaded {
        changes.push(Change {
            environment: None,
            action: Action::LoadPrograms {
                first: !observed.pinned && remove::present(observed, instance).is_empty(),
            },
        });
    }
    changes.extend(fast::before(wanted, observed));
    for environment in wanted.environments.values() {
        changes.extend(make::make(environment, observed, instance)?);
    }
    changes.extend(fast::after(wanted.uplink.as_ref(), observed));
    if !observed.programs_loaded && observed.pinned {
        changes.push(Change {
            environment: None,
            action: Action::ForgetOtherPrograms,
        });
    }
    // Removals come last: they cannot be taken back, and by now everything else has worked.
    for number in remove::present(observed, instance).difference(&wanted.environments.keys().copied().collect()) {
        let removal = remove_environment(*number, observed, instance);
        // The fast path has left already, and its addresses may be another environment's by now.
        changes.extend(
            removal
                .into_iter()
                .filter(|change| !matches!(change.action, Action::RemoveEndpoints(_))),
        );
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;

//! The difference between what is wanted and what is there: pure, and the only place that decides anything.
//!
//! The order within an environment is what keeps untranslated packets in: the programs are attached and their maps filled
//! before `gwE` comes up, and `gwE` is the first thing to go.

mod change;
mod fast;
mod make;
mod remove;

pub use self::{
    change::{Action, Attribute, Change, OwnLink, Phase},
    remove::detach,
};
use crate::{desired::Wanted, inventory::Inventory, names::Instance, observe::Observed};

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
///
/// Which changes may be made at the same time, [`Phase`] says.
pub fn attach(wanted: &Wanted, observed: &Observed, instance: &Instance) -> Result<Vec<Change>, Conflict> {
    let inventory = Inventory::new(observed, instance);
    let present = inventory.environments();
    let mut changes = Vec::new();
    if !observed.programs_loaded {
        changes.extend(fast::shared(vec![Action::LoadPrograms {
            first: !observed.pinned && present.is_empty(),
        }]));
    }
    changes.extend(fast::before(wanted, observed));
    // All links first. The kernel is ready for filters on one some time after it was made, and until then it would stop
    // everybody else's changes while it waits.
    let (mut links, mut rest) = (Vec::new(), Vec::new());
    for environment in wanted.environments.values() {
        let plan = make::make(environment, &inventory)?;
        links.extend(plan.0);
        rest.extend(plan.1);
    }
    changes.extend(links);
    changes.extend(rest);
    changes.extend(fast::after(wanted.uplink.as_ref(), observed));
    if !observed.programs_loaded && observed.pinned {
        changes.extend(fast::shared(vec![Action::ForgetOtherPrograms]));
    }
    // Removals come last: they cannot be taken back, and by now everything else has worked.
    let surplus: Vec<u32> = present
        .into_iter()
        .filter(|number| !wanted.environments.contains_key(number))
        .collect();
    let removal = remove::environments(&surplus, &inventory);
    changes.extend(
        removal
            .into_iter()
            // The fast path has left already, and its addresses may be another environment's by now.
            .filter(|change| !matches!(change.action, Action::RemoveEndpoints(_))),
    );
    changes.extend(remove::from_maps(&surplus, observed));
    Ok(changes)
}

#[cfg(test)]
mod tests;

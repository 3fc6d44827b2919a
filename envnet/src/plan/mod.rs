//! The difference between what is desired and what is there, as a pure function. It decides all but which programs of an attach
//! point are in place: `Worker::attach_programs` compares these with the kernel once more when it attaches them.
//!
//! The order within an environment is what keeps untranslated packets in: the programs are attached and their maps filled
//! before `gwE` comes up, and `gwE` is the first thing to go.

mod change;
mod conflict;
mod describe;
mod fast;
mod make;
mod map_entry;
mod remove;
mod router;

pub use self::{
    change::{Action, Attribute, Change, OwnLink, Phase},
    conflict::Conflict,
    map_entry::{MapEntry, MapKeys},
    remove::{detach, detach_selection},
};
use std::collections::BTreeSet;

use crate::{
    desired::Desired, names::Instance, observe::Observed, observed_index::ObservedIndex, topology::AttachPoint,
};

/// What becomes of environments that are there but not desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are removed.
    Prune,
    /// They are left exactly as they are.
    Keep,
}

/// Plans what `attach` has to do; refused before anything is changed when something foreign is in the way.
///
/// Which changes may be made at the same time, [`Phase`] says.
pub fn attach(
    desired: &Desired,
    observed: &Observed,
    instance: &Instance,
    others: Others,
) -> Result<Vec<Change>, Conflict> {
    let known = ObservedIndex::new(observed, instance);
    let present = known.environments();
    let surplus: Vec<u32> = present
        .iter()
        .filter(|number| !desired.environments.contains_key(number))
        .copied()
        .collect();
    conflict::with_maps(observed)?;
    // What all share may be changed when nobody else is there.
    let others = if surplus.is_empty() { Others::Prune } else { others };
    if others == Others::Keep {
        conflict::with_others(desired, observed, &surplus)?;
    }
    let mut changes = Vec::new();
    if !observed.pins.programs_loaded() {
        changes.extend(fast::shared(vec![Action::LoadPrograms {
            first: !observed.pins.is_present() && present.is_empty(),
        }]));
    }
    changes.extend(fast::before(desired, observed));
    // All links first. The kernel is ready for filters on one some time after it was made, and until then it would stop
    // everybody else's changes while it waits.
    let (mut links, mut rest) = (Vec::new(), Vec::new());
    for environment in desired.environments.values() {
        let plan = make::make(environment, &known)?;
        links.extend(plan.0);
        rest.extend(plan.1);
    }
    changes.extend(links);
    changes.extend(rest);
    changes.extend(fast::after(desired, observed, others));
    if others == Others::Keep {
        return Ok(changes);
    }
    if observed.pins.other_builds().is_some() {
        changes.extend(fast::shared(vec![Action::ForgetOtherPrograms]));
    }
    if !observed.stale_pins.is_empty() {
        changes.extend(fast::shared(vec![Action::RemoveStalePins(observed.stale_pins.clone())]));
    }
    // Removals come last: they cannot be rolled back, and by now everything else has worked.
    let removal = remove::environments(&surplus, &known);
    changes.extend(
        removal
            .into_iter()
            // They are gone already, or are another environment's by now.
            .filter(|change| !matches!(change.action, Action::Delete(MapKeys::Endpoints(_)))),
    );
    changes.extend(remove::from_maps(&surplus, observed));
    Ok(changes)
}

/// The environments of which anything at all is there.
#[must_use]
pub fn present(observed: &Observed, instance: &Instance) -> BTreeSet<u32> {
    ObservedIndex::new(observed, instance).environments()
}

/// The environments that are not what they should be, when these are the changes that `attach` would make. That somebody
/// has plugged a port into a bridge, or taken it away, is no damage.
#[must_use]
pub fn damaged(desired: &Desired, changes: &[Change]) -> BTreeSet<u32> {
    let mut damaged = BTreeSet::new();
    for change in changes {
        match &change.action {
            Action::AttachPrograms { point, .. } | Action::DetachPrograms { point, .. }
                if *point == AttachPoint::ForeignPort => {}
            Action::Put {
                new: MapEntry::Port(port),
                ..
            } if port.point == AttachPoint::ForeignPort => {}
            Action::Delete(MapKeys::Port(_) | MapKeys::Ports(_)) => {}
            Action::SetLink {
                name,
                new: Attribute::GroupForwarding(_),
                ..
            } if !desired.makes(name) => {}
            // All environments need what they share, but not what is shared by those that go.
            Action::LoadPrograms { .. }
            | Action::Put {
                new: MapEntry::Uplink(_),
                ..
            }
            | Action::AttachPrograms { .. }
            | Action::DetachPrograms { .. }
                if change.environment.is_none() =>
            {
                damaged.extend(desired.environments.keys());
            }
            _ => damaged.extend(change.environment),
        }
    }
    damaged.retain(|number| desired.environments.contains_key(number));
    damaged
}

#[cfg(test)]
mod tests;

//! How many guests there can be: limits of the kernel's bridges and of the programs' maps.

use envnet_common::maps::{MAX_ENVIRONMENTS, MAX_MAPPINGS, MAX_PORTS, MAX_TAPS};

use super::{Vm, check::problem, error::Problem, file};

/// Most guests of an environment. A bridge of the kernel has up to 1,023 ports (`BR_MAX_PORTS`, of which it does not give out the
/// first), and one is the router's.
const MAX_GUESTS: usize = 1022;

/// So many taps, and so many environments, fill no other map: an environment has a mapping and two or three ports besides those
/// of its guests.
const _: () = assert!(MAX_TAPS + MAX_ENVIRONMENTS <= MAX_MAPPINGS && MAX_TAPS + 3 * MAX_ENVIRONMENTS <= MAX_PORTS);

/// Refuses more than fits, so that `attach` does not find out half way.
pub(super) fn check(file: &file::File, environments: &[u32], vms: &[Vm]) -> Result<(), Problem> {
    if let Some(first) = file.vm.get(MAX_GUESTS) {
        return problem(
            format!("vm[{MAX_GUESTS}]"),
            first.span(),
            format!(
                "{} machines, but an environment's bridge has ports for {MAX_GUESTS}; leave some out",
                vms.len()
            ),
        );
    }
    let (all, most) = (environments.len().saturating_mul(vms.len()), MAX_TAPS as usize);
    if all > most {
        return problem(
            "environments",
            file.environments.span(),
            format!(
                "{} environments with {} machines each have {all} guests, but envnet has room for {most}; use up to {} environments, or \
                 fewer machines",
                environments.len(),
                vms.len(),
                most / vms.len()
            ),
        );
    }
    Ok(())
}

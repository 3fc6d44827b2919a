//! How much of everything there can be: limits of the kernel's bridges and of the programs' maps.

use envnet_common::maps::{MAX_ENVIRONMENTS, MAX_MAPPINGS, MAX_PORTS, MAX_TAPS};

use super::{Accelerate, UplinkMode, Vm, check::problem, error::Problem, file};

/// Most guests of an environment. A bridge of the kernel has up to 1,023 ports (`BR_MAX_PORTS`, of which it does not give out the
/// first), and one is the router's.
const MAX_GUESTS: usize = 1022;

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
    let accelerate = file.uplink.accelerate.as_ref().map(|value| *value.get_ref());
    let uplink_port = usize::from(file.uplink.mode == UplinkMode::Bridge);
    let mut limits = vec![
        ("environments", 1, MAX_ENVIRONMENTS),
        ("mappings", vms.len() + 1, MAX_MAPPINGS),
    ];
    if accelerate != Some(Accelerate::Off) {
        // The bridge and the router's port have an entry, too.
        limits.push(("ports", vms.len() + 2 + uplink_port, MAX_PORTS));
        limits.push(("taps", vms.len(), MAX_TAPS));
    }
    for (what, each, most) in limits {
        let all = environments.len().saturating_mul(each);
        if all > most as usize {
            return problem(
                "environments",
                file.environments.span(),
                format!(
                    "{} environments with {} machines each have {all} {what}, but envnet has room for {most}; use up to {} environments, or \
                     fewer machines",
                    environments.len(),
                    vms.len(),
                    most as usize / each
                ),
            );
        }
    }
    Ok(())
}

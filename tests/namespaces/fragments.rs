//! Datagrams larger than the MTU, in fragments without ports of their own.

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    addresses::{ROLES, UPSTREAM},
    guest::PATIENCE,
    ping::ping,
    tap::Offload,
};

use crate::{fixture::attached_each_way, traffic};

const LENGTHS: [usize; 4] = [1473, 2960, 9000, 60_000];

#[test]
fn large_datagrams_pass_both_ways() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        for (role, offload) in [(dc, Offload::Full), (member, Offload::None)] {
            let guest = lab.guest_with(1, role, offload)?;
            let (outside, inside, external) = (lab.outside(), guest.namespace(), role.external(1));
            ensure!(lab.ping(external)?.is_some(), "the guest is not up");
            for length in LENGTHS {
                traffic::udp(outside, inside, external, length)?.with_context(|| format!("{length} bytes inwards"))?;
                traffic::udp(inside, outside, UPSTREAM, length)?.with_context(|| format!("{length} bytes outwards"))?;
                ensure!(
                    ping(outside, external, length, PATIENCE)?.is_some(),
                    "ping of {length} bytes inwards"
                );
                ensure!(
                    ping(inside, UPSTREAM, length, PATIENCE)?.is_some(),
                    "ping of {length} bytes outwards"
                );
            }
        }
        Ok(())
    })
}

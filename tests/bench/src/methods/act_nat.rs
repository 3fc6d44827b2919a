//! The kernel's own stateless translation, a traffic control action, where it was built.

use anyhow::Result;
use envnet_lab::addresses::{INTERNAL, INTERNAL_PREFIX, ROUTER, external};

use super::{Method, Standing, classic::Classic};
use crate::testbed::{Testbed, run};

/// The method.
pub(super) struct ActNat;

impl Method for ActNat {
    fn name(&self) -> &'static str {
        "act-nat"
    }

    fn description(&self) -> &'static str {
        "tc's own stateless action `nat` on the router's outer interface"
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let classic = Classic::build(testbed, Some(ROUTER))?;
        for (environment, router) in classic.routers() {
            let outside = external(environment, 0);
            run(router, &format!("tc qdisc add dev gw{environment} clsact"))?;
            for (direction, old, new) in [("ingress", outside, INTERNAL), ("egress", INTERNAL, outside)] {
                run(
                    router,
                    &format!(
                        "tc filter add dev gw{environment} {direction} protocol ip u32 match u32 0 0 \
                         action nat {direction} {old}/{INTERNAL_PREFIX} {new}"
                    ),
                )?;
            }
        }
        Ok(Box::new(classic))
    }
}

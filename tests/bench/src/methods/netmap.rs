//! iptables NETMAP: one rule for a whole prefix, in each direction, with connection tracking.

use anyhow::Result;
use envnet_lab::addresses::{INTERNAL, INTERNAL_PREFIX, ROUTER, external};

use super::{Method, Standing, classic::Classic};
use crate::testbed::{Testbed, feed};

/// The method.
pub(super) struct Netmap;

impl Method for Netmap {
    fn name(&self) -> &'static str {
        "iptables-netmap"
    }

    fn description(&self) -> &'static str {
        "one NETMAP rule per direction for the whole prefix, instead of two rules per guest"
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let classic = Classic::build(testbed, Some(ROUTER))?;
        for (environment, router) in classic.routers() {
            let (inside, outside) = (
                format!("{INTERNAL}/{INTERNAL_PREFIX}"),
                format!("{}/{INTERNAL_PREFIX}", external(environment, 0)),
            );
            let rules = format!(
                "*nat\n\
                 -A PREROUTING -i gw{environment} -d {outside} -j NETMAP --to {inside}\n\
                 -A POSTROUTING -o gw{environment} -s {inside} -j NETMAP --to {outside}\n\
                 COMMIT\n"
            );
            feed(router, "iptables-nft-restore", &[], &rules)?;
        }
        Ok(Box::new(classic))
    }
}

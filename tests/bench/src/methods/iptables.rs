//! The classic script: one DNAT and one SNAT rule per guest, with connection tracking.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::Result;
use envnet_lab::{
    addresses::{ROLES, ROUTER},
    namespace::Namespace,
};

use super::{Method, Standing, classic::Classic};
use crate::testbed::{Testbed, feed};

/// The method, with one of the two programs of that name.
pub(super) struct Iptables {
    name: &'static str,
    description: &'static str,
    restore: &'static str,
}

impl Iptables {
    pub(super) const NFT: Self = Self {
        name: "iptables-nft",
        description: "a DNAT and a SNAT rule per guest, as in the note, by the iptables of today, which makes nftables rules",
        restore: "iptables-nft-restore",
    };
    pub(super) const LEGACY: Self = Self {
        name: "iptables-legacy",
        description: "the same rules by the older iptables",
        restore: "iptables-legacy-restore",
    };
}

impl Method for Iptables {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let classic = Classic::build(testbed, Some(ROUTER))?;
        for (environment, router) in classic.routers() {
            restore(self.restore, router, environment, 0)?;
        }
        Ok(Box::new(Rules {
            classic,
            restore: self.restore,
        }))
    }
}

struct Rules {
    classic: Classic,
    restore: &'static str,
}

impl Standing for Rules {
    fn fill(&mut self, _testbed: &Testbed, mappings: usize) -> Result<bool> {
        restore(
            self.restore,
            &self.classic.routers[0],
            1,
            mappings.saturating_sub(ROLES.len()),
        )?;
        Ok(true)
    }
}

/// Replaces the rules of an environment: first some that match nothing here, then the guests'.
fn restore(program: &str, router: &Namespace, environment: u8, unused: usize) -> Result<()> {
    let mut rules = String::from("*nat\n");
    let mut pair = |internal: Ipv4Addr, external: Ipv4Addr| {
        // Writing to a string does not fail.
        let _ = writeln!(rules, "-A PREROUTING -d {external} -j DNAT --to-destination {internal}");
        let _ = writeln!(rules, "-A POSTROUTING -s {internal} -j SNAT --to-source {external}");
    };
    for (internal, external) in super::unused(unused) {
        pair(internal, external);
    }
    for role in ROLES {
        pair(role.internal(), role.external(environment));
    }
    rules.push_str("COMMIT\n");
    feed(router, program, &[], &rules)
}

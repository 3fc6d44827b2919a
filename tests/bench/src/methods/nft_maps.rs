//! nftables with a map per direction, and connection tracking.

use std::fmt::Write as _;

use anyhow::Result;
use envnet_lab::{
    addresses::{ROLES, ROUTER},
    namespace::Namespace,
};

use super::{Method, Standing, classic::Classic};
use crate::testbed::{Testbed, feed};

/// The method.
pub(super) struct NftMaps;

impl Method for NftMaps {
    fn name(&self) -> &'static str {
        "nft-maps"
    }

    fn description(&self) -> &'static str {
        "nftables with one map per direction, so that no rule is added per guest"
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let classic = Classic::build(testbed, Some(ROUTER))?;
        for (environment, router) in classic.routers() {
            let table = format!(
                "table ip nat {{\n\
                 {}\
                 chain in {{ type nat hook prerouting priority dstnat; dnat to ip daddr map @inwards; }}\n\
                 chain out {{ type nat hook postrouting priority srcnat; snat to ip saddr map @outwards; }}\n\
                 }}\n",
                maps(environment)
            );
            feed(router, "nft", &["-f", "-"], &table)?;
        }
        Ok(Box::new(Maps {
            classic,
            table: "nat",
            filled: 0,
        }))
    }
}

/// The two maps with the guests of an environment.
pub(super) fn maps(environment: u8) -> String {
    let mut text = String::new();
    let pairs = ROLES.map(|role| (role.internal(), role.external(environment)));
    let inwards = pairs.map(|(internal, external)| format!("{external} : {internal}"));
    let outwards = pairs.map(|(internal, external)| format!("{internal} : {external}"));
    for (name, elements) in [("inwards", inwards), ("outwards", outwards)] {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "map {name} {{ type ipv4_addr : ipv4_addr; elements = {{ {} }} }}",
            elements.join(", ")
        );
    }
    text
}

/// Routers with such maps.
pub(super) struct Maps {
    pub(super) classic: Classic,
    pub(super) table: &'static str,
    pub(super) filled: usize,
}

impl Standing for Maps {
    fn fill(&mut self, _testbed: &Testbed, mappings: usize) -> Result<bool> {
        let unused = mappings.saturating_sub(ROLES.len());
        add(&self.classic.routers[0], self.table, self.filled, unused)?;
        self.filled = unused;
        Ok(true)
    }
}

/// Adds elements that are never used to those that are there.
fn add(router: &Namespace, table: &str, from: usize, to: usize) -> Result<()> {
    let pairs: Vec<_> = super::unused(to).skip(from).collect();
    for chunk in pairs.chunks(1000) {
        let inwards: Vec<_> = chunk
            .iter()
            .map(|(internal, external)| format!("{external} : {internal}"))
            .collect();
        let outwards: Vec<_> = chunk
            .iter()
            .map(|(internal, external)| format!("{internal} : {external}"))
            .collect();
        let commands = format!(
            "add element ip {table} inwards {{ {} }}\nadd element ip {table} outwards {{ {} }}\n",
            inwards.join(", "),
            outwards.join(", ")
        );
        feed(router, "nft", &["-f", "-"], &commands)?;
    }
    Ok(())
}

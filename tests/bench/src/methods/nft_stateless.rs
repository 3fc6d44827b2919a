//! nftables without connection tracking: addresses are written into the packet, and nothing is remembered.

use anyhow::Result;
use envnet_lab::addresses::ROUTER;

use super::{
    Method, Standing,
    classic::Classic,
    nft_maps::{Maps, maps},
};
use crate::testbed::{Testbed, feed};

/// The method.
pub(super) struct NftStateless;

impl Method for NftStateless {
    fn name(&self) -> &'static str {
        "nft-stateless"
    }

    fn description(&self) -> &'static str {
        "nftables with notrack and addresses set in the packet by a map: stateless like envnet, but packets inside ICMP errors stay untranslated"
    }

    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>> {
        let classic = Classic::build(testbed, Some(ROUTER))?;
        for (environment, router) in classic.routers() {
            let table = format!(
                "table ip stateless {{\n\
                 {}\
                 chain in {{ type filter hook prerouting priority raw; notrack; \
                 iifname gw{environment} ip daddr set ip daddr map @inwards; }}\n\
                 chain out {{ type filter hook postrouting priority srcnat; \
                 oifname gw{environment} ip saddr set ip saddr map @outwards; }}\n\
                 }}\n",
                maps(environment)
            );
            feed(router, "nft", &["-f", "-"], &table)?;
        }
        Ok(Box::new(Maps {
            classic,
            table: "stateless",
            filled: 0,
        }))
    }
}

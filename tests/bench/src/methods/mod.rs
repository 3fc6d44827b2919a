//! The methods that are compared, one file each: a method sets itself up in a testbed, and what it returns undoes it when it
//! is dropped. To add one, add a file and a line in [`all`].

mod act_nat;
mod classic;
mod envnet;
mod iptables;
mod netmap;
mod nft_maps;
mod nft_stateless;
mod redirect;
mod routing;

use std::net::Ipv4Addr;

use anyhow::Result;
use envnet_lab::addresses::{self, Role};

use crate::testbed::Testbed;

/// Environments of every testbed.
pub(crate) const ENVIRONMENTS: u8 = 2;

/// A way to make guests with the same addresses reachable.
pub(crate) trait Method: Sync {
    /// Its name in tables, files and on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in a sentence for the page.
    fn description(&self) -> &'static str;

    /// Builds both environments; the error says why that cannot be done here.
    fn set_up(&self, testbed: &Testbed) -> Result<Box<dyn Standing>>;

    /// The address that a guest itself has.
    fn internal(&self, environment: u8, role: Role) -> Ipv4Addr {
        let _ = environment;
        role.internal()
    }

    /// The guests' default gateway.
    fn router(&self, environment: u8) -> Ipv4Addr {
        let _ = environment;
        addresses::ROUTER
    }

    /// Whether it only carries the generator's frames, so that others can be compared with it.
    fn is_limit(&self) -> bool {
        false
    }
}

/// A method at work. Dropping it removes all it made.
pub(crate) trait Standing: Send + Sync {
    /// The guests have been plugged in.
    fn plugged(&mut self, testbed: &Testbed) -> Result<()> {
        let _ = testbed;
        Ok(())
    }

    /// Whether XDP, where it sends to taps only, takes the host's `interface` as one. Others need not be told.
    fn take_as_tap(&self, testbed: &Testbed, interface: &str, is_tap: bool) -> Result<()> {
        let _ = (testbed, interface, is_tap);
        Ok(())
    }

    /// Has `mappings` mappings in all from now on, of which only those of the guests are ever used. False when a number of
    /// them means nothing to the method; the error says why so many cannot be had. The number never shrinks.
    fn fill(&mut self, testbed: &Testbed, mappings: usize) -> Result<bool> {
        let _ = (testbed, mappings);
        Ok(false)
    }
}

/// All methods, in the order of tables.
pub(crate) fn all() -> Vec<Box<dyn Method>> {
    vec![
        Box::new(routing::Routing),
        Box::new(iptables::Iptables::NFT),
        Box::new(iptables::Iptables::LEGACY),
        Box::new(netmap::Netmap),
        Box::new(nft_maps::NftMaps),
        Box::new(nft_stateless::NftStateless),
        Box::new(act_nat::ActNat),
        Box::new(envnet::Envnet::SLOW),
        Box::new(envnet::Envnet::TC),
        Box::new(envnet::Envnet::XDP),
        Box::new(redirect::Redirect::TC),
        Box::new(redirect::Redirect::XDP),
    ]
}

/// What everything is compared with: what the note uses.
pub(crate) const REFERENCE: &str = "iptables-nft";
/// What nothing can beat.
pub(crate) const LIMIT: &str = "limit-xdp";

/// Mappings of addresses that occur nowhere: internal and external.
fn unused(number: usize) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let (internal, external) = (Ipv4Addr::new(10, 64, 0, 0), Ipv4Addr::new(100, 64, 0, 0));
    (0..number).map(move |at| {
        (
            Ipv4Addr::from(internal.to_bits() + at),
            Ipv4Addr::from(external.to_bits() + at),
        )
    })
}

//! Outside and guests reach each other: ping, TCP and UDP in both directions, each side seeing the right addresses.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{REMOTE, ROLES, ROUTER, UPSTREAM},
    guest::Guest,
    tap::Offload,
};

use crate::{
    fixture::{attached, attached_each_way, attached_with},
    traffic,
};

const MEGABYTES: usize = 1 << 20;

#[test]
fn guests_and_outside_reach_each_other() -> Result<()> {
    attached_each_way(both_directions)
}

#[test]
fn an_existing_bridge_serves_as_uplink() -> Result<()> {
    attached_with(Configuration::default().mode(Mode::Bridge), both_directions)
}

#[test]
fn guests_without_offload_are_served_alike() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest_with(1, dc, Offload::None)?;
        outside_to_guest(lab, &guest, 1).context("from outside")?;
        guest_to_outside(lab, &guest, 1).context("to the outside")
    })
}

fn both_directions(lab: &Lab) -> Result<()> {
    let [dc, _] = ROLES;
    for environment in [1, 2] {
        let guest = lab.guest(environment, dc)?;
        outside_to_guest(lab, &guest, environment).context("from outside")?;
        guest_to_outside(lab, &guest, environment).context("to the outside")?;
    }
    Ok(())
}

fn outside_to_guest(lab: &Lab, guest: &Guest, environment: u8) -> Result<()> {
    let external = ROLES[0].external(environment);
    ensure!(lab.ping(external)?.is_some(), "no answer from {external}");
    let (outside, inside) = (lab.outside(), guest.namespace());
    let seen = traffic::tcp(outside, inside, external, 4 * MEGABYTES)?;
    ensure!(seen == IpAddr::from(UPSTREAM), "the guest saw {seen}");
    let seen = traffic::udp(outside, inside, external, 1000)?.context("no UDP answer")?;
    ensure!(seen == IpAddr::from(UPSTREAM), "the guest saw {seen}");
    Ok(())
}

fn guest_to_outside(lab: &Lab, guest: &Guest, environment: u8) -> Result<()> {
    let external = ROLES[0].external(environment);
    for target in [ROUTER, UPSTREAM, REMOTE] {
        ensure!(guest.ping(target)?.is_some(), "{target} does not answer the guest");
    }
    for target in [UPSTREAM, REMOTE] {
        let seen = traffic::tcp(guest.namespace(), lab.outside(), target, 4 * MEGABYTES)?;
        ensure!(seen == IpAddr::from(external), "the outside saw {seen}");
        let seen = traffic::udp(guest.namespace(), lab.outside(), target, 1000)?.context("no UDP answer")?;
        ensure!(seen == IpAddr::from(external), "the outside saw {seen}");
    }
    Ok(())
}

#[test]
fn the_router_answers_at_its_external_address() -> Result<()> {
    attached(|lab| {
        for environment in [1, 2] {
            let external = envnet_lab::addresses::external(environment, 1);
            ensure!(lab.ping(external)?.is_some(), "no answer from {external}");
        }
        Ok(())
    })
}

#[test]
fn the_first_packet_reaches_a_guest_that_never_spoke() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let mut guest = lab.guest(1, dc)?;
        // With IPv6 a guest says something when it comes up; and the bridge forgets what an unplugged port said.
        guest.unplug();
        guest.namespace().set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        guest
            .namespace()
            .set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        guest.plug(lab.host())?;
        let answer = lab.ping(dc.external(1))?;
        ensure!(answer.is_some(), "no answer to the first packet");
        Ok(())
    })
}

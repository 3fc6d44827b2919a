//! Between guests: inside an environment directly, to everything else through external addresses only.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{self, ROLES},
    guest::Guest,
};

use crate::{
    fixture::{attached, attached_each_way},
    traffic,
};

const LENGTH: usize = 1 << 20;

struct Guests {
    dc: Guest,
    member: Guest,
    other_dc: Guest,
}

fn guests(lab: &Lab) -> Result<Guests> {
    let [dc, member] = ROLES;
    Ok(Guests {
        dc: lab.guest(1, dc)?,
        member: lab.guest(1, member)?,
        other_dc: lab.guest(2, dc)?,
    })
}

/// Ping, TCP and UDP from one guest to an address of another, which must see `seen`.
fn talk(from: &Guest, to: &Guest, target: Ipv4Addr, seen: Ipv4Addr) -> Result<()> {
    ensure!(from.ping(target)?.is_some(), "{target} does not answer pings");
    let peer = traffic::tcp(from.namespace(), to.namespace(), target, LENGTH)?;
    ensure!(
        peer == IpAddr::from(seen),
        "over TCP the other side saw {peer}, not {seen}"
    );
    let peer = traffic::udp(from.namespace(), to.namespace(), target, 1000)?.context("no UDP answer")?;
    ensure!(
        peer == IpAddr::from(seen),
        "over UDP the other side saw {peer}, not {seen}"
    );
    Ok(())
}

#[test]
fn siblings_talk_directly() -> Result<()> {
    attached(|lab| {
        let Guests { dc, member, .. } = guests(lab)?;
        let before = lab.capture().count()?;
        talk(&dc, &member, member.address(), dc.address())?;
        talk(&member, &dc, dc.address(), member.address())?;
        let frames = lab.capture().count()? - before;
        ensure!(frames == 0, "{frames} frames passed the uplink");
        Ok(())
    })
}

#[test]
fn guests_reach_other_environments_at_external_addresses() -> Result<()> {
    attached_each_way(|lab| {
        let Guests { dc, other_dc, .. } = guests(lab)?;
        let [role, _] = ROLES;
        talk(&dc, &other_dc, role.external(2), role.external(1)).context("from 1 to 2")?;
        talk(&other_dc, &dc, role.external(1), role.external(2)).context("from 2 to 1")
    })
}

#[test]
fn guests_reach_their_own_environment_at_external_addresses() -> Result<()> {
    attached_each_way(|lab| {
        let Guests { dc, member, .. } = guests(lab)?;
        let [dc_role, member_role] = ROLES;
        talk(&dc, &member, member_role.external(1), dc_role.external(1)).context("to the sibling")?;
        talk(&dc, &dc, dc_role.external(1), dc_role.external(1)).context("to itself")?;
        let router = addresses::external(1, 1);
        ensure!(dc.ping(router)?.is_some(), "the router does not answer at {router}");
        Ok(())
    })
}

#[test]
fn environments_do_not_share_internal_addresses() -> Result<()> {
    attached(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let _stranger = lab.guest(2, member)?;
        ensure!(
            guest.ping(member.internal())?.is_none(),
            "a guest of another environment answered"
        );
        Ok(())
    })
}

#[test]
fn an_unmapped_address_is_nobodys_and_provokes_no_loop() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let before = lab.capture().count()?;
        let unmapped = addresses::external(1, 77);
        ensure!(lab.ping(unmapped)?.is_none(), "{unmapped} answers the outside");
        ensure!(guest.ping(unmapped)?.is_none(), "{unmapped} answers the guest");
        // ARP requests from both sides, three each, and errors about it.
        let frames = lab.capture().count()? - before;
        ensure!(frames < 20, "{frames} frames passed the uplink");
        Ok(())
    })
}

//! What must not happen: foreign sources getting out, addresses given to the host, Ethernet addresses that change.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES},
    interrupt,
};

use crate::fixture::{attached, attached_each_way};

/// Packets counted as dropped for a reason, over all environments and guests.
fn drops(lab: &Lab, reason: &str) -> Result<u64> {
    let status = lab.status()?;
    let drops = status["drops"].as_array().context("no drops in the status")?;
    Ok(drops
        .iter()
        .filter(|drop| drop["reason"] == reason)
        .filter_map(|drop| drop["packets"].as_u64())
        .sum())
}

#[test]
fn foreign_sources_are_dropped_and_counted() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(guest.ping(REMOTE)?.is_some(), "the guest is not up");
        let reason = "source-spoofed";
        for source in [
            Ipv4Addr::new(10, 0, 0, 99),
            Ipv4Addr::new(203, 0, 113, 9),
            dc.external(1),
            dc.external(2),
        ] {
            guest.namespace().ip(&format!("address add {source}/32 dev lo"))?;
            let before = (drops(lab, reason)?, lab.capture().frames()?.len());
            let socket = guest.namespace().run(|| Ok(UdpSocket::bind((source, 0))?))?;
            for _ in 0..5 {
                socket.send_to(b"spoofed", (REMOTE, 9))?;
            }
            let what = format!("5 packets from {source} dropped as {reason}");
            interrupt::wait_for(&what, Duration::from_secs(2), || {
                Ok((drops(lab, reason)? == before.0 + 5).then_some(()))
            })?;
            let frames = lab.capture().frames()?;
            let leaked = frames[before.1..]
                .iter()
                .any(|frame| frame.bytes.windows(4).any(|bytes| bytes == source.octets()));
            ensure!(!leaked, "{source} left the uplink");
        }
        Ok(())
    })
}

#[test]
fn counters_count_what_a_guest_sent_and_received() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let _guest = lab.guest(1, dc)?;
        for _ in 0..7 {
            ensure!(lab.ping(dc.external(1))?.is_some(), "no answer");
        }
        let status = lab.status()?;
        let environments = status["environments"]
            .as_array()
            .context("no environments in the status")?;
        for environment in environments {
            for guest in environment["guests"].as_array().context("no guests in the status")? {
                let pinged = environment["environment"] == 1 && guest["internal"] == dc.internal().to_string();
                let expected = if pinged { 7 } else { 0 };
                ensure!(
                    guest["packets_in"] == expected && guest["packets_out"] == expected,
                    "expected {expected}: {guest}"
                );
            }
        }
        let names: Vec<_> = environments
            .iter()
            .filter_map(|environment| environment["guests"].as_array())
            .flatten()
            .collect();
        ensure!(
            names.iter().any(|guest| guest["name"] == member.name),
            "no {} in {status}",
            member.name
        );
        Ok(())
    })
}

#[test]
fn no_interface_of_envnet_has_ipv6() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        // A guest with IPv6 makes itself heard when it comes up.
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let host = lab.host().ip("-6 -oneline address show")?;
        for line in host.lines() {
            let interface = line.split_ascii_whitespace().nth(1).unwrap_or_default();
            ensure!(["lo", "eth0"].contains(&interface), "the host has {line}");
        }
        let router = lab.router(1)?.ip("-6 -oneline address show")?;
        ensure!(
            router.lines().all(|line| line.contains(" lo ")),
            "the router has {router}"
        );
        Ok(())
    })
}

#[test]
fn routers_look_the_same_inside_and_differ_outside_for_good() -> Result<()> {
    attached(|lab| {
        let macs = |lab: &Lab| -> Result<(BTreeSet<String>, Vec<String>)> {
            let inside = [1, 2].map(|environment| lab.router(environment)?.mac(&format!("peer1-gw{environment}")));
            let outside = [1, 2].map(|environment| lab.router(environment)?.mac(&format!("gw{environment}")));
            Ok((
                inside.into_iter().collect::<Result<_>>()?,
                outside.into_iter().collect::<Result<_>>()?,
            ))
        };
        let (inside, outside) = macs(lab)?;
        ensure!(inside.len() == 1, "inside: {inside:?}");
        ensure!(outside[0] != outside[1], "outside: {outside:?}");
        lab.detach()?;
        lab.attach()?;
        let again = macs(lab)?;
        ensure!(
            again == (inside.clone(), outside.clone()),
            "was {inside:?} {outside:?}, is {again:?}"
        );
        Ok(())
    })
}

//! TCP with every combination of segmentation, coalescing and checksum offload on the uplink, the router's links and the
//! taps: what arrives is what was sent, and TCP does not have to send it again and again.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::{
    Lab,
    addresses::{ROLES, Role, UPSTREAM},
    namespace::Namespace,
    process::output,
    tap::Offload,
};

use crate::{fixture::attached_each_way, traffic};

const LENGTH: usize = 1 << 20;
/// What one way of [`LENGTH`] needs at the least.
const SEGMENTS: usize = LENGTH / 1448;
/// A wrong checksum or a lost piece of a large packet costs a retransmission each time, hundreds of them. Queues that
/// overflow while TCP is finding its speed cost some, too.
const MOST_RETRANSMITTED: usize = SEGMENTS / 10;

const ATTEMPTS: usize = 4;

/// What an interface does by itself, as `ethtool` names it.
const SETTINGS: [(&str, &[&str]); 4] = [
    (
        "everything",
        &["tx", "on", "sg", "on", "tso", "on", "gso", "on", "gro", "on"],
    ),
    (
        "no segmentation",
        &["tx", "on", "sg", "on", "tso", "off", "gso", "off", "gro", "on"],
    ),
    (
        "no coalescing",
        &["tx", "on", "sg", "on", "tso", "on", "gso", "on", "gro", "off"],
    ),
    (
        "nothing",
        &["tso", "off", "gso", "off", "sg", "off", "tx", "off", "gro", "off"],
    ),
];

fn set(namespace: &Namespace, interface: &str, settings: &[&str]) -> Result<()> {
    let mut ethtool = namespace.command("ethtool");
    output(ethtool.args(["--features", interface]).args(settings)).map(drop)
}

#[test]
fn tcp_survives_every_combination_with_an_offloading_guest() -> Result<()> {
    every_combination(ROLES[0], Offload::Full)
}

#[test]
fn tcp_survives_every_combination_with_a_plain_guest() -> Result<()> {
    every_combination(ROLES[1], Offload::None)
}

fn every_combination(role: Role, offload: Offload) -> Result<()> {
    attached_each_way(|lab| {
        let router = lab.router(1)?;
        let guest = lab.guest_with(1, role, offload)?;
        ensure!(guest.ping(UPSTREAM)?.is_some(), "the guest is not up");
        for (uplink, uplink_settings) in SETTINGS {
            set(lab.host(), "eth0", uplink_settings)?;
            // A real card's packets come with finished checksums, and XDP can do with no others.
            let outside = if lab.has_xdp() { SETTINGS[3].1 } else { uplink_settings };
            set(lab.outside(), "eth0", outside)?;
            set(&router, "gw1", uplink_settings)?;
            for (inside, inside_settings) in SETTINGS {
                set(lab.host(), "peer1-br1", inside_settings)?;
                set(&router, "peer1-gw1", inside_settings)?;
                for (tap, tap_settings) in [SETTINGS[0], SETTINGS[3]] {
                    set(lab.host(), &role.tap(1), tap_settings)?;
                    transfer(lab, guest.namespace(), role.external(1))
                        .with_context(|| format!("uplink with {uplink}, router with {inside}, tap with {tap}"))?;
                }
            }
        }
        Ok(())
    })
}

/// The data goes in and comes back on the same connection. A machine that is busy elsewhere lets queues overflow now and then,
/// but a packet that is made wrong is made wrong every time: the best of a few transfers counts.
fn transfer(lab: &Lab, guest: &Namespace, external: Ipv4Addr) -> Result<()> {
    let mut least = usize::MAX;
    for _ in 0..ATTEMPTS {
        let transfer = traffic::transfer(lab.outside(), guest, external, LENGTH)?;
        least = least.min(transfer.retransmitted as usize);
        if least <= MOST_RETRANSMITTED {
            return Ok(());
        }
    }
    bail!("{least} retransmissions of {} segments at the least", 2 * SEGMENTS)
}

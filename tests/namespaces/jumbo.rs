//! Frames larger than a page, where the uplink carries them: XDP sees such a frame in several buffers, and leaves it to TC.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab,
    addresses::{ROLES, UPSTREAM, external},
    fixture::detached_each,
    guest::Guest,
    namespace::Namespace,
    ping::ping,
};

use crate::{shortcut::through_router, traffic};

const MTU: u32 = 9000;
/// Data of an echo request that fills a frame: without the headers of IPv4 and ICMP.
const LARGE: usize = MTU as usize - 28;
const PINGS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(3);
const LENGTH: usize = 1 << 20;

#[test]
fn large_frames_pass_in_one_piece_on_every_path() -> Result<()> {
    let each = ["tc", "xdp", "off"].map(|accelerate| Configuration::default().accelerate(accelerate));
    detached_each(each, |lab| {
        for namespace in [lab.host(), lab.outside()] {
            namespace.ip(&format!("link set eth0 mtu {MTU}"))?;
        }
        let result = lab.attach().map(drop).and_then(|()| large_frames_pass(lab));
        // As it was, for the comparison at the end.
        lab.host().ip("link set eth0 mtu 1500")?;
        result
    })
}

fn large_frames_pass(lab: &Lab) -> Result<()> {
    let [dc, member] = ROLES;
    let guests = [lab.guest(1, dc)?, lab.guest(1, member)?, lab.guest(2, dc)?];
    for guest in &guests {
        guest.namespace().ip(&format!("link set eth0 mtu {MTU}"))?;
    }
    let [first, sibling, other] = [&guests[0], &guests[1], &guests[2]].map(Guest::namespace);
    for (way, from, target) in [
        ("in", lab.outside(), dc.external(1)),
        ("out", first, UPSTREAM),
        ("across", first, external(2, 2)),
        ("within", sibling, dc.internal()),
    ] {
        passes(lab, from, target).context(way)?;
    }
    for (client, server, target) in [
        (lab.outside(), first, dc.external(1)),
        (first, lab.outside(), UPSTREAM),
        (first, other, external(2, 2)),
    ] {
        traffic::tcp(client, server, target, LENGTH)?;
    }
    Ok(())
}

fn passes(lab: &Lab, from: &Namespace, target: Ipv4Addr) -> Result<()> {
    ensure!(ping(from, target, 56, PATIENCE)?.is_some(), "no answer at all");
    let before = fragments_made(from)?;
    let (routed, ()) = through_router(lab, 1, || {
        for _ in 0..PINGS {
            ensure!(
                ping(from, target, LARGE, PATIENCE)?.is_some(),
                "no answer to a large frame"
            );
        }
        Ok(())
    })?;
    let fragments = fragments_made(from)? - before;
    ensure!(fragments == 0, "{fragments} fragments were made");
    if lab.is_accelerated() {
        ensure!(
            routed < PINGS / 2,
            "{routed} packets of {PINGS} pings passed the router"
        );
    }
    Ok(())
}

/// How many fragments a namespace has sent so far (RFC 4293, `ipSystemStatsOutFragCreates`).
fn fragments_made(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = lines.next().zip(lines.next()).context("no statistics of IPv4")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(name, _)| *name == "FragCreates")
        .context("no FragCreates")?;
    Ok(value.parse()?)
}

//! What is no longer in the configuration has no traffic any more, even while it flows.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab,
    addresses::{REMOTE, ROLES},
    interrupt,
    namespace::Namespace,
    ping::ping,
    pings::Pings,
    stream::Stream,
};

use crate::{
    fixture::attached_each_way,
    foreign_ports::{self, Newcomer},
};

const INTERVAL: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(3);
/// What is in queues when `attach` returns.
const QUEUES: Duration = Duration::from_millis(20);
/// Those who stay may miss so much of it.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// Lets datagrams flow while the configuration is changed, and fails unless all of them stop and the bystander's pings go on.
fn stops(
    lab: &Lab,
    flows: &[(&Namespace, &Namespace, Ipv4Addr)],
    bystander: (&Namespace, Ipv4Addr),
    changed: Configuration,
) -> Result<()> {
    for (from, _, target) in flows {
        let answer = ping(from, *target, 56, PATIENCE)?;
        ensure!(answer.is_some(), "{}: no answer from {target}", from.name());
    }
    let streams = flows
        .iter()
        .map(|(from, to, target)| Stream::start(from, to, *target, INTERVAL));
    let streams: Vec<_> = streams.collect::<Result<_>>()?;
    let pings = Pings::start(bystander.0, bystander.1, INTERVAL)?;
    let start = Instant::now();
    interrupt::sleep(Duration::from_millis(300))?;
    for (stream, (from, _, target)) in streams.iter().zip(flows) {
        ensure!(stream.received() > 50, "{}: nothing reaches {target}", from.name());
    }
    lab.attach_as(changed)?;
    interrupt::sleep(QUEUES)?;
    let before: Vec<_> = streams.iter().map(Stream::received).collect();
    interrupt::sleep(Duration::from_secs(1))?;
    for ((stream, before), (from, _, target)) in streams.iter().zip(before).zip(flows) {
        let later = stream.received() - before;
        ensure!(later == 0, "{}: {later} datagrams still reach {target}", from.name());
    }
    let silence = pings.end()?.silence(start);
    ensure!(silence < UNDISTURBED, "a bystander had no answer for {silence:?}");
    Ok(())
}

#[test]
fn a_removed_environment_has_no_traffic() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let stays = lab.guest(1, dc)?;
        let goes = lab.guest(2, dc)?;
        let (outside, stays, goes) = (lab.outside(), stays.namespace(), goes.namespace());
        let flows = [
            (outside, goes, dc.external(2)),
            (goes, outside, REMOTE),
            (stays, goes, dc.external(2)),
            (goes, stays, dc.external(1)),
        ];
        stops(lab, &flows, (stays, REMOTE), lab.configuration().environments(1))?;
        let answer = ping(outside, dc.external(2), 56, Duration::from_millis(500))?;
        ensure!(answer.is_none(), "the removed environment answers");
        Ok(())
    })
}

/// Its port stays, because it is somebody else's.
#[test]
fn a_removed_machine_has_no_traffic() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let stays = lab.guest(1, member)?;
        let other = lab.guest(2, dc)?;
        let goes = Newcomer::machine(lab, dc)?;
        foreign_ports::plug(lab)?;
        lab.attach()?;
        let (outside, stays, other, goes) = (lab.outside(), stays.namespace(), other.namespace(), goes.namespace());
        let flows = [
            (outside, goes, dc.external(1)),
            (goes, outside, REMOTE),
            (other, goes, dc.external(1)),
            (goes, other, dc.external(2)),
            (stays, goes, dc.external(1)),
            (goes, stays, member.external(1)),
        ];
        stops(lab, &flows, (stays, REMOTE), lab.configuration().without(dc.name))
    })
    .context("a machine")
}

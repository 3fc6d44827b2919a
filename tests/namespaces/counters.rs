//! What a guest sent and received is counted to the byte, the same whichever way its packets took.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{self, REMOTE, ROLES, ROUTER, UPSTREAM},
    counters::counters,
    namespace::Namespace,
    ping::ping,
};
use serde_json::Value;

use crate::fixture::attached_each_way;

const TIMES: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(3);
/// Length of an echo request's data, how many frames that makes, and their length with all headers.
const SIZES: [(usize, u64, u64); 4] = [
    (0, 1, 14 + 20 + 8),
    (56, 1, 14 + 20 + 8 + 56),
    (1472, 1, 14 + 1500),
    (4000, 3, 2 * (14 + 1500) + 14 + 20 + 4008 - 2 * 1480),
];

/// Pings; every guest of `through`, named by environment and number, must have a request and an answer counted.
struct Conversation<'a> {
    from: &'a Namespace,
    target: Ipv4Addr,
    through: Vec<(u8, u8)>,
}

fn check(lab: &Lab, conversation: &Conversation<'_>) -> Result<()> {
    let Conversation { from, target, through } = conversation;
    for (length, frames, bytes) in SIZES {
        let mut expected = counters(&lab.status()?)?;
        for _ in 0..TIMES {
            let answer = ping(from, *target, length, PATIENCE)?;
            ensure!(answer.is_some(), "{}: no answer from {target}", from.name());
        }
        for (environment, number) in through {
            let counters = expected.get_mut(&(*environment, addresses::internal(*number)));
            let counters = counters.context("a guest is not in the status")?;
            for (counter, per_ping) in counters.iter_mut().zip([frames, bytes, frames, bytes]) {
                *counter += TIMES * per_ping;
            }
        }
        let seen = counters(&lab.status()?)?;
        ensure!(
            seen == expected,
            "{TIMES} pings of {length} bytes from {} to {target}: expected {expected:?}, but counted {seen:?}",
            from.name()
        );
    }
    Ok(())
}

#[test]
fn counters_are_exact_on_every_way() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let _sibling = lab.guest(1, member)?;
        let _other = lab.guest(2, dc)?;
        let (outside, inside) = (lab.outside(), guest.namespace());
        for (what, from, target, through) in [
            ("in", outside, dc.external(1), vec![(1, 2)]),
            ("in, the router", outside, addresses::external(1, 1), vec![(1, 1)]),
            ("out", inside, UPSTREAM, vec![(1, 2)]),
            ("far out", inside, REMOTE, vec![(1, 2)]),
            ("across", inside, dc.external(2), vec![(1, 2), (2, 2)]),
            ("hairpin", inside, member.external(1), vec![(1, 2), (1, 3)]),
            ("hairpin to itself", inside, dc.external(1), vec![(1, 2), (1, 2)]),
            (
                "the router's external address",
                inside,
                addresses::external(1, 1),
                vec![(1, 2), (1, 1)],
            ),
            (
                "another router's external address",
                inside,
                addresses::external(2, 1),
                vec![(1, 2), (2, 1)],
            ),
            ("within", inside, member.internal(), vec![]),
            ("to the router", inside, ROUTER, vec![]),
        ] {
            let conversation = Conversation { from, target, through };
            check(lab, &conversation).context(what)?;
        }
        brief(lab)
    })
}

/// The brief status knows the same of packets and of the way they take, and does not say what it has not looked at.
fn brief(lab: &Lab) -> Result<()> {
    let (full, brief) = (lab.status()?, lab.envnet().succeed("--json status --brief")?);
    let brief: Value = serde_json::from_str(&brief)?;
    ensure!(counters(&brief)? == counters(&full)?, "{brief} after {full}");
    ensure!(brief["uplink"] == full["uplink"], "{brief} after {full}");
    let (looked, known) = (
        |status: &Value| status["brief"] != true,
        |status: &Value| {
            let environments = status["environments"].as_array().map_or(&[][..], Vec::as_slice);
            environments
                .iter()
                .any(|environment| environment["intact"].is_boolean())
        },
    );
    ensure!(looked(&full) && known(&full), "not looked: {full}");
    ensure!(!looked(&brief) && !known(&brief), "looked: {brief}");
    let text = lab.envnet().succeed("status --brief")?;
    ensure!(text.contains("not looked into"), "no word about it: {text}");
    Ok(())
}

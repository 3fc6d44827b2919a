//! Router namespaces are envnet's own: what is needed there is put in order, the rest is left, and all of it goes with them.

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    addresses::ROLES,
    fixture::{attached, detached},
    namespace::{self, Namespace},
    snapshot,
};

use super::{foreign::run, refused};

/// What somebody does to a router, what shows it, what it looks like there, and whether attach leaves it.
const ADDITIONS: [(&str, &str, &str, bool); 7] = [
    ("ip link add other type bridge", "ip link show", "other", false),
    (
        "ip address add 10.0.0.250/24 dev peer1-gw1",
        "ip -4 address show",
        "10.0.0.250",
        false,
    ),
    (
        "ip route add 198.51.100.0/24 via 172.16.0.1",
        "ip route show",
        "198.51.100.0",
        false,
    ),
    (
        "ip route add 198.51.100.0/24 via 172.16.0.1 table 77",
        "ip route show table 77",
        "198.51.100.0",
        true,
    ),
    (
        "ip neighbour add 172.16.0.77 lladdr 02:00:00:00:00:77 dev gw1",
        "ip neighbour show",
        "172.16.0.77",
        true,
    ),
    (
        "iptables -w -A FORWARD -s 198.51.100.1 -j DROP",
        "iptables -w -S FORWARD",
        "198.51.100.1",
        true,
    ),
    (
        "tc qdisc add dev gw1 root tbf rate 1gbit burst 1mbit latency 400ms",
        "tc qdisc show dev gw1",
        "tbf",
        true,
    ),
];

#[test]
fn what_somebody_adds_to_a_router_is_put_in_order_or_left() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the guest is not up");
        let router = lab.router(1)?;
        for (addition, view, sign, stays) in ADDITIONS {
            let check = || -> Result<()> {
                run(&router, addition)?;
                ensure!(run(&router, view)?.contains(sign), "it is not there");
                let changes = lab.envnet().changes("attach")?;
                ensure!((changes == 0) == stays, "{changes} changes");
                ensure!(run(&router, view)?.contains(sign) == stays, "stays is not {stays}");
                ensure!(lab.envnet().changes("attach")? == 0, "attach again changed something");
                Ok(())
            };
            check().context(addition)?;
        }
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer to the outside");
        ensure!(
            guest.ping(envnet_lab::addresses::UPSTREAM)?.is_some(),
            "no answer to the guest"
        );
        Ok(())
    })
}

/// The mark is what makes a namespace envnet's, not its name.
#[test]
fn a_namespace_without_the_right_mark_is_refused_and_stays() -> Result<()> {
    detached(|lab| {
        let host = lab.host().name();
        let name = format!("{host}-ns1");
        let foreign = Namespace::create(&name)?;
        for alias in ["", "somebody's", "envnet host 1", &format!("envnet netns {host} 2")] {
            let mut ip = foreign.command("ip");
            envnet_lab::process::output(ip.args(["link", "set", "lo", "alias", alias]))?;
            foreign.ip("link add other type bridge")?;
            refused(lab, &[&name, "environment 1"]).context(format!("alias `{alias}`"))?;
            ensure!(namespace::names()?.contains(&name), "detach has removed {name}");
            foreign.ip("link show other").context("something in it has gone")?;
            foreign.ip("link delete other")?;
        }
        Ok(())
    })
}

/// One that carries the mark but was given another name is no router any more: it keeps what is in it.
#[test]
fn a_router_whose_name_was_taken_is_replaced() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let before = snapshot::of_host(lab)?;
        let name = format!("{}-ns1", lab.host().name());
        namespace::remove(&name);
        lab.attach()?;
        let _guest = lab.guest(1, dc)?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "no answer from the new router");
        ensure!(
            snapshot::of_host(lab)?.lines().count() == before.lines().count(),
            "more or less than before"
        );
        Ok(())
    })
}

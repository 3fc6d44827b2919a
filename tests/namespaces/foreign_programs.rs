//! Other people's programs on links that envnet uses: they stay, and go on seeing what they are to see.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::programs::{TcAttachType, XdpMode};
use envnet_lab::{
    Configuration, Lab,
    addresses::{REMOTE, ROLES, ROUTER},
    counting_program::Counter,
    interrupt,
    namespace::Namespace,
    ping::ping,
};

use crate::{fixture::detached_with, shortcut};

const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 7);
const PATIENCE: Duration = Duration::from_secs(3);

/// Foreign programs on a link, on its way in and on its way out.
struct Foreign(Vec<(String, Counter)>);

impl Foreign {
    fn on(lab: &Lab, link: &str, kinds: &[&str]) -> Result<Self> {
        let mut counters = Vec::new();
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            for kind in kinds {
                let counter = match *kind {
                    "tcx" => Counter::tcx(lab.host(), link, direction)?,
                    _ => Counter::filter(lab.host(), link, direction)?,
                };
                counters.push((format!("{kind} program, {direction:?} of {link}"), counter));
            }
        }
        Ok(Self(counters))
    }

    /// Fails unless all of them see the packets of `body`.
    fn check(&self, body: impl Fn() -> Result<()>) -> Result<()> {
        let counts = || {
            self.0
                .iter()
                .map(|(_, counter)| counter.count())
                .collect::<Result<Vec<_>>>()
        };
        let before = counts()?;
        body()?;
        for ((name, _), (before, after)) in self.0.iter().zip(before.into_iter().zip(counts()?)) {
            ensure!(after > before, "the {name} sees nothing any more");
        }
        Ok(())
    }
}

fn with_foreign_programs(hook: &'static str, kinds: &[&str]) -> Result<()> {
    detached_with(Configuration::default().hook(hook).accelerate("tc"), |lab| {
        let [dc, _] = ROLES;
        lab.host().ip(&format!("address add {HOST}/16 dev eth0"))?;
        let reach = |from: &Namespace, target| -> Result<()> {
            let answer = ping(from, target, 56, PATIENCE)?;
            ensure!(answer.is_some(), "{}: no answer from {target}", from.name());
            Ok(())
        };
        let host = || reach(lab.outside(), HOST);
        let uplink = Foreign::on(lab, "eth0", kinds)?;
        uplink.check(host).context("before attach")?;
        lab.attach()?;
        let guest = lab.guest(1, dc)?;
        uplink.check(host).context("after attach")?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        shortcut::check(lab, 1, guest.namespace(), REMOTE)?;

        let tap = Foreign::on(lab, &dc.tap(1), kinds)?;
        // What envnet's program redirects, nobody after it sees; a broadcast it leaves to the bridge.
        let guest_speaks = || {
            guest.namespace().ip("neighbour flush dev eth0")?;
            lab.router(1)?.ip("neighbour flush dev peer1-gw1")?;
            interrupt::sleep(Duration::from_secs(1))?;
            reach(guest.namespace(), ROUTER)?;
            reach(lab.outside(), dc.external(1))
        };
        tap.check(guest_speaks).context("before the second attach")?;
        let later = Foreign::on(lab, "eth0", &kinds[..1])?;
        ensure!(lab.envnet().changes("attach")? == 0, "another attach changed something");
        tap.check(guest_speaks).context("after the second attach")?;
        for foreign in [&uplink, &later] {
            foreign.check(host).context("after the second attach")?;
        }
        drop(tap);
        lab.detach()?;
        for foreign in [&uplink, &later] {
            foreign.check(host).context("after detach")?;
        }
        drop(later);
        lab.attach()?;
        uplink.check(host).context("after the last attach")?;
        lab.detach()?;
        // The last of those who made the qdisc takes it away.
        drop(uplink);
        lab.host().ip(&format!("address delete {HOST}/16 dev eth0")).map(drop)
    })
    .with_context(|| format!("foreign {kinds:?}"))
}

#[test]
fn programs_of_others_stay_and_work() -> Result<()> {
    for (hook, kinds) in [
        ("tcx", &["tcx"][..]),
        ("tcx", &["clsact"]),
        ("clsact", &["clsact"]),
        ("clsact", &["tcx"]),
    ] {
        with_foreign_programs(hook, kinds)?;
    }
    Ok(())
}

#[test]
fn another_program_in_the_driver_is_respected() -> Result<()> {
    detached_with(Configuration::default().accelerate("xdp"), |lab| {
        let [dc, _] = ROLES;
        lab.host().ip(&format!("address add {HOST}/16 dev eth0"))?;
        let counter = Counter::xdp(lab.host(), "eth0", XdpMode::Driver)?;
        let works = || -> Result<()> {
            let before = counter.count()?;
            ensure!(
                ping(lab.outside(), HOST, 56, PATIENCE)?.is_some(),
                "the host does not answer"
            );
            ensure!(counter.count()? > before, "the other program sees nothing");
            Ok(())
        };
        works().context("before attach")?;
        let outcome = lab.envnet().run("attach")?;
        ensure!(outcome.status == Some(1), "attach: {outcome:?}");
        for word in ["eth0", "XDP", "not envnet's", "uplink.accelerate = \"tc\""] {
            ensure!(outcome.stderr.contains(word), "no {word} in {}", outcome.stderr);
        }
        works().context("after the failure")?;
        ensure!(lab.router(1).is_err(), "the failure has left a router");

        // Beside one that lets everything pass, TC works.
        lab.attach_as(lab.configuration().accelerate("tc"))?;
        let _guest = lab.guest(1, dc)?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        works().context("with tc")?;
        lab.detach()?;
        works().context("after detach")?;
        drop(counter);
        lab.host().ip(&format!("address delete {HOST}/16 dev eth0")).map(drop)
    })
}

//! What the fast path has learned becomes wrong, and traffic is right again within a second.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, UPSTREAM},
    guest::Guest,
    interrupt,
    namespace::Namespace,
    pings::Pings,
    stream::Stream,
};

use crate::{
    fixture::attached_fast,
    shortcut::{self, through_router},
};

const INTERVAL: Duration = Duration::from_millis(10);
/// A second, and what the machine may take to let a process run.
const HEALED: Duration = Duration::from_millis(1100);
/// Less than the time after which something would be doubted.
const ANNOUNCED: Duration = Duration::from_millis(240);
/// Pings before the event, and after it.
const BEFORE: Duration = Duration::from_millis(400);
const AFTER: Duration = Duration::from_millis(2500);
/// A measurement may be spoilt by whatever else the machine does.
const ATTEMPTS: usize = 3;

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 9);

/// Makes the event happen while those pings go on, and fails if any of them remains without answers for too long from the
/// moment that the event returns.
fn heals(pings: &[(&Namespace, Ipv4Addr)], event: impl FnMut(usize) -> Result<Instant>) -> Result<()> {
    heals_within(HEALED, pings, event)
}

fn heals_within(
    limit: Duration,
    pings: &[(&Namespace, Ipv4Addr)],
    mut event: impl FnMut(usize) -> Result<Instant>,
) -> Result<()> {
    let mut silences = Vec::new();
    for attempt in 0..ATTEMPTS {
        let running = pings.iter().map(|(from, target)| Pings::start(from, *target, INTERVAL));
        let running: Vec<_> = running.collect::<Result<_>>()?;
        let start = Instant::now();
        interrupt::sleep(BEFORE)?;
        let since = event(attempt)?;
        interrupt::sleep(AFTER)?;
        let mut longest = Duration::ZERO;
        for course in running.into_iter().map(Pings::end) {
            let course = course?;
            if !course.answered.iter().any(|moment| *moment > start && *moment < since) {
                // There was nothing to be disturbed.
                longest = Duration::MAX;
            }
            longest = longest.max(course.silence(since));
        }
        if longest < limit {
            return Ok(());
        }
        silences.push(longest);
    }
    bail!("without answers for {silences:?}")
}

/// An Ethernet address that nobody else has.
fn new_mac(attempt: usize) -> String {
    format!("52:54:00:00:aa:{attempt:02x}")
}

/// A machine of its own on the uplink's link, with one address.
struct Machine {
    namespace: Namespace,
}

impl Machine {
    /// It is down yet.
    fn new(lab: &Lab, name: &str, address: Ipv4Addr) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", lab.host().name()))?;
        lab.outside().ip(&format!(
            "link add eth0 link eth0 netns {} type macvlan mode bridge",
            namespace.name()
        ))?;
        namespace.ip(&format!("address add {address}/16 dev eth0"))?;
        namespace.ip(&format!("address add {REMOTE}/32 dev lo"))?;
        Ok(Self { namespace })
    }

    fn set(&self, state: &str) -> Result<()> {
        self.namespace.ip(&format!("link set eth0 {state}")).map(drop)
    }
}

/// The upstream router becomes two machines that share its address; the first is up.
fn upstreams(lab: &Lab) -> Result<[Machine; 2]> {
    lab.outside().ip(&format!("address delete {UPSTREAM}/16 dev eth0"))?;
    let upstreams = [Machine::new(lab, "gwa", UPSTREAM)?, Machine::new(lab, "gwb", UPSTREAM)?];
    upstreams[0].set("up")?;
    Ok(upstreams)
}

fn reached(guest: &Guest, target: Ipv4Addr) -> Result<()> {
    ensure!(guest.ping(target)?.is_some(), "no answer from {target}");
    Ok(())
}

#[test]
fn a_guest_that_is_plugged_in_again() -> Result<()> {
    attached_fast(|lab| {
        let [dc, _] = ROLES;
        let mut guest = lab.guest(1, dc)?;
        let inside = Namespace::open(guest.namespace().name())?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        let pings = [(lab.outside(), dc.external(1)), (&inside, REMOTE)];
        heals(&pings, |_| {
            guest.plug(lab.host())?;
            Ok(Instant::now())
        })
        .context("at once")?;
        heals(&pings, |_| {
            guest.unplug();
            interrupt::sleep(Duration::from_secs(2))?;
            guest.plug(lab.host())?;
            Ok(Instant::now())
        })
        .context("after a while")?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))
    })
}

#[test]
fn a_tap_that_is_made_again() -> Result<()> {
    attached_fast(|lab| {
        let [dc, member] = ROLES;
        let mut guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        let inside = Namespace::open(guest.namespace().name())?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        let pings = [
            (lab.outside(), dc.external(1)),
            (sibling.namespace(), dc.internal()),
            (&inside, REMOTE),
        ];
        heals(&pings, |_| {
            lab.host().ip(&format!("link delete {}", dc.tap(1)))?;
            lab.attach()?;
            guest.plug(lab.host())?;
            Ok(Instant::now())
        })?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))
    })
}

#[test]
fn a_guest_that_changes_its_ethernet_address() -> Result<()> {
    attached_fast(|lab| {
        lab.attach_as(lab.configuration().without_macs())?;
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        reached(&sibling, REMOTE)?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        let change = |mac: &str| -> Result<Instant> {
            let now = Instant::now();
            guest.namespace().ip(&format!("link set eth0 address {mac}"))?;
            Ok(now)
        };
        heals(&[(lab.outside(), dc.external(1))], |attempt| change(&new_mac(attempt))).context("from outside")?;
        shortcut::check(lab, 1, lab.outside(), dc.external(1))?;
        let both = [(lab.outside(), dc.external(1)), (guest.namespace(), REMOTE)];
        heals(&both, |attempt| change(&new_mac(0x10 + attempt))).context("both ways")
    })
}

#[test]
fn an_upstream_router_that_announces_another_ethernet_address() -> Result<()> {
    upstream_fails_over("1", ANNOUNCED)
}

#[test]
fn an_upstream_router_that_has_another_ethernet_address_without_a_word() -> Result<()> {
    upstream_fails_over("0", HEALED)
}

fn upstream_fails_over(arp_notify: &str, limit: Duration) -> Result<()> {
    attached_fast(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        let upstreams = upstreams(lab)?;
        for upstream in &upstreams {
            upstream
                .namespace
                .set_sysctl("net/ipv4/conf/eth0/arp_notify", arp_notify)?;
        }
        reached(&guest, REMOTE)?;
        shortcut::check(lab, 1, guest.namespace(), REMOTE)?;
        heals_within(limit, &[(guest.namespace(), REMOTE)], |attempt| {
            let [from, to] = [attempt % 2, (attempt + 1) % 2].map(|index| &upstreams[index]);
            let now = Instant::now();
            from.set("down")?;
            to.set("up")?;
            Ok(now)
        })?;
        shortcut::check(lab, 1, guest.namespace(), REMOTE)
    })
}

#[test]
fn a_neighbour_that_changes_its_ethernet_address() -> Result<()> {
    attached_fast(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        let neighbour = Machine::new(lab, "near", NEIGHBOUR)?;
        neighbour.set("up")?;
        shortcut::check(lab, 1, guest.namespace(), NEIGHBOUR)?;
        let change = |attempt: usize| -> Result<Instant> {
            let now = Instant::now();
            neighbour
                .namespace
                .ip(&format!("link set eth0 address {}", new_mac(attempt)))?;
            Ok(now)
        };
        heals(&[(guest.namespace(), NEIGHBOUR)], change).context("to the neighbour")?;
        shortcut::check(lab, 1, guest.namespace(), NEIGHBOUR)?;
        heals(&[(&neighbour.namespace, dc.external(1))], |attempt| {
            change(0x10 + attempt)
        })
        .context("from the neighbour")
    })
}

#[test]
fn a_next_hop_that_dies_and_comes_back() -> Result<()> {
    attached_fast(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        let [upstream, _] = upstreams(lab)?;
        reached(&guest, REMOTE)?;
        for silence in [300, 3000] {
            heals(&[(guest.namespace(), REMOTE)], |_| {
                upstream.set("down")?;
                interrupt::sleep(Duration::from_millis(silence))?;
                let now = Instant::now();
                upstream.set("up")?;
                Ok(now)
            })
            .with_context(|| format!("after {silence} ms"))?;
        }
        shortcut::check(lab, 1, guest.namespace(), REMOTE)
    })
}

#[test]
fn streams_that_nobody_answers_lose_nothing() -> Result<()> {
    attached_fast(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let other = lab.guest(2, member)?;
        let (outside, guest, other) = (lab.outside(), guest.namespace(), other.namespace());
        for guest in [guest, other] {
            // With IPv6 they would solicit routers now and then.
            guest.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
        }
        for (from, to, target) in [
            (outside, guest, dc.external(1)),
            (guest, outside, REMOTE),
            (guest, outside, UPSTREAM),
            (guest, other, member.external(2)),
        ] {
            let what = || format!("from {} to {target}", from.name());
            ensure!(
                envnet_lab::ping::ping(from, target, 56, Duration::from_secs(3))?.is_some(),
                "{}: no answer",
                what()
            );
            // Long enough to forget it.
            interrupt::sleep(Duration::from_secs(1))?;
            let (passed, (sent, received)) = through_router(lab, 1, || {
                let stream = Stream::start(from, to, target, Duration::from_millis(2))?;
                interrupt::sleep(Duration::from_secs(3))?;
                stream.end()
            })?;
            ensure!(sent == received, "{}: {received} of {sent} arrived", what());
            ensure!(sent > 1000, "{}: only {sent} were sent", what());
            ensure!(
                passed < sent / 3,
                "{}: {passed} packets for {sent} passed the router",
                what()
            );
        }
        Ok(())
    })
}

//! The host itself, with an address on the uplink, as a machine among those outside: it reaches guests and is reached by
//! them, without being told anything.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::socket::mac;
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{INTERNAL, REMOTE, ROLES, UPSTREAM},
    capture::Frame,
    guest::Guest,
    interrupt,
    namespace::Namespace,
    ping::ping,
};

use crate::{
    fixture::{attached_each, attached_each_way},
    shortcut, traffic,
};

const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 7);
const LENGTH: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(3);
/// The kernel repeats an ARP request after a second: an answer before that is one to the first packet.
const FIRST: Duration = Duration::from_millis(900);

const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;

/// Runs a test while the host has an address on that interface, which it gets when everything is attached already.
fn with_address(lab: &Lab, interface: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
    lab.host().ip(&format!("address add {HOST}/16 dev {interface}"))?;
    lab.host().ip(&format!("route add default via {UPSTREAM}"))?;
    test()?;
    lab.host().ip(&format!("address delete {HOST}/16 dev {interface}"))?;
    Ok(())
}

fn first_ping(from: &Namespace, target: Ipv4Addr) -> Result<()> {
    let answer = ping(from, target, 56, PATIENCE)?;
    let time = answer.with_context(|| format!("{}: no answer from {target}", from.name()))?;
    ensure!(time < FIRST, "{}: {target} missed the first packet", from.name());
    Ok(())
}

fn talk(client: &Namespace, server: &Namespace, target: Ipv4Addr, seen: Ipv4Addr) -> Result<()> {
    let peer = traffic::tcp(client, server, target, LENGTH)?;
    ensure!(peer == IpAddr::from(seen), "over TCP, {target} saw {peer}");
    for length in [10, 1400, 4000] {
        let peer = traffic::udp(client, server, target, length)?;
        let peer = peer.with_context(|| format!("no answer to {length} bytes over UDP to {target}"))?;
        ensure!(peer == IpAddr::from(seen), "over UDP, {target} saw {peer}");
    }
    Ok(())
}

fn guests(lab: &Lab) -> Result<Vec<(u8, Guest)>> {
    let [dc, _] = ROLES;
    let guests = [1, 2].map(|environment| Ok((environment, lab.guest(environment, dc)?)));
    let guests: Vec<_> = guests.into_iter().collect::<Result<_>>()?;
    // Up, and known to nobody but their routers.
    for (_, guest) in &guests {
        ensure!(guest.ping(UPSTREAM)?.is_some(), "a guest is not up");
    }
    Ok(guests)
}

fn host_and_guests(lab: &Lab) -> Result<()> {
    let [dc, _] = ROLES;
    let guests = guests(lab)?;
    let outside = lab.outside();
    // Environment 1 hears of the host first, the host of environment 2.
    first_ping(guests[0].1.namespace(), HOST).context("from guest to host")?;
    first_ping(lab.host(), dc.external(2)).context("from host to guest")?;
    for (environment, guest) in &guests {
        let external = dc.external(*environment);
        first_ping(lab.host(), external)?;
        first_ping(guest.namespace(), HOST)?;
        talk(lab.host(), guest.namespace(), external, HOST).context("from host to guest")?;
        talk(guest.namespace(), lab.host(), HOST, external).context("from guest to host")?;
        shortcut::check(lab, *environment, lab.host(), external).context("from host to guest")?;
        shortcut::check(lab, *environment, guest.namespace(), HOST).context("from guest to host")?;
    }
    // So that it asks anew, and hears answers.
    lab.outside().ip("neighbour flush dev eth0")?;
    first_ping(outside, HOST)?;
    talk(outside, lab.host(), HOST, UPSTREAM).context("from outside to host")?;
    for target in [UPSTREAM, REMOTE] {
        first_ping(lab.host(), target)?;
        talk(lab.host(), outside, target, HOST).context("from host to outside")?;
    }
    // With all that going on, the guests have not lost the outside.
    for (environment, guest) in &guests {
        first_ping(lab.outside(), dc.external(*environment))?;
        first_ping(guest.namespace(), REMOTE)?;
    }
    Ok(())
}

/// What ARP on the wire must look like: an answer for a question, and no talk of the host's with itself.
fn check_wire(lab: &Lab) -> Result<()> {
    let outside = mac(&lab.outside().mac("eth0")?)?;
    let host = mac(&lab.host().mac("eth0")?)?;
    let frames = lab.capture().frames()?;
    let external = |octets: &[u8]| octets.starts_with(&[172, 16]) && octets[2] > 0;
    let arp = |kind: u8, outgoing: bool| {
        frames.iter().filter(move |frame| {
            frame.outgoing == outgoing && frame.bytes[12..14] == [8, 6] && frame.bytes.get(21) == Some(&kind)
        })
    };
    for reply in arp(ARP_REPLY, false) {
        ensure!(
            reply.bytes[..6] == outside,
            "an answer for nobody outside: {:02x?}",
            reply.bytes
        );
    }
    let target = |frame: &&Frame| frame.bytes[38..42].to_vec();
    let sender = |frame: &&Frame| frame.bytes[28..32].to_vec();
    for address in [[172, 16, 1, 2], [172, 16, 2, 2], HOST.octets()] {
        let asked = arp(ARP_REQUEST, true).filter(|frame| target(frame) == address).count();
        let answered = arp(ARP_REPLY, false).filter(|frame| sender(frame) == address).count();
        ensure!(
            asked > 0 && asked == answered,
            "{answered} answers to {asked} questions for {address:?}"
        );
    }
    for question in arp(ARP_REQUEST, false) {
        ensure!(
            question.bytes[6..12] != host || !external(&target(&question)),
            "the host's question for a guest left: {:02x?}",
            question.bytes
        );
    }
    for frame in frames
        .iter()
        .filter(|frame| !frame.outgoing && frame.bytes[12..14] == [8, 0])
    {
        let (from, to) = (&frame.bytes[26..30], &frame.bytes[30..34]);
        ensure!(
            to != HOST.octets() && !external(to) && from[0] != INTERNAL.octets()[0],
            "a packet between host and guests left: {:02x?}",
            frame.bytes
        );
    }
    Ok(())
}

#[test]
fn host_and_guests_reach_each_other() -> Result<()> {
    attached_each_way(|lab| {
        with_address(lab, "eth0", || {
            if lab.is_accelerated() {
                host_and_guests(lab)?;
                return check_wire(lab);
            }
            // The kernel hands nothing from a macvlan to its parent, nor back. Only the host is concerned.
            let [dc, _] = ROLES;
            let guests = guests(lab)?;
            for (environment, guest) in &guests {
                let answer = ping(lab.host(), dc.external(*environment), 56, FIRST)?;
                ensure!(
                    answer.is_none(),
                    "the host reaches a guest without fast path: say so in the documentation"
                );
                ensure!(
                    ping(guest.namespace(), HOST, 56, FIRST)?.is_none(),
                    "a guest reaches the host"
                );
                first_ping(guest.namespace(), REMOTE)?;
            }
            first_ping(lab.host(), REMOTE)?;
            first_ping(lab.outside(), HOST)
        })
    })
}

#[test]
fn host_and_guests_reach_each_other_over_a_bridge() -> Result<()> {
    let each = ["tc", "off"].map(|accelerate| Configuration::default().mode(Mode::Bridge).accelerate(accelerate));
    attached_each(each, |lab| with_address(lab, "br0", || host_and_guests(lab)))
}

/// With `uplink.host = false`, nothing passes between guests and host, and all else does; and it can be changed while it runs.
fn barred(lab: &Lab) -> Result<()> {
    let [dc, _] = ROLES;
    let open = lab.configuration();
    lab.attach_as(open.clone().without_host())?;
    let guests = guests(lab)?;
    let reached = |environment: u8, guest: &Guest| -> Result<[bool; 2]> {
        Ok([
            ping(lab.host(), dc.external(environment), 56, FIRST)?.is_some(),
            ping(guest.namespace(), HOST, 56, FIRST)?.is_some(),
        ])
    };
    for (environment, guest) in &guests {
        first_ping(guest.namespace(), REMOTE)?;
        first_ping(lab.outside(), dc.external(*environment))?;
        let reached = reached(*environment, guest)?;
        ensure!(
            reached == [false; 2],
            "the host reaches a guest, a guest the host: {reached:?}"
        );
    }
    first_ping(guests[0].1.namespace(), dc.external(2))?;
    first_ping(lab.host(), REMOTE)?;
    first_ping(lab.outside(), HOST)?;

    lab.attach_as(open)?;
    if lab.is_accelerated() || lab.configuration().uplink_mode() == Mode::Bridge {
        for (environment, guest) in &guests {
            interrupt::wait_for("host and guest", PATIENCE, || {
                Ok((reached(*environment, guest)? == [true; 2]).then_some(()))
            })?;
        }
    }
    Ok(())
}

#[test]
fn guests_and_a_barred_host_do_not_reach_each_other() -> Result<()> {
    attached_each_way(|lab| with_address(lab, "eth0", || barred(lab)))
}

#[test]
fn guests_and_a_barred_host_do_not_reach_each_other_over_a_bridge() -> Result<()> {
    let each = ["tc", "off"].map(|accelerate| Configuration::default().mode(Mode::Bridge).accelerate(accelerate));
    attached_each(each, |lab| with_address(lab, "br0", || barred(lab)))
}

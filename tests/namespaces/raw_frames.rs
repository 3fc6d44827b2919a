//! What a guest writes to its tap itself: any frame, and any header of a virtual network card in front of it. What it must not send
//! arrives nowhere, and is counted for it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, ROUTER},
    capture::Capture,
    fixture::attached_each_way,
    guest::Guest,
    interrupt::wait_for,
    socket::mac,
    tap::{self, Offload},
};
use etherparse::{PacketBuilder, TcpHeader};

use crate::{
    hostile,
    spoofing::{EVERYBODY, Mac, ROUTER_MAC, arp, drops},
};

/// What a virtual network card puts before a frame (`struct virtio_net_hdr`).
type Header = [u8; 10];

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PATIENCE: Duration = Duration::from_secs(10);
const BAD: &[u8] = b"this must arrive nowhere";
const GOOD: &[u8] = b"and this must arrive";
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const NO_OFFLOAD: Header = [0; 10];

/// A checksum to be summed up from `start` and written `offset` bytes behind that.
fn unfinished(start: usize, offset: usize) -> Header {
    const NEEDS_CSUM: u8 = 1;
    let mut header = [0; 10];
    header[0] = NEEDS_CSUM;
    header[6..8].copy_from_slice(&u16::try_from(start).unwrap_or(0).to_ne_bytes());
    header[8..].copy_from_slice(&u16::try_from(offset).unwrap_or(0).to_ne_bytes());
    header
}

fn udp(macs: [Mac; 2], source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(source.octets(), destination.octets(), 64)
        .udp(9, 9)
        .write(&mut frame, payload)?;
    Ok(frame)
}

fn tcp(macs: [Mac; 2], source: Ipv4Addr, destination: Ipv4Addr) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(source.octets(), destination.octets(), 64)
        .tcp_header(TcpHeader::new(9, 9, 1, 1000))
        .write(&mut frame, BAD)?;
    Ok(frame)
}

fn echo(macs: [Mac; 2], source: Ipv4Addr, destination: Ipv4Addr, number: u16) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(source.octets(), destination.octets(), 64)
        .icmpv4_echo_request(number, 1)
        .write(&mut frame, BAD)?;
    Ok(frame)
}

fn announcement(from: Mac, sender: Ipv4Addr) -> Vec<u8> {
    [arp([from, EVERYBODY], 1, (from, sender), sender), BAD.to_vec()].concat()
}

/// Puts tags between the addresses and the rest.
fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

struct Raw {
    description: String,
    header: Header,
    frame: Vec<u8>,
    /// Why it is dropped.
    reason: &'static str,
}

/// What the first guest of environment 1 must not send.
fn refused() -> Result<Vec<Raw>> {
    let mut raws = tags()?;
    raws.extend(checksums()?);
    raws.extend(lengths()?);
    let [dc, _] = ROLES;
    let frame = udp([mac(dc.mac)?, ROUTER_MAC], dc.internal(), METADATA, BAD)?;
    raws.push(Raw {
        description: "a packet to the metadata service".to_owned(),
        header: NO_OFFLOAD,
        frame,
        reason: "link-local",
    });
    Ok(raws)
}

fn tags() -> Result<Vec<Raw>> {
    let [dc, member] = ROLES;
    let (own, sibling) = (mac(dc.mac)?, mac(member.mac)?);
    let (to_router, to_sibling) = ([own, ROUTER_MAC], [own, sibling]);
    let mut raws = Vec::new();
    let mut add = |description: String, frame, reason| {
        raws.push(Raw {
            description,
            header: NO_OFFLOAD,
            frame,
            reason,
        });
    };
    // Tags in every order and number. The kernel takes one off before a program sees the frame, and its receiver the others.
    let inside = [
        (
            "a packet of its sibling's",
            udp(to_router, member.internal(), REMOTE, BAD)?,
        ),
        ("a packet", udp(to_sibling, dc.internal(), member.internal(), BAD)?),
        ("its sibling's ARP", announcement(own, member.internal())),
    ];
    let kinds: [[u8; 2]; 2] = [[0x81, 0], [0x88, 0xa8]];
    for (first, second) in [(0, 0), (0, 5), (5, 0), (5, 6)] {
        for outer in kinds {
            for inner in kinds {
                let tags = [[outer[0], outer[1], 0, first], [inner[0], inner[1], 0, second]];
                for (what, frame) in &inside {
                    for tags in [&tags[..], &[tags[0], tags[1], tags[1]]] {
                        let description = format!("{what} behind {tags:02x?}");
                        add(description, tagged(frame, tags), "vlan-tagged");
                    }
                }
            }
        }
    }
    let frame = tagged(&udp(to_router, dc.internal(), REMOTE, BAD)?, &[[0x81, 0, 0, 5]]);
    add("a packet to the router in a VLAN".to_owned(), frame, "vlan-tagged");
    for kind in kinds {
        let frame = tagged(&announcement(own, member.internal()), &[[kind[0], kind[1], 0, 0]]);
        add(
            format!("its sibling's ARP behind priority {kind:02x?}"),
            frame,
            "source-spoofed",
        );
    }
    Ok(raws)
}

fn checksums() -> Result<Vec<Raw>> {
    let [dc, member] = ROLES;
    let (own, sibling) = (mac(dc.mac)?, mac(member.mac)?);
    let (to_router, to_sibling) = ([own, ROUTER_MAC], [own, sibling]);
    let mut raws = Vec::new();
    let mut add = |description: String, header, frame| {
        raws.push(Raw {
            description,
            header,
            frame,
            reason: "checksum-misplaced",
        });
    };
    // An unfinished checksum at every place where a check has looked, and some more.
    let arp = announcement(own, dc.internal());
    for start in 0..=40 {
        add(
            format!("its own ARP, summed from {start}"),
            unfinished(start, 0),
            arp.clone(),
        );
    }
    for (what, frame) in [
        (
            "UDP to its sibling",
            udp(to_sibling, dc.internal(), member.internal(), BAD)?,
        ),
        ("UDP to the outside", udp(to_router, dc.internal(), REMOTE, BAD)?),
        ("TCP to the outside", tcp(to_router, dc.internal(), REMOTE)?),
    ] {
        for start in 0..=ETHERNET + IPV4 {
            add(
                format!("{what}, summed from {start}"),
                unfinished(start, 0),
                frame.clone(),
            );
        }
        for (start, offset) in [
            (ETHERNET, 12),
            (ETHERNET, IPV4 + 6),
            (ETHERNET + IPV4, 2),
            (ETHERNET + IPV4, 4),
        ] {
            let header = unfinished(start, offset);
            add(format!("{what}, {start} + {offset}"), header, frame.clone());
        }
    }
    let echo = echo(to_router, dc.internal(), REMOTE, 1)?;
    add("an echo request".to_owned(), unfinished(ETHERNET + IPV4, 2), echo);
    let mut fragment = udp(to_router, dc.internal(), REMOTE, BAD)?;
    fragment[20] = 0x20;
    fragment[24..26].fill(0);
    let sum = hostile::checksum(&fragment[ETHERNET..ETHERNET + IPV4]);
    fragment[24..26].copy_from_slice(&sum);
    add("a first fragment".to_owned(), unfinished(ETHERNET + IPV4, 6), fragment);
    Ok(raws)
}

fn lengths() -> Result<Vec<Raw>> {
    let [dc, member] = ROLES;
    let (own, sibling) = (mac(dc.mac)?, mac(member.mac)?);
    let (to_router, to_sibling) = ([own, ROUTER_MAC], [own, sibling]);
    let mut raws = Vec::new();
    let mut add = |description: String, frame| {
        raws.push(Raw {
            description,
            header: NO_OFFLOAD,
            frame,
            reason: "too-long",
        });
    };
    // Longer than the links.
    for length in [1501, 9000, 60_000] {
        let payload: Vec<u8> = BAD.iter().copied().cycle().take(length - IPV4 - 8).collect();
        for (what, macs, to) in [
            ("to its sibling", to_sibling, member.internal()),
            ("to the outside", to_router, REMOTE),
        ] {
            let frame = udp(macs, dc.internal(), to, &payload)?;
            add(format!("{length} bytes {what}"), frame);
        }
    }
    Ok(raws)
}

fn send(tap: &mut File, header: Header, frame: &[u8]) -> Result<()> {
    ensure!(offer(tap, header, frame)?, "the kernel refuses it");
    Ok(())
}

/// Whether the kernel takes the frame: newer ones look at the header in front of it themselves.
fn offer(tap: &mut File, header: Header, frame: &[u8]) -> Result<bool> {
    match tap.write_all(&[&header[..], frame].concat()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error).context("the tap"),
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Sends good packets until one has arrived everywhere. What was sent before it has arrived by then, if it does at all.
fn flush(lab: &Lab, tap: &mut File, sibling: (&Guest, &Capture)) -> Result<()> {
    let [dc, member] = ROLES;
    let own = mac(dc.mac)?;
    let to_sibling = udp([own, mac(member.mac)?], dc.internal(), member.internal(), GOOD)?;
    let to_outside = udp([own, ROUTER_MAC], dc.internal(), REMOTE, GOOD)?;
    wait_for("good packets at the sibling and outside", PATIENCE, || {
        send(tap, NO_OFFLOAD, &to_sibling)?;
        send(tap, NO_OFFLOAD, &to_outside)?;
        let arrived =
            |capture: &Capture| -> Result<bool> { Ok(capture.frames()?.iter().any(|frame| holds(&frame.bytes, GOOD))) };
        Ok((arrived(sibling.1)? && arrived(lab.capture())?).then_some(()))
    })
}

#[test]
fn what_a_guest_must_not_write_to_its_tap_arrives_nowhere() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        wait_for("the sibling", PATIENCE, || lab.ping(member.external(1)))?;
        let mut tap = tap::open(lab.host(), &dc.tap(1), Offload::Full)?;
        let capture = Capture::start(sibling.namespace(), "eth0")?;
        flush(lab, &mut tap, (&sibling, &capture))?;
        let raws = refused()?;
        let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
        for raw in &raws {
            let sent = offer(&mut tap, raw.header, &raw.frame).with_context(|| raw.description.clone())?;
            *taken.entry(raw.reason).or_default() += u64::from(sent);
        }
        for (reason, expected) in taken {
            ensure!(expected > 0, "the kernel itself refuses all that is {reason}");
            let mut counted = 0;
            let all = wait_for(&format!("{expected} drops as {reason}"), PATIENCE, || {
                counted = drops(lab, reason, dc.internal())?.0;
                Ok((counted == expected).then_some(()))
            });
            all.with_context(|| format!("{counted} of {expected} were dropped as {reason}"))?;
        }
        for (place, frames) in [
            ("the sibling", capture.frames()?),
            ("the outside", lab.capture().frames()?),
        ] {
            let bad = frames.iter().find(|frame| !frame.outgoing && holds(&frame.bytes, BAD));
            let which = bad.map(|bad| format!("{:02x?}", bad.bytes));
            ensure!(which.is_none(), "{place} has received {which:?}");
        }
        Ok(())
    })
}

/// RFC 1122, section 3.3.6.
#[test]
fn a_router_answers_no_unicast_in_a_broadcast() -> Result<()> {
    const IN_A_BROADCAST: u16 = 1;
    const TO_THE_ROUTER: u16 = 2;
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let own = mac(dc.mac)?;
        let mut tap = tap::open(lab.host(), &dc.tap(1), Offload::Full)?;
        // The router must know where to answer to.
        send(&mut tap, NO_OFFLOAD, &announcement(own, dc.internal()))?;
        let mut answered = [0; 2];
        wait_for("an answer of the router", PATIENCE, || {
            for (number, destination) in [(IN_A_BROADCAST, EVERYBODY), (TO_THE_ROUTER, ROUTER_MAC)] {
                send(
                    &mut tap,
                    NO_OFFLOAD,
                    &echo([own, destination], dc.internal(), ROUTER, number)?,
                )?;
            }
            let mut frame = [0; 2048];
            while let Ok(length) = tap.read(&mut frame) {
                let frame = &frame[NO_OFFLOAD.len()..length];
                if is_request_for(frame, dc.internal()) {
                    send(
                        &mut tap,
                        NO_OFFLOAD,
                        &arp([own, ROUTER_MAC], 2, (own, dc.internal()), ROUTER),
                    )?;
                }
                if let Some(number) = echo_reply(frame) {
                    answered[usize::from(number - 1)] += 1;
                }
            }
            Ok((answered[1] > 3).then_some(()))
        })?;
        ensure!(answered[0] == 0, "{answered:?}: the router has answered to a broadcast");
        Ok(())
    })
}

fn is_request_for(frame: &[u8], address: Ipv4Addr) -> bool {
    frame.get(12..14) == Some(&[8, 6]) && frame.get(38..42) == Some(&address.octets())
}

/// The identifier of an echo reply.
fn echo_reply(frame: &[u8]) -> Option<u16> {
    let is_reply = frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1) && frame.get(34) == Some(&0);
    let number = frame.get(38..40)?;
    is_reply.then(|| u16::from_be_bytes([number[0], number[1]]))
}

//! What a guest may not send, frame by frame from a raw socket: it is dropped on the guest's own port, counted for that guest,
//! and hurts nobody.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::socket::mac;
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, ROUTER, UPSTREAM},
    capture::Capture,
    guest::Guest,
    interrupt,
    pings::Pings,
    socket,
};
use etherparse::PacketBuilder;

use crate::{
    fixture::attached_each_way,
    foreign_ports::{self, Newcomer},
};

pub(crate) type Mac = [u8; 6];

pub(crate) const ROUTER_MAC: Mac = [0x02, 0x65, 0x6e, 0x76, 0x00, 0x01];
const STRANGER: Mac = [0x52, 0x54, 0, 0, 0, 0x99];
pub(crate) const EVERYBODY: Mac = [0xff; 6];
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// How often each frame is sent.
const TIMES: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(2);
/// A sibling's pings, and how long it may miss an answer: half as long as somebody tries to take its place.
const INTERVAL: Duration = Duration::from_millis(5);
const UNDISTURBED: Duration = Duration::from_millis(500);
const ATTACK: Duration = Duration::from_millis(10);
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const MARK: &[u8] = b"spoofed or not";

fn udp([source_mac, destination_mac]: [Mac; 2], source: Ipv4Addr, destination: Ipv4Addr) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(source_mac, destination_mac)
        .ipv4(source.octets(), destination.octets(), 64)
        .udp(DHCP_CLIENT, DHCP_SERVER)
        .write(&mut frame, MARK)?;
    Ok(frame)
}

pub(crate) fn arp(
    [source_mac, destination_mac]: [Mac; 2],
    kind: u8,
    sender: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> Vec<u8> {
    let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, kind];
    [
        &destination_mac[..],
        &source_mac,
        &head,
        &sender.0,
        &sender.1.octets(),
        &[0; 6],
        &target.octets(),
        // The rest of the shortest frame.
        &[0; 18],
    ]
    .concat()
}

/// Packets of environment 1 counted as dropped for a reason, for one guest and for all others.
pub(crate) fn drops(lab: &Lab, reason: &str, internal: Ipv4Addr) -> Result<(u64, u64)> {
    let status = lab.status()?;
    let drops = status["drops"].as_array().context("no drops in the status")?;
    let (mut own, mut others) = (0, 0);
    for drop in drops.iter().filter(|drop| drop["reason"] == reason) {
        let packets = drop["packets"].as_u64().context("no number of packets")?;
        if drop["internal"] == internal.to_string() && drop["environment"] == 1 {
            own += packets;
        } else {
            others += packets;
        }
    }
    Ok((own, others))
}

fn check_undisturbed(pings: Pings, start: Instant) -> Result<()> {
    let course = pings.end()?;
    let (silence, lost, sent) = (course.silence(start), course.lost(), course.sent.len());
    ensure!(
        silence < UNDISTURBED,
        "the sibling's pings had no answer for {silence:?}"
    );
    ensure!(lost * 50 <= sent, "{lost} of the sibling's {sent} pings were lost");
    Ok(())
}

struct Spoof {
    name: String,
    frame: Vec<u8>,
    reason: &'static str,
}

/// What the first guest may not send.
fn spoofs() -> Result<Vec<Spoof>> {
    let [dc, member] = ROLES;
    let (own, sibling) = (mac(dc.mac)?, mac(member.mac)?);
    let mut spoofs = Vec::new();
    let mut add = |name: String, reason, frame| spoofs.push(Spoof { name, frame, reason });
    let ways = [
        ("the outside", ROUTER_MAC, REMOTE),
        ("the router", ROUTER_MAC, ROUTER),
        ("the sibling", sibling, member.internal()),
        ("another environment", ROUTER_MAC, member.external(2)),
        ("everybody", EVERYBODY, Ipv4Addr::BROADCAST),
    ];
    for (name, to, destination) in ways {
        let sources = [
            NOBODY,
            FOREIGN,
            member.internal(),
            ROUTER,
            dc.external(1),
            dc.external(2),
        ];
        // Siblings may have what is nobody's among themselves.
        let free = |source| to != ROUTER_MAC && [NOBODY, FOREIGN].contains(&source);
        for source in sources.into_iter().filter(|source| !free(*source)) {
            let frame = udp([own, to], source, destination)?;
            add(format!("a packet from {source} to {name}"), "source-spoofed", frame);
        }
        for (who, from) in [
            ("a stranger's", STRANGER),
            ("the sibling's", sibling),
            ("the router's", ROUTER_MAC),
        ] {
            let frame = udp([from, to], dc.internal(), destination)?;
            add(
                format!("a packet from {who} Ethernet address to {name}"),
                "mac-spoofed",
                frame,
            );
        }
    }
    // Only who speaks to everybody may have no address yet.
    let frame = udp([own, ROUTER_MAC], ANY, REMOTE)?;
    add(
        "a packet from 0.0.0.0 to the outside".to_owned(),
        "source-spoofed",
        frame,
    );
    for kind in [1, 2] {
        for (sender, target) in [
            (NOBODY, ROUTER),
            (member.internal(), member.internal()),
            (ROUTER, member.internal()),
            (UPSTREAM, member.internal()),
        ] {
            let frame = arp([own, EVERYBODY], kind, (own, sender), target);
            add(format!("ARP {kind} for {sender}"), "source-spoofed", frame);
        }
        for claimed in [STRANGER, sibling, ROUTER_MAC] {
            let frame = arp([own, EVERYBODY], kind, (claimed, dc.internal()), member.internal());
            add(format!("ARP {kind} that claims {claimed:02x?}"), "mac-spoofed", frame);
            let frame = arp([claimed, EVERYBODY], kind, (claimed, dc.internal()), member.internal());
            add(format!("ARP {kind} from {claimed:02x?}"), "mac-spoofed", frame);
        }
    }
    Ok(spoofs)
}

#[test]
fn what_a_guest_may_not_send_is_dropped_and_counted() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        let other = lab.guest(2, member)?;
        for guest in [&guest, &sibling, &other] {
            ensure!(guest.ping(REMOTE)?.is_some(), "a guest is not up");
        }
        ensure!(guest.ping(member.internal())?.is_some(), "the sibling is not up");
        let received: Vec<_> = [&sibling, &other]
            .into_iter()
            .map(|guest| Capture::start(guest.namespace(), "eth0"))
            .collect::<Result<_>>()?;
        let undisturbed = [
            Pings::start(sibling.namespace(), REMOTE, INTERVAL)?,
            Pings::start(lab.outside(), member.external(1), INTERVAL)?,
        ];
        let start = Instant::now();
        let socket = guest.namespace().run(|| socket::frames("eth0"))?;
        for Spoof { name, frame, reason } in spoofs()? {
            let before = drops(lab, reason, dc.internal())?;
            for _ in 0..TIMES {
                socket.send(&frame).with_context(|| name.clone())?;
            }
            let wanted = (before.0 + TIMES, before.1);
            interrupt::wait_for(&format!("{name}, counted as {reason}"), PATIENCE, || {
                Ok((drops(lab, reason, dc.internal())? == wanted).then_some(()))
            })?;
        }
        for pings in undisturbed {
            check_undisturbed(pings, start)?;
        }
        for capture in received.iter().chain([lab.capture()]) {
            let frames = capture.frames()?;
            let spoofed = frames.iter().find(|frame| {
                let from_guest = frame.bytes.windows(MARK.len()).any(|bytes| bytes == MARK);
                let claimed = frame.bytes[12..14] == [8, 6] && frame.bytes.get(22..28) == Some(&STRANGER);
                from_guest || claimed
            });
            ensure!(spoofed.is_none(), "this came through: {spoofed:02x?}");
        }
        ensure!(guest.ping(REMOTE)?.is_some(), "the guest itself has lost the outside");
        ensure!(lab.ping(dc.external(1))?.is_some(), "the outside has lost the guest");
        Ok(())
    })
}

/// Where no Ethernet address is configured, it is whatever the guest says, but nobody takes one from somebody else.
#[test]
fn a_learned_ethernet_address_is_not_taken_by_a_sibling() -> Result<()> {
    attached_each_way(|lab| {
        lab.attach_as(lab.configuration().without_macs())?;
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        ensure!(guest.ping(REMOTE)?.is_some(), "the guest is not up");
        ensure!(sibling.ping(REMOTE)?.is_some(), "the sibling is not up");
        let pings = Pings::start(sibling.namespace(), REMOTE, INTERVAL)?;
        let start = Instant::now();
        interrupt::sleep(Duration::from_millis(100))?;
        let socket = guest.namespace().run(|| socket::frames("eth0"))?;
        for (name, claimed) in [("the sibling's", mac(member.mac)?), ("the router's", ROUTER_MAC)] {
            let before = drops(lab, "mac-spoofed", dc.internal())?.0;
            let frames = [
                udp([claimed, ROUTER_MAC], dc.internal(), REMOTE)?,
                arp([claimed, EVERYBODY], 1, (claimed, dc.internal()), ROUTER),
            ];
            for frame in frames.iter().cycle().take(100) {
                socket.send(frame)?;
                interrupt::sleep(ATTACK)?;
            }
            let counted = drops(lab, "mac-spoofed", dc.internal())?.0 - before;
            ensure!(
                counted == 100,
                "{counted} of 100 frames from {name} address were counted"
            );
        }
        check_undisturbed(pings, start)?;
        ensure!(
            lab.ping(member.external(1))?.is_some(),
            "the outside has lost the sibling"
        );
        Ok(())
    })
}

/// A port that somebody else has plugged in may be anybody's, but not who speaks elsewhere.
#[test]
fn on_a_foreign_port_nobody_speaks_for_a_sibling() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        let newcomer = Newcomer::machine(lab, dc)?;
        foreign_ports::plug(lab)?;
        lab.attach()?;
        ensure!(lab.ping(dc.external(1))?.is_some(), "the newcomer is not up");
        ensure!(sibling.ping(REMOTE)?.is_some(), "the sibling is not up");
        let pings = [
            Pings::start(sibling.namespace(), REMOTE, INTERVAL)?,
            Pings::start(lab.outside(), member.external(1), INTERVAL)?,
        ];
        let start = Instant::now();
        interrupt::sleep(Duration::from_millis(100))?;
        let (own, siblings) = (mac(dc.mac)?, mac(member.mac)?);
        let socket = newcomer.namespace().run(|| socket::frames("eth0"))?;
        for (reason, source_mac, source) in [
            ("source-spoofed", own, member.internal()),
            // The address is mapped, but to one Ethernet address.
            ("mac-spoofed", own, ROUTER),
            ("source-spoofed", own, NOBODY),
            ("mac-spoofed", siblings, dc.internal()),
            ("mac-spoofed", ROUTER_MAC, dc.internal()),
        ] {
            let all = |(own, others): (u64, u64)| own + others;
            let before = all(drops(lab, reason, dc.internal())?);
            let frames = [
                udp([source_mac, ROUTER_MAC], source, REMOTE)?,
                arp([source_mac, EVERYBODY], 1, (source_mac, source), ROUTER),
            ];
            for frame in frames.iter().cycle().take(100) {
                socket.send(frame)?;
                interrupt::sleep(ATTACK)?;
            }
            let counted = all(drops(lab, reason, dc.internal())?) - before;
            ensure!(
                counted == 100,
                "{counted} of 100 frames from {source}, {source_mac:02x?} were counted as {reason}"
            );
        }
        for pings in pings {
            let silence = pings.end()?.silence(start);
            ensure!(
                silence < UNDISTURBED,
                "the sibling's pings had no answer for {silence:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn who_has_no_address_yet_may_ask_for_one() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        ensure!(guest.ping(member.internal())?.is_some(), "the sibling is not up");
        let own = mac(dc.mac)?;
        let server = sibling.namespace().run(|| Ok(UdpSocket::bind((ANY, DHCP_SERVER))?))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let socket = guest.namespace().run(|| socket::frames("eth0"))?;
        // RFC 2131, section 4.1; section 4.3.2 lets who has its address already renew it by broadcast.
        for source in [ANY, dc.internal()] {
            socket.send(&udp([own, EVERYBODY], source, Ipv4Addr::BROADCAST)?)?;
            let mut buffer = [0; 64];
            let (length, _) = server
                .recv_from(&mut buffer)
                .with_context(|| format!("from {source}"))?;
            ensure!(&buffer[..length] == MARK, "something else came");
        }
        // RFC 5227, section 2.1.1: the owner of the address answers who probes it.
        let answers = Capture::start(guest.namespace(), "eth0")?;
        socket.send(&arp([own, EVERYBODY], 1, (own, ANY), member.internal()))?;
        interrupt::wait_for("an answer to the probe", PATIENCE, || {
            let frames = answers.frames()?;
            let answer = frames.iter().find(|frame| {
                !frame.outgoing
                    && frame.bytes[12..14] == [8, 6]
                    && frame.bytes[21] == 2
                    && frame.bytes[28..32] == member.internal().octets()
            });
            Ok(answer.map(drop))
        })?;
        check_nothing_dropped(lab, &guest)
    })
}

fn check_nothing_dropped(lab: &Lab, guest: &Guest) -> Result<()> {
    for reason in ["source-spoofed", "mac-spoofed"] {
        let (own, others) = drops(lab, reason, guest.address())?;
        ensure!(own + others == 0, "{own} and {others} dropped as {reason}");
    }
    Ok(())
}

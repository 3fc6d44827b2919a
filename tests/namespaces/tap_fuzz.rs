//! Random frames with random headers of a virtual network card, through a guest's tap: whatever arrives anywhere is the guest's own.
//! `ENVNET_FUZZ_FRAMES=1000000` sends that many on each path.

use std::{env, io::Write as _, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, ROUTER},
    capture::{Capture, Frame},
    fixture::attached_each_way,
    guest::Guest,
    interrupt::wait_for,
    socket::mac,
    tap::{self, Offload},
};

use crate::{
    hostile::Random,
    spoofing::{EVERYBODY, Mac, ROUTER_MAC},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of what a guest sends, so that it is known again.
const MARK: &[u8] = b"from a tap";
/// Frames between two looks at what has arrived.
const ROUND: u64 = 5000;

/// A frame as a guest might send it, with what its card says about it in front.
fn raw(random: &mut Random) -> Result<Vec<u8>> {
    let [dc, member] = ROLES;
    let (own, sibling) = (mac(dc.mac)?, mac(member.mac)?);
    let addresses = [
        dc.internal(),
        dc.internal(),
        member.internal(),
        ROUTER,
        REMOTE,
        dc.external(1),
        member.external(1),
        member.external(2),
        Ipv4Addr::new(10, 0, 0, 77),
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
    ];
    let sources = [own, own, own, sibling, ROUTER_MAC, [2, 0, 0, 0, 0, 9]];
    let destinations = [
        ROUTER_MAC,
        ROUTER_MAC,
        sibling,
        EVERYBODY,
        [1, 0x80, 0xc2, 0, 0, 0],
        [1, 0, 0x5e, 0, 0, 5],
    ];
    let source = random.pick(&sources);
    let mut frame = [random.pick(&destinations), source].concat();
    let tags = random.pick(&[0, 0, 0, 0, 1, 2, 3]);
    for _ in 0..tags {
        let kind = random.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]);
        // One tag makes a VLAN of the guests, in which all addresses are theirs.
        let vlan = if tags > 1 { random.pick(&[0, 0, 5]) } else { 0 };
        frame.extend([kind[0], kind[1], 0, vlan]);
    }
    let behind_tags = frame.len();
    let length = random.pick(&[20, 60, 60, 400, 1460, 3000, 20_000]);
    let payload: Vec<u8> = MARK.iter().copied().cycle().take(length).collect();
    let (from, to) = (random.pick(&addresses), random.pick(&addresses));
    match random.below(8) {
        0..=5 => frame.extend(ipv4(random, from, to, &payload)),
        6 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, random.pick(&[1, 2])]);
            frame.extend(random.pick(&[source, source, own, sibling]));
            frame.extend(from.octets());
            frame.extend([0; 6]);
            frame.extend(to.octets());
            frame.extend(MARK);
        }
        _ => {
            frame.extend(random.pick(&[[0x86, 0xdd], [0x88, 0xcc], [0x12, 0x34]]));
            frame.extend(payload);
        }
    }
    // Now and then something is broken that nobody has thought of.
    for _ in 0..random.pick(&[0, 0, 0, 1, 3]) {
        let at = behind_tags + usize::try_from(random.below(50)).unwrap_or(0);
        let at = at.min(frame.len() - 1);
        frame[at] = random.next().to_le_bytes()[0];
    }
    let mut raw = header(random);
    raw.extend(frame);
    Ok(raw)
}

/// `struct virtio_net_hdr`.
fn header(random: &mut Random) -> Vec<u8> {
    let flags = random.pick(&[0, 0, 1, 1, 1, 2, 3]);
    let segments = random.pick(&[0, 0, 0, 0, 1, 3, 4, 5, 0x81]);
    let start: u16 = random.pick(&[14, 18, 20, 22, 26, 28, 30, 34, 34, 34, 38, 42, 54, 62, 70]);
    let offset: u16 = random.pick(&[0, 0, 2, 4, 6, 6, 8, 10, 12, 16, 16, 24]);
    let words = [
        random.pick(&[0_u16, 34, 42, 54, 1000]),
        random.pick(&[0_u16, 1, 100, 1448, 30_000]),
        start,
        offset,
    ];
    [flags, segments]
        .into_iter()
        .chain(words.into_iter().flat_map(u16::to_ne_bytes))
        .collect()
}

fn ipv4(random: &mut Random, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let protocol = random.pick(&[1, 6, 17, 17, 47, 132]);
    let mut transport = vec![0, 9, 0, 9];
    if protocol == 17 {
        transport.extend(u16::try_from(payload.len() + 8).unwrap_or(0).to_be_bytes());
        transport.extend([0, 0]);
    } else {
        transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 16, 0, 0, 0, 0, 0]);
    }
    let total = u16::try_from(20 + transport.len() + payload.len()).unwrap_or(u16::MAX);
    let [high, low] = total.to_be_bytes();
    let fragment = random.pick(&[[0, 0], [0, 0], [0x40, 0], [0x20, 0], [0, 9]]);
    let mut header = vec![
        0x45,
        0,
        high,
        low,
        0,
        1,
        fragment[0],
        fragment[1],
        random.pick(&[1, 64]),
        protocol,
        0,
        0,
    ];
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = crate::hostile::checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&[8, 0][..], &header, &transport, payload].concat()
}

/// The IPv4 address that a frame gives as its source, if it does.
fn source(frame: &[u8]) -> Option<Ipv4Addr> {
    let at = match frame.get(12..14)? {
        [8, 0] => 26,
        [8, 6] => 28,
        _ => return None,
    };
    Some(Ipv4Addr::from(*frame.get(at..)?.first_chunk::<4>()?))
}

/// Nobody has received anything of the guest's in somebody else's name.
fn judge(place: &str, frames: &[Frame], forbidden: &[Ipv4Addr], routers: Mac) -> Result<usize> {
    let mut judged = 0;
    for frame in frames.iter().filter(|frame| !frame.outgoing) {
        let bytes = &frame.bytes;
        // What a sibling has answered quotes it, and is nobody's forgery.
        let answer = bytes.get(12..14) == Some(&[8, 0]) && bytes.get(23) == Some(&1);
        let marked = bytes.windows(MARK.len()).any(|bytes| bytes == MARK);
        if bytes[6..12] == routers && !marked || answer {
            continue;
        }
        judged += usize::from(marked);
        let forged = source(bytes).is_some_and(|source| forbidden.contains(&source));
        ensure!(!forged, "{place} has received {bytes:02x?}");
    }
    Ok(judged)
}

fn fuzz(lab: &Lab, random: &mut Random, sibling: &Guest, frames: u64) -> Result<(usize, usize)> {
    let [dc, member] = ROLES;
    let mut tap = tap::open(lab.host(), &dc.tap(1), Offload::Full)?;
    let (mut taken, mut arrived) = (0, 0);
    for _ in 0..frames.div_ceil(ROUND) {
        let inside = Capture::start(sibling.namespace(), "eth0")?;
        let outside = Capture::start(lab.outside(), "eth0")?;
        for _ in 0..ROUND {
            // The kernel refuses some itself.
            taken += usize::from(tap.write_all(&raw(random)?).is_ok());
        }
        wait_for("the sibling, after all that", PATIENCE, || sibling.ping(REMOTE))?;
        arrived += judge(
            "the sibling",
            &inside.frames()?,
            &[member.internal(), ROUTER],
            ROUTER_MAC,
        )?;
        let externals = [
            member.external(1),
            dc.external(2),
            member.external(2),
            dc.internal(),
            member.internal(),
        ];
        arrived += judge("the outside", &outside.frames()?, &externals, [0; 6])?;
    }
    Ok((taken, arrived))
}

#[test]
fn whatever_a_guest_writes_to_its_tap_is_in_its_own_name() -> Result<()> {
    let frames = env::var("ENVNET_FUZZ_FRAMES").ok();
    let frames = frames
        .map_or(Ok(ROUND), |frames| frames.parse())
        .context("ENVNET_FUZZ_FRAMES")?;
    attached_each_way(|lab| {
        let [_, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        wait_for("the sibling", PATIENCE, || lab.ping(member.external(1)))?;
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (taken, arrived) = fuzz(lab, &mut random, &sibling, frames)?;
        println!("{taken} frames taken, {arrived} arrived somewhere");
        ensure!(
            arrived > 100,
            "only {arrived} of {taken} frames have arrived: nothing is tested"
        );
        Ok(())
    })
}

//! One guest that tries address after address: its routers ask for a few of them only, on every path.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_common::limit::Kind;
use envnet_lab::{
    addresses::{REMOTE, ROLES},
    capture::{Capture, Frame},
    fixture::attached_each_way,
    interrupt::wait_for,
    socket::mac,
    tap::{self, Offload},
};
use etherparse::PacketBuilder;

use crate::spoofing::{ROUTER_MAC, drops};

const PATIENCE: Duration = Duration::from_secs(10);
const ROUNDS: usize = 10;

fn send(tap: &mut File, destination: Ipv4Addr) -> Result<()> {
    let [dc, _] = ROLES;
    let mut frame = vec![0; 10];
    PacketBuilder::ethernet2(mac(dc.mac)?, ROUTER_MAC)
        .ipv4(dc.internal().octets(), destination.octets(), 64)
        .udp(9, 9)
        .write(&mut frame, b"anybody there?")?;
    tap.write_all(&frame).context("the tap")
}

/// The addresses of a list that somebody has asked for by ARP.
fn asked_for(frames: &[Frame], among: &BTreeSet<Ipv4Addr>) -> usize {
    let requests = frames.iter().filter(|frame| frame.bytes[12..14] == [8, 6]);
    let targets = requests.filter_map(|frame| Some(Ipv4Addr::from(*frame.bytes.get(38..)?.first_chunk::<4>()?)));
    targets.collect::<BTreeSet<_>>().intersection(among).count()
}

#[test]
fn who_tries_address_after_address_is_cut_short() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let sibling = lab.guest(1, member)?;
        wait_for("the sibling", PATIENCE, || sibling.ping(REMOTE))?;
        let mut tap = tap::open(lab.host(), &dc.tap(1), Offload::Full)?;
        let inside = Capture::start(sibling.namespace(), "eth0")?;
        let unused: BTreeSet<Ipv4Addr> = (0..1000_u32)
            .map(|number| Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 200, 0).to_bits() + number))
            .chain((100..250).map(|number| Ipv4Addr::new(10, 0, 0, number)))
            .collect();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            unused.iter().try_for_each(|address| send(&mut tap, *address))?;
        }
        let sent = u64::try_from(ROUNDS * unused.len())?;
        wait_for("most of them to be dropped", PATIENCE, || {
            Ok((drops(lab, "rate-limited", dc.internal())?.0 > sent / 2).then_some(()))
        })?;
        let asked = asked_for(&inside.frames()?, &unused) + asked_for(&lab.capture().frames()?, &unused);
        let seconds = i64::try_from(start.elapsed().as_secs() + 2)?;
        let most = usize::try_from(Kind::Contact.burst() + Kind::Contact.rate() * seconds)?;
        ensure!(
            asked > 0 && asked <= most,
            "the router has asked for {asked} addresses, of {most}"
        );
        wait_for("an answer from the outside", PATIENCE, || sibling.ping(REMOTE))?;
        wait_for("the sibling's answer", PATIENCE, || lab.ping(member.external(1)))?;
        Ok(())
    })
}

//! An address of the internal prefix that the file gives to no machine. A guest that takes it has it among its siblings, and
//! nowhere else.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, Mode,
    addresses::{INTERNAL_PREFIX, REMOTE, ROLES, external, internal},
    fixture::{attached_each_way, attached_with},
    interrupt,
    namespace::Namespace,
};

/// The host part of the alias.
const ALIAS: u8 = 77;
const PORT: u16 = 9;
const PATIENCE: Duration = Duration::from_secs(5);
const TO_ALIAS: &[u8] = b"alias";
const TO_GUEST: &[u8] = b"guest";

/// Packets of environment 1 that were dropped for a reason.
fn drops(lab: &Lab, reason: &str) -> Result<u64> {
    let status = lab.status()?;
    let drops = status["drops"].as_array().context("no drops in the status")?;
    let drops = drops
        .iter()
        .filter(|drop| drop["environment"] == 1 && drop["reason"] == reason);
    Ok(drops.filter_map(|drop| drop["packets"].as_u64()).sum())
}

/// Sends one datagram.
fn send(from: &Namespace, target: Ipv4Addr, data: &[u8]) -> Result<()> {
    let socket = from.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    socket
        .send_to(data, (target, PORT))
        .map(drop)
        .with_context(|| format!("a datagram to {target}"))
}

/// The next datagram, which must be there soon.
fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut data = [0; 16];
    let length = socket.recv(&mut data).context("no datagram came")?;
    Ok(data[..length].to_vec())
}

fn known_to_siblings_only(lab: &Lab) -> Result<()> {
    let [dc, member] = ROLES;
    let (guest, sibling, stranger) = (lab.guest(1, dc)?, lab.guest(1, member)?, lab.guest(2, member)?);
    for guest in [&guest, &sibling, &stranger] {
        interrupt::wait_for("an answer from the outside", PATIENCE, || guest.ping(REMOTE))?;
    }
    let (alias, outside) = (internal(ALIAS), external(1, ALIAS));
    guest
        .namespace()
        .ip(&format!("address add {alias}/{INTERNAL_PREFIX} dev eth0"))?;
    interrupt::wait_for("an answer from the alias", PATIENCE, || sibling.ping(alias))?;

    // All of the guest's addresses; what is for the alias would come to it, too.
    let listener = guest
        .namespace()
        .run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    listener.set_read_timeout(Some(PATIENCE))?;
    // The outside asks by ARP, and nobody answers; the capture is looked at below.
    send(lab.outside(), outside, TO_ALIAS)?;
    // Who knows the router's Ethernet address need not ask.
    let router_mac = lab.router(1)?.mac("gw1")?;
    let router = lab.router(2)?;
    for (sender, name, neighbour, interface) in [
        (lab.outside(), "the outside", lab.outside(), "eth0"),
        (stranger.namespace(), "another environment", &router, "gw2"),
    ] {
        neighbour.ip(&format!(
            "neighbour replace {outside} lladdr {router_mac} dev {interface} nud permanent"
        ))?;
        let before = drops(lab, "destination-unmapped")?;
        send(sender, outside, TO_ALIAS)?;
        let what = format!("a datagram from {name} to the alias, counted as dropped");
        interrupt::wait_for(&what, PATIENCE, || {
            Ok((drops(lab, "destination-unmapped")? > before).then_some(()))
        })?;
        // The same way to an address that is mapped.
        send(sender, dc.external(1), TO_GUEST)?;
        let data = receive(&listener).with_context(|| format!("from {name}"))?;
        ensure!(
            data == TO_GUEST,
            "the datagram that {name} sent to the {} came",
            data.escape_ascii()
        );
    }
    let frames = lab.capture().frames()?;
    let answer = frames.iter().find(|frame| {
        !frame.outgoing && frame.bytes[12..14] == [8, 6] && frame.bytes.get(28..32) == Some(&outside.octets())
    });
    ensure!(answer.is_none(), "somebody has answered for {outside}: {answer:02x?}");
    // It still has the alias.
    ensure!(sibling.ping(alias)?.is_some(), "the sibling has lost the alias");
    Ok(())
}

#[test]
fn an_alias_is_known_to_the_siblings_only() -> Result<()> {
    attached_each_way(known_to_siblings_only)
}

#[test]
fn an_alias_is_known_to_the_siblings_only_behind_a_bridge() -> Result<()> {
    attached_with(Configuration::default().mode(Mode::Bridge), known_to_siblings_only)
}

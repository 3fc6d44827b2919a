//! A floating address: the last of the environment's machines to announce it has it, as with VRRP (RFC 9568), and addresses that
//! machines have among themselves.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, Role},
    fixture::attached_each_way,
    guest::Guest,
    interrupt::wait_for,
    ping::ping,
    socket,
};

use crate::spoofing::{EVERYBODY, arp};

const FLOATING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 9);
/// Of the subnet, and in no file.
const ALIAS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
/// Behind a sibling that routes.
const BEHIND: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
const PATIENCE: Duration = Duration::from_secs(5);
const NO_ANSWER: Duration = Duration::from_millis(900);

/// Takes the address and announces it (RFC 5227, section 2.3).
fn hold(guest: &Guest) -> Result<()> {
    guest.namespace().ip(&format!("address add {FLOATING}/24 dev eth0"))?;
    let own = socket::mac(&guest.namespace().mac("eth0")?)?;
    let announcement = arp([own, EVERYBODY], 1, (own, FLOATING), FLOATING);
    let socket = guest.namespace().run(|| socket::frames("eth0"))?;
    socket.send(&announcement)?;
    Ok(())
}

fn let_go(guest: &Guest) -> Result<()> {
    guest
        .namespace()
        .ip(&format!("address delete {FLOATING}/24 dev eth0"))
        .map(drop)
}

/// Who has answered to a ping of the floating address shows by the port that envnet has heard it on.
fn held_at(lab: &Lab, tap: &str) -> Result<bool> {
    let status = lab.status()?;
    let guests = status["environments"][0]["guests"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let floating = guests.iter().find(|guest| guest["internal"] == FLOATING.to_string());
    Ok(floating.is_some_and(|guest| guest["tap"] == tap))
}

/// Sends to the outside from an address, and then from the machine's own, and says from whom the outside has heard until that.
fn heard(lab: &Lab, guest: &Guest, from: Ipv4Addr, machine: Role) -> Result<Vec<Ipv4Addr>> {
    let listener = lab.outside().run(|| Ok(UdpSocket::bind((REMOTE, 0))?))?;
    listener.set_read_timeout(Some(PATIENCE))?;
    let to = listener.local_addr()?;
    let mut heard = Vec::new();
    for from in [from, machine.internal()] {
        let socket = guest.namespace().run(|| Ok(UdpSocket::bind((from, 0))?))?;
        socket.send_to(b"hello", to)?;
    }
    while heard.last() != Some(&machine.external(1)) {
        let (_, sender) = listener.recv_from(&mut [0; 16])?;
        if let IpAddr::V4(sender) = sender.ip() {
            heard.push(sender);
        }
    }
    Ok(heard)
}

fn reached(lab: &Lab, other: &Guest, sibling: &Guest) -> Result<()> {
    wait_for("an answer to the outside", PATIENCE, || lab.ping(OUTSIDE))?;
    wait_for("an answer to another environment", PATIENCE, || other.ping(OUTSIDE))?;
    wait_for("an answer to a sibling", PATIENCE, || sibling.ping(FLOATING))?;
    Ok(())
}

#[test]
fn a_floating_address_follows_who_announces_it() -> Result<()> {
    attached_each_way(|lab| {
        lab.attach_as(lab.configuration().floating(FLOATING))?;
        let [dc, member] = ROLES;
        let (first, second, other) = (lab.guest(1, dc)?, lab.guest(1, member)?, lab.guest(2, dc)?);
        for guest in [&first, &second, &other] {
            wait_for("the guests", PATIENCE, || guest.ping(REMOTE))?;
        }
        hold(&first)?;
        reached(lab, &other, &second)?;
        ensure!(held_at(lab, &dc.tap(1))?, "{}", lab.status()?);
        // To the outside, too.
        ensure!(
            heard(lab, &first, FLOATING, dc)? == [OUTSIDE, dc.external(1)],
            "not from the floating address"
        );
        for _ in 0..3 {
            let_go(&first)?;
            hold(&second)?;
            reached(lab, &other, &first)?;
            ensure!(held_at(lab, &member.tap(1))?, "{}", lab.status()?);
            let_go(&second)?;
            hold(&first)?;
            reached(lab, &other, &second)?;
        }
        ensure!(
            ping(lab.outside(), dc.external(1), 56, PATIENCE)?.is_some(),
            "its own address is lost"
        );
        Ok(())
    })
}

#[test]
fn siblings_have_addresses_among_themselves() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let (first, second) = (lab.guest(1, dc)?, lab.guest(1, member)?);
        wait_for("the guests", PATIENCE, || second.ping(REMOTE))?;
        first.namespace().ip(&format!("address add {ALIAS}/24 dev eth0"))?;
        first.namespace().ip(&format!("address add {BEHIND}/32 dev lo"))?;
        second
            .namespace()
            .ip(&format!("route add {BEHIND}/32 via {}", dc.internal()))?;
        for address in [ALIAS, BEHIND] {
            wait_for(&format!("{address} at its sibling"), PATIENCE, || second.ping(address))?;
        }
        // Neither leaves: nobody outside could answer.
        for address in [ALIAS, BEHIND] {
            let heard = heard(lab, &first, address, dc)?;
            ensure!(
                heard == [dc.external(1)],
                "from {address}, the outside has heard {heard:?}"
            );
        }
        let alias = Ipv4Addr::new(172, 16, 1, 77);
        ensure!(ping(lab.outside(), alias, 56, NO_ANSWER)?.is_none(), "{alias} answers");
        Ok(())
    })
}

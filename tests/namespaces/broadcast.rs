//! Broadcasts and multicasts: all siblings receive them, and nobody else. The worked example of `tests/README.md`.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    addresses::{REMOTE, ROLES, UPSTREAM},
    fixture::attached_each_way,
    interrupt,
    namespace::Namespace,
};

const PORT: u16 = 5353;
/// Multicast on the own link only (RFC 5771, section 4).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const OF_THE_SUBNET: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 255);
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that receives what is for everybody, and for the group.
fn listen(namespace: &Namespace, own: Ipv4Addr) -> Result<UdpSocket> {
    namespace.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket.set_nonblocking(true)?;
        socket
            .join_multicast_v4(&GROUP, &own)
            .with_context(|| format!("{own} cannot join {GROUP}"))?;
        Ok(socket)
    })
}

/// The next datagram's first byte, if one has come.
fn received(socket: &UdpSocket) -> Result<Option<u8>> {
    let mut data = [0];
    match socket.recv(&mut data) {
        Ok(_) => Ok(Some(data[0])),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn what_is_for_everybody_reaches_the_siblings_only() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, member] = ROLES;
        let (guest, sibling, stranger) = (lab.guest(1, dc)?, lab.guest(1, member)?, lab.guest(2, member)?);
        for guest in [&guest, &sibling, &stranger] {
            interrupt::wait_for("an answer from the outside", PATIENCE, || guest.ping(REMOTE))?;
        }
        let sibling = listen(sibling.namespace(), member.internal())?;
        let others = [
            listen(stranger.namespace(), member.internal())?,
            listen(lab.outside(), UPSTREAM)?,
            // It has no address; nothing that it could join is there.
            lab.host().run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?,
        ];
        others[2].set_nonblocking(true)?;
        let sender = guest.namespace().run(|| Ok(UdpSocket::bind((dc.internal(), 0))?))?;
        sender.set_broadcast(true)?;
        for (number, target) in (0..).zip([OF_THE_SUBNET, Ipv4Addr::BROADCAST, GROUP]) {
            sender.send_to(&[number], (target, PORT))?;
            let got = interrupt::wait_for(&format!("a datagram to {target}"), PATIENCE, || received(&sibling))?;
            ensure!(got == number, "datagram {got} came instead of the one to {target}");
        }
        for other in &others {
            let got = received(other)?;
            ensure!(got.is_none(), "datagram {got:?} has left environment 1");
        }
        Ok(())
    })
}

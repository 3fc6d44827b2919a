//! ICMP errors: who reports them, and do they reach the socket that caused them? The kernel is the judge: it hands an
//! error to a socket only if the packet inside is one that this socket sent.

use std::{
    io::IoSliceMut,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::{
    addresses::{self, REMOTE, ROLES, ROUTER, UPSTREAM},
    interrupt,
    namespace::Namespace,
};
use nix::{
    libc,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt},
};

use crate::{
    fixture::{attached, attached_each_way, attached_slowly},
    traffic,
};

const PORT: u16 = 9;
const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(3);
/// The narrow place on the path, in bytes.
const NARROW: u32 = 1280;
/// A network behind the outside.
const FAR_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// An ICMP error as the socket that caused it is told.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    from: Ipv4Addr,
    kind: u8,
    code: u8,
    /// The MTU, where one is reported.
    mtu: u32,
}

/// Sends a datagram that must not be fragmented, and returns the error it provokes.
fn provoke(client: &Namespace, target: Ipv4Addr, ttl: u32, length: usize) -> Result<Report> {
    let socket = client.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    socket.set_ttl(ttl)?;
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    envnet_lab::socket::set_option(
        &socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        &libc::IP_PMTUDISC_PROBE,
    )?;
    socket.send_to(&vec![0; length], SocketAddr::from((target, PORT)))?;
    interrupt::wait_for(
        &format!("an ICMP error for {length} bytes to {target}, TTL {ttl}"),
        PATIENCE,
        || report(&socket),
    )
}

fn report(socket: &UdpSocket) -> Result<Option<Report>> {
    let mut data = [0; 64];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let mut data = [IoSliceMut::new(&mut data)];
    let message = match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut data, Some(&mut control), flags) {
        Err(nix::Error::EAGAIN) => return Ok(None),
        message => message.context("the error queue")?,
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, Some(from)) = control {
            let from = Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes());
            return Ok(Some(Report {
                from,
                kind: error.ee_type,
                code: error.ee_code,
                mtu: error.ee_info,
            }));
        }
    }
    bail!("an error without its origin");
}

fn closed_port(from: Ipv4Addr) -> Report {
    Report {
        from,
        kind: UNREACHABLE,
        code: PORT_UNREACHABLE,
        mtu: 0,
    }
}

fn hop(from: Ipv4Addr) -> Report {
    Report {
        from,
        kind: TIME_EXCEEDED,
        code: 0,
        mtu: 0,
    }
}

fn narrow(from: Ipv4Addr) -> Report {
    Report {
        from,
        kind: UNREACHABLE,
        code: FRAGMENTATION_NEEDED,
        mtu: NARROW,
    }
}

fn check_hops(client: &Namespace, target: Ipv4Addr, hops: &[Report]) -> Result<()> {
    for (ttl, expected) in (1..).zip(hops) {
        let report = provoke(client, target, ttl, 100)?;
        ensure!(
            report == *expected,
            "towards {target}, TTL {ttl}: {report:?}, expected {expected:?}"
        );
    }
    Ok(())
}

/// A host behind the outside, so that the outside is a router on the way.
fn far(lab: &envnet_lab::Lab) -> Result<Namespace> {
    let far = Namespace::create(&format!("{}-far", lab.outside().name()))?;
    lab.outside()
        .ip(&format!("link add far type veth peer name eth0 netns {}", far.name()))?;
    lab.outside().ip(&format!("address add {FAR_ROUTER}/24 dev far"))?;
    lab.outside().ip("link set far up")?;
    far.ip(&format!("address add {FAR}/24 dev eth0"))?;
    far.ip("link set eth0 up")?;
    far.ip(&format!("route add default via {FAR_ROUTER}"))?;
    Ok(far)
}

#[test]
fn traceroute_names_every_hop() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        let _other = lab.guest(2, dc)?;
        let _far = far(lab)?;
        let inwards = [hop(addresses::external(1, 1)), closed_port(dc.external(1))];
        check_hops(lab.outside(), dc.external(1), &inwards)?;
        let outwards = [hop(ROUTER), hop(UPSTREAM), closed_port(FAR)];
        check_hops(guest.namespace(), FAR, &outwards)?;
        let across = [hop(ROUTER), hop(addresses::external(2, 1)), closed_port(dc.external(2))];
        check_hops(guest.namespace(), dc.external(2), &across)
    })
}

#[test]
fn closed_ports_are_reported() -> Result<()> {
    attached(|lab| {
        let [dc, member] = ROLES;
        let guest = lab.guest(1, dc)?;
        let _sibling = lab.guest(1, member)?;
        for target in [UPSTREAM, REMOTE, dc.external(1), member.external(1)] {
            let report = provoke(guest.namespace(), target, 64, 100)?;
            ensure!(report == closed_port(target), "{report:?}");
        }
        Ok(())
    })
}

#[test]
fn path_mtu_discovery_works_outwards() -> Result<()> {
    attached_each_way(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        let far = far(lab)?;
        lab.outside().ip(&format!(
            "route change 198.51.100.0/24 dev far src {FAR_ROUTER} mtu {NARROW}"
        ))?;
        let report = provoke(guest.namespace(), FAR, 64, 1400)?;
        ensure!(report == narrow(UPSTREAM), "{report:?}");
        traffic::tcp(guest.namespace(), &far, FAR, 1 << 20)?;
        Ok(())
    })
}

#[test]
fn path_mtu_discovery_works_inwards() -> Result<()> {
    attached_slowly(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        lab.router(1)?.ip(&format!(
            "route change 10.0.0.0/24 dev peer1-gw1 proto kernel scope link src {ROUTER} mtu {NARROW}"
        ))?;
        let report = provoke(lab.outside(), dc.external(1), 64, 1400)?;
        ensure!(report == narrow(addresses::external(1, 1)), "{report:?}");
        traffic::tcp(lab.outside(), guest.namespace(), dc.external(1), 1 << 20)?;
        Ok(())
    })
}

/// Makes both ways out of an environment's router narrower than its links are.
fn narrow_routes(lab: &envnet_lab::Lab) -> Result<()> {
    let router = lab.router(1)?;
    for interface in ["gw1", "peer1-gw1"] {
        let shown = router.ip(&format!("route show dev {interface}"))?;
        for route in shown.lines() {
            router.ip(&format!("route change {} dev {interface} mtu {NARROW}", route.trim()))?;
        }
    }
    Ok(())
}

#[test]
fn the_router_itself_reports_what_is_too_large() -> Result<()> {
    attached_slowly(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(guest.ping(UPSTREAM)?.is_some(), "the guest is not up");
        narrow_routes(lab)?;
        let report = provoke(guest.namespace(), UPSTREAM, 64, 1400)?;
        ensure!(report == narrow(ROUTER), "{report:?}");
        traffic::tcp(guest.namespace(), lab.outside(), UPSTREAM, 1 << 20).map(drop)
    })
}

#[test]
fn the_router_fragments_what_may_be_fragmented() -> Result<()> {
    attached_slowly(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(guest.ping(UPSTREAM)?.is_some(), "the guest is not up");
        narrow_routes(lab)?;
        // Without path MTU discovery nothing is sent with DF.
        for end in [lab.outside(), guest.namespace()] {
            end.set_sysctl("net/ipv4/ip_no_pmtu_disc", "1")?;
        }
        for length in [1400, 1472, 4000] {
            traffic::udp(guest.namespace(), lab.outside(), UPSTREAM, length)?
                .with_context(|| format!("{length} bytes outwards"))?;
            traffic::udp(lab.outside(), guest.namespace(), dc.external(1), length)?
                .with_context(|| format!("{length} bytes inwards"))?;
        }
        let ours = |bytes: &[u8]| bytes[12..14] == [8, 0] && bytes[26..30] == dc.external(1).octets();
        let frames = lab.capture().frames()?;
        let lengths: Vec<u32> = frames
            .iter()
            .filter(|frame| ours(&frame.bytes))
            .map(|frame| u32::from(u16::from_be_bytes([frame.bytes[16], frame.bytes[17]])))
            .collect();
        ensure!(
            lengths.len() > 6 && lengths.iter().all(|length| *length <= NARROW),
            "the uplink saw packets of {lengths:?} bytes"
        );
        Ok(())
    })
}

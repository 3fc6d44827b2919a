//! The host takes no part in an environment, even when its administrator, or other software, makes it a router, a proxy for
//! ARP and a listener to router advertisements after envnet has attached.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use envnet_lab::socket::mac;
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES},
    interrupt, socket,
};
use etherparse::PacketBuilder;

use crate::fixture::attached;

const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
/// An address of the host that no guest may reach through its tap.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const ROUTER_ADVERTISEMENT: u8 = 134;
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const GUEST_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// Undoes what envnet has set on its own bridge, and makes the host what envnet's users' hosts may be.
fn make_host_curious(lab: &Lab) -> Result<()> {
    lab.host().ip("address add 172.16.0.10/16 dev eth0")?;
    lab.host().ip("route add default via 172.16.0.1")?;
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/proxy_arp", "1"),
        ("net/ipv4/conf/br1/forwarding", "1"),
        ("net/ipv4/conf/br1/arp_ignore", "0"),
        ("net/ipv4/conf/br1/rp_filter", "0"),
        ("net/ipv6/conf/br1/disable_ipv6", "0"),
        ("net/ipv6/conf/br1/accept_ra", "2"),
    ] {
        lab.host().set_sysctl(key, value)?;
    }
    Ok(())
}

fn make_host_ordinary(lab: &Lab) -> Result<()> {
    lab.host().set_sysctl("net/ipv4/ip_forward", "0")?;
    lab.host().set_sysctl("net/ipv4/conf/all/proxy_arp", "0")?;
    lab.host().ip("address flush dev eth0 scope global")?;
    Ok(())
}

#[test]
fn the_host_hears_nothing_whatever_its_sysctls_say() -> Result<()> {
    attached(|lab| {
        let [dc, _] = ROLES;
        let guest = lab.guest(1, dc)?;
        ensure!(guest.ping(REMOTE)?.is_some(), "the guest is not up");
        make_host_curious(lab)?;
        let (guest_mac, bridge_mac) = (mac(dc.mac)?, mac(&lab.host().mac("br1")?)?);
        let socket = guest.namespace().run(|| socket::frames("eth0"))?;

        // A router advertisement with a prefix to make an address of, and the guest as default router.
        let mut prefix = vec![0; 8];
        prefix.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        prefix.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(guest_mac, ALL_NODES_MAC)
            .ipv6(GUEST_LINK_LOCAL, ALL_NODES, 255)
            .icmpv6_raw(ROUTER_ADVERTISEMENT, 0, [64, 0, 0x0e, 0x10])
            .write(&mut frame, &prefix)?;
        socket.send(&frame)?;
        // A packet for the outside, handed to the host instead of the router.
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(guest_mac, bridge_mac)
            .ipv4(dc.internal().octets(), REMOTE.octets(), 64)
            .udp(1000, 9)
            .write(&mut frame, b"not this way")?;
        socket.send(&frame)?;
        // Groups whose frames a bridge does not forward but hands to the host on the port itself (IEEE 802.1D, 7.12.6).
        lab.host().ip(&format!("address add {HOST} dev lo"))?;
        let service = lab.host().run(|| Ok(UdpSocket::bind((HOST, 0))?))?;
        service.set_read_timeout(Some(Duration::from_millis(500)))?;
        for group in 0..=0x0f {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(guest_mac, [0x01, 0x80, 0xc2, 0, 0, group])
                .ipv4(dc.internal().octets(), HOST.octets(), 64)
                .udp(1000, service.local_addr()?.port())
                .write(&mut frame, b"past the bridge")?;
            socket.send(&frame)?;
        }
        ensure!(
            service.recv(&mut [0; 64]).is_err(),
            "the host has received something from the guest"
        );
        lab.host().ip(&format!("address delete {HOST} dev lo"))?;
        // A question that only a proxy would answer.
        ensure!(guest.ping(NOBODY)?.is_none(), "somebody answers for {NOBODY}");
        interrupt::sleep(Duration::from_millis(500))?;

        let addresses = lab.host().ip("-6 -oneline address show dev br1")?;
        ensure!(
            !addresses.contains("2001:db8"),
            "the guest has given the host an address: {addresses}"
        );
        let routes = lab.host().ip("-6 route show")?;
        ensure!(
            !routes.contains("default"),
            "the guest has given the host a route: {routes}"
        );
        let neighbour = guest.namespace().ip(&format!("neighbour show {NOBODY}"))?;
        ensure!(
            !neighbour.contains("lladdr"),
            "the host answers for {NOBODY}: {neighbour}"
        );
        ensure!(guest.ping(REMOTE)?.is_some(), "the guest has lost the outside");
        make_host_ordinary(lab)
    })
}

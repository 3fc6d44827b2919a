//! Tunnels of guests' kernels. Of a packet in VXLAN (RFC 7348), a guest with checksum offload finishes the outer checksum and
//! leaves the inner one to the receiver.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;
use envnet_lab::{
    Lab,
    addresses::{REMOTE, ROLES, UPSTREAM},
    fixture::attached_each_way,
    interrupt::wait_for,
    namespace::Namespace,
    tap::Offload,
    traffic,
};

const PATIENCE: Duration = Duration::from_secs(10);
const BYTES: usize = 300_000;

/// Makes one end of a tunnel, whose outer checksums are computed.
fn tunnel(namespace: &Namespace, interface: &str, remote: Ipv4Addr, inner: Ipv4Addr) -> Result<()> {
    let kind = format!("vxlan id 7 remote {remote} dstport 4789 dev {interface} udpcsum");
    namespace.ip(&format!("link add vx0 mtu 1400 type {kind}"))?;
    namespace.ip(&format!("address add {inner}/24 dev vx0"))?;
    namespace.ip("link set vx0 up").map(drop)
}

fn carries_tcp(lab: &Lab, offload: Offload) -> Result<()> {
    let [dc, _] = ROLES;
    let [first, second] = [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2)];
    let guest = lab.guest_on(dc.tap(1), 1, dc, offload)?;
    wait_for("an answer from the outside", PATIENCE, || guest.ping(REMOTE))?;

    let other = lab.guest_on(dc.tap(2), 2, dc, offload)?;
    tunnel(guest.namespace(), "eth0", dc.external(2), first)?;
    tunnel(other.namespace(), "eth0", dc.external(1), second)?;
    traffic::tcp(guest.namespace(), other.namespace(), second, BYTES)?;
    traffic::tcp(other.namespace(), guest.namespace(), first, BYTES)?;

    guest.namespace().ip("link delete vx0")?;
    tunnel(guest.namespace(), "eth0", UPSTREAM, first)?;
    tunnel(lab.outside(), "eth0", dc.external(1), second)?;
    traffic::tcp(guest.namespace(), lab.outside(), second, BYTES)?;
    traffic::tcp(lab.outside(), guest.namespace(), first, BYTES)?;
    lab.outside().ip("link delete vx0").map(drop)
}

#[test]
fn vxlan_carries_tcp() -> Result<()> {
    attached_each_way(|lab| {
        carries_tcp(lab, Offload::Full)?;
        carries_tcp(lab, Offload::None)
    })
}

//! Who answers ARP for a guest that is not there yet, or not there any more. The script that envnet replaces lost its
//! guests this way: a host that proxied ARP answered in their place, and the router believed it for ever.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Lab,
    addresses::{ROLES, Role},
    interrupt,
};

use crate::fixture::detached;

/// A guest must be reachable this long after it came: link watch, then the router's next ARP request.
const SOON: Duration = Duration::from_secs(4);

/// What the script needed of the host, and other software may ask of it.
const PROXYING: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/proxy_arp", "1"),
    ("net/ipv4/conf/default/proxy_arp", "1"),
];

/// Runs a test on a host that routes, proxies ARP and has a default route.
fn on_a_proxying_host(test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    detached(|lab| {
        lab.host().ip("address add 172.16.0.10/16 dev eth0")?;
        lab.host().ip("route add default via 172.16.0.1")?;
        for (key, value) in PROXYING {
            lab.host().set_sysctl(key, value)?;
        }
        lab.attach()?;
        test(lab)?;
        for (key, _) in PROXYING {
            lab.host().set_sysctl(key, "0")?;
        }
        lab.host().ip("address flush dev eth0")?;
        Ok(())
    })
}

fn reachable_soon(lab: &Lab, role: Role) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < SOON {
        if envnet_lab::ping::ping(lab.outside(), role.external(1), 56, Duration::from_millis(200))?.is_some() {
            return Ok(());
        }
    }
    Err(anyhow::anyhow!("not reachable {} s after it came", SOON.as_secs()))
}

#[test]
fn a_guest_asked_for_too_early_is_reachable_when_it_comes() -> Result<()> {
    on_a_proxying_host(|lab| {
        let [dc, _] = ROLES;
        ensure!(
            lab.ping(dc.external(1))?.is_none(),
            "something answers for a guest that is not there"
        );
        let _guest = lab.guest(1, dc)?;
        reachable_soon(lab, dc)
    })
}

#[test]
fn a_guest_that_leaves_is_reachable_when_it_comes_back() -> Result<()> {
    on_a_proxying_host(|lab| {
        let [dc, member] = ROLES;
        let mut guest = lab.guest(1, dc)?;
        let sibling = lab.guest(1, member)?;
        reachable_soon(lab, dc).context("before")?;
        guest.unplug();
        ensure!(
            lab.ping(dc.external(1))?.is_none(),
            "something answers for a guest that left"
        );
        ensure!(sibling.ping(dc.internal())?.is_none(), "something answers the sibling");
        // Long enough for the router to give its ARP entry up and ask anew.
        interrupt::sleep(Duration::from_secs(5))?;
        ensure!(
            lab.ping(dc.external(1))?.is_none(),
            "something answers for a guest that left"
        );
        guest.plug(lab.host())?;
        reachable_soon(lab, dc).context("after")?;
        ensure!(sibling.ping(dc.internal())?.is_some(), "the sibling is still lost");
        Ok(())
    })
}

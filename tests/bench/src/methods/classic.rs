//! The topology that all methods have in common and envnet makes by itself: per environment a bridge, a namespace as
//! router, a macvlan towards the uplink and two taps, as in the classic script.
//!
//! Two things differ from it: the macvlan is in bridge mode, because otherwise environments cannot reach each other, and
//! the host does not proxy ARP, because then it answers in the guests' place (docs/first-packet.md).

use std::net::Ipv4Addr;

use anyhow::Result;
use envnet_lab::{
    addresses::{INTERNAL_PREFIX, ROLES, UPSTREAM, external},
    namespace::Namespace,
};

use super::{ENVIRONMENTS, Standing};
use crate::testbed::{Testbed, UPLINK, batch};

/// The routers; their removal takes what is connected to them along.
pub(crate) struct Classic {
    pub(super) routers: Vec<Namespace>,
}

impl Standing for Classic {}

impl Classic {
    /// Builds all environments. `inside` is the router's address on the inside if it has one of its own there.
    pub(super) fn build(testbed: &Testbed, inside: Option<Ipv4Addr>) -> Result<Self> {
        let routers = (1..=ENVIRONMENTS)
            .map(|environment| {
                let router = Namespace::create(&format!("{}-ns{environment}", testbed.host.name()))?;
                host_side(testbed, environment, &router)?;
                router_side(environment, &router, inside)?;
                Ok(router)
            })
            .collect::<Result<_>>()?;
        Ok(Self { routers })
    }

    /// Each router with the number of its environment.
    pub(super) fn routers(&self) -> impl Iterator<Item = (u8, &Namespace)> {
        (1..).zip(&self.routers)
    }
}

fn host_side(testbed: &Testbed, environment: u8, router: &Namespace) -> Result<()> {
    let router = router.name();
    let taps = ROLES.map(|role| {
        let tap = role.tap(environment);
        format!("tuntap add dev {tap} mode tap\nlink set {tap} master br{environment} up\n")
    });
    batch(
        &testbed.host,
        &format!(
            "link add br{environment} type bridge\n\
             link set br{environment} up\n\
             link add gw{environment} link {UPLINK} netns {router} type macvlan mode bridge\n\
             link add peer1-br{environment} type veth peer name peer1-gw{environment} netns {router}\n\
             link set peer1-br{environment} master br{environment} up\n\
             {}",
            taps.concat()
        ),
    )
}

fn router_side(environment: u8, router: &Namespace, inside: Option<Ipv4Addr>) -> Result<()> {
    router.set_sysctl("net/ipv4/ip_forward", "1")?;
    for conf in ["all", "default"] {
        router.set_sysctl(&format!("net/ipv4/conf/{conf}/proxy_arp"), "1")?;
        router.set_sysctl(&format!("net/ipv6/conf/{conf}/disable_ipv6"), "1")?;
    }
    // A network card has verified the checksums of what it hands over, the generator's frames are verified by nobody: that
    // it is done in software here is no fault of connection tracking.
    router.set_sysctl("net/netfilter/nf_conntrack_checksum", "0")?;
    let inside = inside.map_or(String::new(), |address| {
        format!("address add {address}/{INTERNAL_PREFIX} dev peer1-gw{environment}\n")
    });
    batch(
        router,
        &format!(
            "address add {}/16 dev gw{environment}\n\
             link set gw{environment} up\n\
             route add default via {UPSTREAM}\n\
             {inside}\
             link set peer1-gw{environment} up\n\
             route add {}/{INTERNAL_PREFIX} dev peer1-gw{environment}\n",
            external(environment, 1),
            external(environment, 0),
        ),
    )
}

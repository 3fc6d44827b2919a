//! The classic setup, rebuilt: a bridge, a namespace as router with DNAT and SNAT by iptables, and a host that proxies ARP.
//!
//! It shows the fault that envnet does not have (docs/first-packet.md): a guest that was asked for before it was up stays
//! unreachable until it speaks to its default gateway itself, because the host has answered ARP in its place.

use std::{net::Ipv4Addr, process, time::Duration};

use anyhow::{Result, ensure};
use envnet_lab::{interrupt, namespace::Namespace, ping::ping, process::output};

const GUEST_INTERNAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GUEST_EXTERNAL: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The four machines of the setup.
struct Setup {
    outside: Namespace,
    host: Namespace,
    router: Namespace,
    guest: Namespace,
}

impl Setup {
    /// Builds everything up to a guest whose cable is plugged in but which has no address yet.
    fn new(name: &str, host_proxies_arp: bool) -> Result<Self> {
        let make = |role: &str| Namespace::create(&format!("envnet-{name}-{}-{role}", process::id()));
        let (outside, host, router, guest) = (make("out")?, make("host")?, make("ns1")?, make("vm")?);
        let on = |namespace: &Namespace, commands: &[&str]| -> Result<()> {
            commands
                .iter()
                .try_for_each(|arguments| namespace.ip(arguments).map(drop))
        };

        on(
            &outside,
            &[&format!("link add eth0 type veth peer name eth0 netns {}", host.name())],
        )?;
        on(&outside, &["address add 172.16.0.1/16 dev eth0", "link set eth0 up"])?;
        // Any host has a default route: it is what makes the host think it knows a way to 10.0.0.2.
        let own = [
            "address add 172.16.0.10/16 dev eth0",
            "link set eth0 up",
            "route add default via 172.16.0.1",
        ];
        on(&host, &own)?;

        for namespace in [&host, &router] {
            namespace.set_sysctl("net/ipv4/ip_forward", "1")?;
        }
        for (namespace, proxies) in [(&host, host_proxies_arp), (&router, true)] {
            for conf in ["all", "default"] {
                let key = format!("net/ipv4/conf/{conf}/proxy_arp");
                namespace.set_sysctl(&key, if proxies { "1" } else { "0" })?;
            }
        }

        on(
            &host,
            &[
                "link add br1 type bridge",
                "link set br1 up",
                &format!("link add gw1 link eth0 netns {} type macvlan", router.name()),
                &format!(
                    "link add peer1-br1 type veth peer name peer1-gw1 netns {}",
                    router.name()
                ),
                "link set peer1-br1 master br1 up",
                &format!("link add vm1.2 type veth peer name eth0 netns {}", guest.name()),
                "link set vm1.2 master br1 up",
            ],
        )?;
        on(
            &router,
            &[
                "address add 172.16.1.1/16 dev gw1",
                "link set gw1 up",
                "route add default via 172.16.0.1",
                "address add 10.0.0.1/24 dev peer1-gw1",
                "link set peer1-gw1 up",
                "route add 172.16.1.0/24 dev peer1-gw1",
            ],
        )?;
        for rule in [
            "PREROUTING -d 172.16.1.2 -j DNAT --to-destination 10.0.0.2",
            "POSTROUTING -s 10.0.0.2 -j SNAT --to-source 172.16.1.2",
        ] {
            let mut iptables = router.command("iptables");
            output(
                iptables
                    .args(["--wait", "--table", "nat", "--append"])
                    .args(rule.split(' ')),
            )?;
        }
        interrupt::sleep(Duration::from_millis(300))?;
        Ok(Self {
            outside,
            host,
            router,
            guest,
        })
    }

    fn start_guest(&self) -> Result<()> {
        for arguments in [
            "address add 10.0.0.2/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.0.0.1",
        ] {
            self.guest.ip(arguments)?;
        }
        interrupt::sleep(Duration::from_millis(500))
    }

    /// Whether one of three pings from outside is answered.
    fn is_reachable(&self) -> Result<bool> {
        for _ in 0..3 {
            if ping(&self.outside, GUEST_EXTERNAL, 56, Duration::from_secs(1))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The Ethernet address that the router believes the guest to have.
    fn believed_mac(&self) -> Result<String> {
        let entry = self
            .router
            .ip(&format!("neighbour show {GUEST_INTERNAL} dev peer1-gw1"))?;
        let mut words = entry.split_ascii_whitespace().skip_while(|word| *word != "lladdr");
        Ok(words.nth(1).unwrap_or("none").to_owned())
    }
}

#[test]
fn the_classic_setup_loses_a_guest_that_is_asked_for_too_early() -> Result<()> {
    let setup = Setup::new("note", true)?;
    ensure!(!setup.is_reachable()?, "nobody can answer for a guest without address");
    ensure!(
        setup.believed_mac()? == setup.host.mac("br1")?,
        "the host's proxy ARP did not get into the router's neighbour table"
    );

    setup.start_guest()?;
    ensure!(
        !setup.is_reachable()?,
        "the guest is reachable, although the router sends its packets to the host"
    );
    interrupt::sleep(Duration::from_secs(8))?;
    ensure!(!setup.is_reachable()?, "the wrong entry healed by itself");

    // What its users found: a ping of the default gateway from inside, whose ARP request corrects the router.
    ensure!(
        ping(&setup.guest, ROUTER, 56, Duration::from_secs(2))?.is_some(),
        "the guest cannot reach its default gateway"
    );
    ensure!(
        setup.believed_mac()? == setup.guest.mac("eth0")?,
        "the router still does not know the guest"
    );
    ensure!(
        setup.is_reachable()?,
        "the guest is unreachable although the router knows it"
    );
    Ok(())
}

#[test]
fn the_classic_setup_works_when_the_host_does_not_proxy_arp() -> Result<()> {
    let setup = Setup::new("control", false)?;
    ensure!(!setup.is_reachable()?, "nobody can answer for a guest without address");
    setup.start_guest()?;
    interrupt::sleep(Duration::from_secs(1))?;
    ensure!(
        setup.is_reachable()?,
        "the guest is unreachable for another reason than the host's proxy ARP"
    );
    Ok(())
}

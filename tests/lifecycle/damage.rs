//! Somebody damages what envnet has made: `status` says so, `attach` repairs it, `detach` removes what is left.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use envnet::{
    kernel::pinned_maps::PinnedMaps,
    names::{Instance, ROUTER_WAN_INDEX_BASE},
};
use envnet_lab::{
    Configuration, Lab, Mode,
    fixture::{converged, detached_each_mode, detached_with, restored},
    namespace::Namespace,
    process,
};

/// Something that happens to environment 1.
struct Damage {
    what: &'static str,
    happen: fn(&Lab) -> Result<()>,
}

const fn damage(what: &'static str, happen: fn(&Lab) -> Result<()>) -> Damage {
    Damage { what, happen }
}

/// To what both uplink modes have.
const EVERYWHERE: &[Damage] = &[
    damage("bridge deleted", |lab| in_host(lab, "link delete br1")),
    damage("bridge down", |lab| in_host(lab, "link set br1 down")),
    damage("bridge with another address", |lab| {
        in_host(lab, "link set br1 address 02:00:00:00:00:77")
    }),
    damage("bridge with another MTU", |lab| in_host(lab, "link set br1 mtu 1400")),
    damage("tap deleted", |lab| in_host(lab, "link delete vm1.2")),
    damage("tap down", |lab| in_host(lab, "link set vm1.2 down")),
    damage("tap unplugged", |lab| in_host(lab, "link set vm1.2 nomaster")),
    damage("tap with another MTU", |lab| in_host(lab, "link set vm1.2 mtu 1400")),
    damage("tap that keeps link-local groups", |lab| {
        in_host(lab, "link set vm1.2 type bridge_slave group_fwd_mask 0")
    }),
    damage("router's port deleted", |lab| in_host(lab, "link delete peer1-br1")),
    damage("router's port unplugged", |lab| {
        in_host(lab, "link set peer1-br1 nomaster")
    }),
    damage("router's namespace deleted", |lab| {
        process::output(process::command("ip").args(["netns", "delete", &format!("{}-ns1", lab.host().name())]))
            .map(drop)
    }),
    damage("router's loopback down", |lab| in_router(lab, "link set lo down")),
    damage("router's inside down", |lab| in_router(lab, "link set peer1-gw1 down")),
    damage("router's inside with another address", |lab| {
        in_router(lab, "link set peer1-gw1 address 02:00:00:00:00:77")
    }),
    damage("router's inside deleted", |lab| in_router(lab, "link delete peer1-gw1")),
    damage("WAN port deleted", |lab| in_router(lab, "link delete gw1")),
    damage("WAN port down", |lab| in_router(lab, "link set gw1 down")),
    damage("WAN port with another MTU", |lab| {
        in_router(lab, "link set gw1 mtu 1400")
    }),
    damage("router without its address", |lab| {
        in_router(lab, "address flush dev peer1-gw1")
    }),
    damage("router with one more address", |lab| {
        in_router(lab, "address add 10.0.0.77/24 dev peer1-gw1")
    }),
    damage("router without a route", |lab| in_router(lab, "route delete default")),
    damage("router that does not forward", |lab| {
        lab.router(1)?.set_sysctl("net/ipv4/ip_forward", "0")
    }),
    damage("host that answers ARP", |lab| {
        lab.host().set_sysctl("net/ipv4/conf/br1/arp_ignore", "0")
    }),
    damage("qdisc of the bridge deleted", |lab| {
        tc(lab.host(), "qdisc delete dev br1 clsact")
    }),
    damage("qdisc of a tap deleted", |lab| {
        tc(lab.host(), "qdisc delete dev vm1.2 clsact")
    }),
    damage("filter of a tap deleted", |lab| {
        tc(lab.host(), "filter delete dev vm1.2 ingress")
    }),
    damage("qdisc of the WAN port deleted", |lab| {
        tc(&lab.router(1)?, "qdisc delete dev gw1 clsact")
    }),
    // It takes the filters of both directions and runs them all on the way in.
    damage("WAN port with an ingress qdisc", |lab| {
        replace_by_ingress(&lab.router(1)?, "gw1")
    }),
    damage("router's port with an ingress qdisc", |lab| {
        replace_by_ingress(lab.host(), "peer1-br1")
    }),
    damage("all pins deleted", |lab| Ok(fs::remove_dir_all(pins(lab))?)),
    damage("pins of all programs deleted", |lab| {
        Ok(fs::remove_dir_all(programs(lab)?)?)
    }),
    damage("pin of a program deleted", |lab| {
        Ok(fs::remove_file(programs(lab)?.join("guest_ingress"))?)
    }),
    damage("pins of all maps deleted", |lab| Ok(fs::remove_dir_all(maps(lab)?)?)),
    damage("pin of a map deleted", |lab| {
        Ok(fs::remove_file(maps(lab)?.join("MAPPINGS"))?)
    }),
    damage("environment not in the maps", |lab| {
        Ok(tables(lab)?.environments.remove(&(ROUTER_WAN_INDEX_BASE + 1))?)
    }),
    damage("no mappings in the maps", |lab| {
        let mut mappings = tables(lab)?.mappings;
        let keys: Vec<_> = mappings.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| mappings.remove(key))?)
    }),
    damage("no counters in the maps", |lab| {
        let mut counters = tables(lab)?.counters;
        let keys: Vec<_> = counters.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| counters.remove(key))?)
    }),
    damage("no endpoints in the maps", |lab| {
        let mut endpoints = tables(lab)?.endpoints;
        let keys: Vec<_> = endpoints.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| endpoints.remove(key))?)
    }),
    damage("no ports in the maps", |lab| {
        let mut ports = tables(lab)?.ports;
        let keys: Vec<_> = ports.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| ports.remove(key))?)
    }),
    damage("no taps in the maps", |lab| {
        let mut taps = tables(lab)?.taps;
        let keys: Vec<_> = taps.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| taps.remove(*key))?)
    }),
    damage("no WAN ports in the maps", |lab| {
        let mut router_wans = tables(lab)?.router_wans;
        let keys: Vec<_> = router_wans.keys().collect::<Result<_, _>>()?;
        Ok(keys.iter().try_for_each(|key| router_wans.remove(key))?)
    }),
    damage("no uplink in the maps", |lab| {
        Ok(tables(lab)?.uplink.set(0, envnet_common::maps::Uplink::default(), 0)?)
    }),
];

/// To what macvlan mode has.
const ON_THE_UPLINK: &[Damage] = &[
    damage("pin of a link deleted", |lab| {
        Ok(fs::remove_file(pins(lab).join("links/eth0-ingress"))?)
    }),
    damage("pins of all links deleted", |lab| {
        Ok(fs::remove_dir_all(pins(lab).join("links"))?)
    }),
    damage("WAN port in another mode", |lab| {
        in_router(lab, "link set gw1 type macvlan mode private")
    }),
];

/// To what bridge mode has.
const ON_THE_BRIDGE: &[Damage] = &[
    damage("uplink port deleted", |lab| in_host(lab, "link delete peer2-gw1")),
    damage("uplink port unplugged", |lab| {
        in_host(lab, "link set peer2-gw1 nomaster")
    }),
    damage("uplink port with an ingress qdisc", |lab| {
        replace_by_ingress(lab.host(), "peer2-gw1")
    }),
    damage("uplink port without its qdisc", |lab| {
        tc(lab.host(), "qdisc delete dev peer2-gw1 clsact")
    }),
];

#[test]
fn what_is_damaged_is_seen_and_repaired() -> Result<()> {
    each_damage(|lab, _| {
        ensure!(!is_intact(lab)?, "the status does not say so");
        converged(lab)?;
        ensure!(is_intact(lab)?, "the status still says so");
        Ok(())
    })
}

/// What the status says of environment 1.
fn is_intact(lab: &Lab) -> Result<bool> {
    let status = lab.status()?;
    let environments = status["environments"].as_array().context("no environments")?;
    let [environment] = &environments[..] else {
        anyhow::bail!("{} environments in the status", environments.len());
    };
    environment["intact"].as_bool().context("no word about it")
}

#[test]
fn what_is_damaged_is_removed_all_the_same() -> Result<()> {
    each_damage(|lab, before| {
        lab.detach()?;
        restored(lab, before)
    })
}

/// Where every program is pinned, pins that are made anew take the places of those that are of no use any more.
#[test]
fn links_made_anew_have_their_programs_however_they_are_attached() -> Result<()> {
    detached_with(Configuration::default().hook("tcx"), |lab| {
        for link in ["br1", "vm1.2", "peer1-br1"] {
            lab.attach()?;
            in_host(lab, &format!("link delete {link}"))?;
            lab.attach()?;
            ensure!(
                lab.envnet().changes("attach")? == 0,
                "{link}: a second attach changes something"
            );
        }
        lab.detach().map(drop)
    })
}

/// An ingress qdisc on a link without envnet's programs is somebody else's affair.
#[test]
fn an_ingress_qdisc_is_tolerated_where_nothing_is_attached() -> Result<()> {
    detached_with(Configuration::default().accelerate("off"), |lab| {
        lab.attach()?;
        // There may be none.
        let deleted = tc(lab.host(), "qdisc delete dev peer1-br1 clsact");
        tc(lab.host(), "qdisc add dev peer1-br1 ingress").with_context(|| format!("{deleted:?}"))?;
        ensure!(lab.envnet().changes("attach")? == 0, "attach changes something");
        lab.detach().map(drop)
    })
}

/// Runs a test after each damage to a running environment; `test` is also told what the host was before that.
fn each_damage(test: impl Fn(&Lab, &str) -> Result<()>) -> Result<()> {
    detached_each_mode(|lab, mode, before| {
        // What both have, in one of them is enough.
        let (common, more) = match mode {
            Mode::Macvlan => (EVERYWHERE, ON_THE_UPLINK),
            Mode::Bridge => (&[][..], ON_THE_BRIDGE),
        };
        let mut failures = Vec::new();
        for Damage { what, happen } in common.iter().chain(more) {
            lab.attach()?;
            let tested = happen(lab).context("doing damage").and_then(|()| test(lab, before));
            if let Err(error) = tested {
                failures.push(format!("{what}: {error:#}"));
                lab.detach()?;
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    })
}

fn in_host(lab: &Lab, arguments: &str) -> Result<()> {
    lab.host().ip(arguments).map(drop)
}

fn in_router(lab: &Lab, arguments: &str) -> Result<()> {
    lab.router(1)?.ip(arguments).map(drop)
}

fn tc(namespace: &Namespace, arguments: &str) -> Result<()> {
    let mut tc = namespace.command("tc");
    process::output(tc.args(arguments.split_ascii_whitespace())).map(drop)
}

fn replace_by_ingress(namespace: &Namespace, link: &str) -> Result<()> {
    tc(namespace, &format!("qdisc delete dev {link} clsact"))?;
    tc(namespace, &format!("qdisc add dev {link} ingress"))
}

fn instance(lab: &Lab) -> Instance {
    Instance::Named(lab.host().name().to_owned())
}

fn tables(lab: &Lab) -> Result<PinnedMaps> {
    PinnedMaps::open(&instance(lab))?.context("no maps")
}

fn pins(lab: &Lab) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/envnet").join(instance(lab).path_component())
}

fn programs(lab: &Lab) -> Result<PathBuf> {
    pinned(lab, "programs-")
}

fn maps(lab: &Lab) -> Result<PathBuf> {
    pinned(lab, "maps-")
}

fn pinned(lab: &Lab, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(pins(lab))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("nothing is pinned as {prefix}")
}

//! Plans over a model of the kernel: applying a plan to it must leave nothing to plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use envnet_common::{
    Mac,
    maps::{Endpoint, Location},
};
use ipnet::Ipv4Net;

use super::*;
use crate::{
    config::Config,
    desired::{self, HostFacts, Link, LinkKind},
    kernel::{
        netlink::{Kind, Link as KernelLink, Route as KernelRoute},
        netns::NetnsKind,
        pins::OtherBuilds,
        programs::{Attached, StalePin},
    },
    observe::{Fast, MapState, PinState, Pins, Router},
    topology::{AttachPoint, classic},
};

const UPLINK: u32 = 2;

fn config(environments: &str, mode: &str, machines: &[u8]) -> Config {
    let text = text(environments, mode, machines);
    Config::parse(&text, Path::new("test.toml")).expect("a good configuration")
}

fn text(environments: &str, mode: &str, machines: &[u8]) -> String {
    let mut text = format!(
        "environments = \"{environments}\"\n[uplink]\ninterface = \"up0\"\nmode = \"{mode}\"\ngateway = \"172.16.0.1\"\n\
         [addresses]\ninternal = \"10.0.0.0/24\"\nrouter = \"10.0.0.1\"\nexternal = \"172.16.0.0/16\"\n"
    );
    for machine in machines {
        let _infallible = writeln!(text, "[[vm]]\nname = \"m{machine}\"\naddress = \"10.0.0.{machine}\"");
    }
    text
}

/// A configuration in which something else is different.
fn changed(environments: &str, (from, to): (&str, &str)) -> Config {
    let text = text(environments, "macvlan", &[2, 3]);
    assert!(text.contains(from), "{from} is not in the configuration");
    Config::parse(&text.replace(from, to), Path::new("test.toml")).expect("a good configuration")
}

fn wanted(config: &Config) -> Wanted {
    let facts = HostFacts {
        identity: "host".into(),
        uplink: UPLINK,
        uplink_mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        tap_user: Some(64),
        tap_group: None,
    };
    desired::wanted(config, &Instance::Host, &facts)
}

fn kernel_link(index: u32, name: &str, kind: Kind) -> KernelLink {
    KernelLink {
        index,
        name: name.to_owned(),
        kind,
        mac: Mac([2, 0, 0, 0, 0, 9]),
        mtu: 1500,
        master: None,
        up: false,
        alias: String::new(),
        group: 0,
        altnames: Vec::new(),
        group_forwarding: 0,
        xdp: None,
    }
}

/// A kernel that does what it is told, and complains about what a real one would refuse.
struct Model {
    observed: Observed,
    next_index: u32,
}

impl Model {
    fn new() -> Self {
        let uplink = KernelLink {
            up: true,
            ..kernel_link(UPLINK, "up0", Kind::Bridge)
        };
        Self {
            observed: Observed {
                links: BTreeMap::from([("up0".to_owned(), uplink)]),
                addresses: Vec::new(),
                sysctls: BTreeMap::new(),
                ipv6: true,
                routers: BTreeMap::new(),
                attached: BTreeMap::new(),
                foreign_namespaces: BTreeSet::new(),
                names_left: BTreeSet::new(),
                stale_pins: Vec::new(),
                pins: PinState::Absent,
                environments: BTreeMap::new(),
                mappings: BTreeMap::new(),
                counted: BTreeSet::new(),
                router_wans: BTreeMap::new(),
                fast: Fast::default(),
            },
            next_index: 10,
        }
    }

    fn attach(&mut self, config: &Config) -> Vec<Change> {
        let changes = attach(&wanted(config), &self.observed, &Instance::Host, Others::Go).expect("no conflict");
        for change in &changes {
            self.apply(change);
        }
        changes
    }

    /// The pins, of which there are some from now on.
    fn pins(&mut self) -> &mut Pins {
        if !self.observed.pins.is_present() {
            self.observed.pins = PinState::Present(Pins::default());
        }
        match &mut self.observed.pins {
            PinState::Present(pins) => pins,
            state => panic!("there are pins: {state:?}"),
        }
    }

    fn links(&mut self, environment: u32, place: NetnsKind) -> &mut BTreeMap<String, KernelLink> {
        match place {
            NetnsKind::Host => &mut self.observed.links,
            NetnsKind::Router => &mut self.router(environment).links,
        }
    }

    fn router(&mut self, environment: u32) -> &mut Router {
        self.observed
            .routers
            .get_mut(&environment)
            .expect("the namespace exists")
    }

    fn index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm per kind of change; together they are the model"
    )]
    fn apply(&mut self, change: &Change) {
        let environment = change.environment.unwrap_or(0);
        let alias = Instance::Host.alias(environment);
        match change.action.clone() {
            Action::LoadPrograms { .. } => {
                let pins = self.pins();
                (pins.programs_loaded, pins.maps) = (true, MapState::Read);
            }
            Action::ForgetOtherPrograms => {
                assert!(self.observed.pins.programs_loaded());
                self.pins().other_builds = None;
            }
            Action::RemoveStalePins(stale) => {
                for pin in stale {
                    self.observed.stale_pins.retain(|left| *left != pin);
                }
            }
            Action::RemovePins => {
                self.observed.pins = PinState::Absent;
                self.observed.environments.clear();
                self.observed.mappings.clear();
                self.observed.counted.clear();
                self.observed.router_wans.clear();
                self.observed.fast = Fast::default();
            }
            Action::CreateNamespace { .. } => {
                let lo = KernelLink {
                    up: true,
                    alias,
                    ..kernel_link(1, "lo", Kind::Other)
                };
                let router = Router {
                    links: BTreeMap::from([("lo".to_owned(), lo)]),
                    addresses: BTreeSet::new(),
                    routes: BTreeSet::new(),
                    sysctls: BTreeMap::new(),
                    attached: BTreeMap::new(),
                    neighbours: BTreeMap::new(),
                };
                assert!(self.observed.routers.insert(environment, router).is_none(), "{change}");
            }
            Action::DeleteNamespace { .. } => drop(self.observed.routers.remove(&environment)),
            Action::CreateLink(link) => self.create(environment, &link),
            Action::DeleteLink { place, name } => {
                let removed = self.links(environment, place).remove(&name);
                let index = removed.as_ref().map(|link| link.index);
                if removed.is_some() && place == NetnsKind::Router {
                    self.forget_interface(environment, &name);
                }
                if removed.is_some()
                    && name == classic::router_port(environment)
                    && let Some(router) = self.observed.routers.get_mut(&environment)
                {
                    let inside = classic::router_inside(environment);
                    router.links.remove(&inside);
                    self.forget_interface(environment, &inside);
                }
                if place == NetnsKind::Host {
                    self.observed.attached.retain(|(_, link), _| *link != name);
                }
                // Ports and other ends go with a link.
                let ports = self.observed.links.values_mut();
                ports
                    .filter(|port| port.master.is_some() && port.master == index)
                    .for_each(|port| (port.master, port.group_forwarding) = (None, 0));
                if removed.is_some()
                    && name == classic::uplink_port(environment)
                    && let Some(router) = self.observed.routers.get_mut(&environment)
                {
                    router.links.remove(&classic::router_wan(environment));
                }
                if name == classic::router_wan(environment) {
                    self.observed.links.remove(&classic::uplink_port(environment));
                }
            }
            Action::DeleteLinks(links) => {
                for OwnLink { environment, name } in links {
                    self.apply(&Change {
                        environment: Some(environment),
                        phase: Phase::Shared,
                        action: Action::DeleteLink {
                            place: NetnsKind::Host,
                            name,
                        },
                    });
                }
            }
            Action::SetLink { place, name, new, .. } => {
                if name == classic::bridge(environment) && new == Attribute::Up(true) {
                    assert!(
                        self.observed
                            .attached
                            .contains_key(&(AttachPoint::Bridge, name.clone())),
                        "the host hears guests before the program is on"
                    );
                }
                let router_wan = place == NetnsKind::Router && name == classic::router_wan(environment);
                if router_wan && new == Attribute::Up(true) {
                    let router = self.router(environment);
                    assert_eq!(
                        router.attached.get(&(AttachPoint::RouterWan, name.clone())),
                        Some(&Attached::Current),
                        "the WAN port comes up before the programs are on it"
                    );
                    assert!(self.observed.mappings.keys().any(|key| key.environment == environment));
                }
                let master = match &new {
                    Attribute::Master(Some(master)) => Some(self.observed.links[master].index),
                    _ => None,
                };
                let link = self.links(environment, place).get_mut(&name).expect("the link exists");
                match new {
                    Attribute::Mtu(mtu) => link.mtu = mtu,
                    Attribute::Mac(mac) => link.mac = mac,
                    Attribute::Master(_) => (link.master, link.group_forwarding) = (master, 0),
                    Attribute::Up(up) => link.up = up,
                    Attribute::Alias(alias) => link.alias = alias,
                    Attribute::Group(group) => link.group = group,
                    Attribute::GroupForwarding(mask) => link.group_forwarding = mask,
                    Attribute::Owner(user, group) => link.kind = Kind::Tap { user, group },
                }
            }
            Action::SetSysctl { sysctl, .. } => {
                let values = match sysctl.place {
                    NetnsKind::Host => &mut self.observed.sysctls,
                    NetnsKind::Router => &mut self.router(environment).sysctls,
                };
                values.insert(sysctl.key, sysctl.value);
            }
            Action::InsertEnvironment { index, new, .. } => {
                self.observed.environments.insert(index, new);
                self.observed.router_wans.insert(new.mac, new.number);
            }
            Action::RemoveEnvironments(environments) => {
                for (index, number) in environments {
                    self.observed.environments.remove(&index);
                    self.observed.mappings.retain(|key, _| key.environment != number);
                    self.observed.counted.retain(|key| key.environment != number);
                    self.observed.router_wans.retain(|_, known| *known != number);
                }
            }
            Action::InsertMapping { key, new, .. } => {
                self.observed.mappings.insert(key, new);
                self.observed.counted.insert(key);
            }
            Action::RemoveMappings(keys) => {
                self.observed.mappings.retain(|key, _| !keys.contains(key));
                self.observed.counted.retain(|key| !keys.contains(key));
            }
            Action::SetUplink { new, .. } => self.observed.fast.uplink = Some(new),
            Action::InsertEndpoint { external, new, .. } => {
                let learned = Location {
                    interface: 77,
                    ..Location::default()
                };
                let new = Endpoint {
                    location: learned,
                    ..new
                };
                self.observed.fast.endpoints.insert(external, new);
            }
            Action::RemoveEndpoints(external) => {
                self.observed.fast.endpoints.retain(|key, _| !external.contains(key));
            }
            Action::InsertPort { port, .. } => {
                let links = &self.observed.links;
                let entry = port.entry(|name| links.get(name).map(|link| link.index));
                let (index, entry) = entry.expect("the port's links exist");
                self.observed.fast.ports.insert(index, entry);
                self.observed.fast.taps.insert(index);
            }
            Action::RemovePort { link } => {
                let index = self.observed.links[&link].index;
                self.observed.fast.ports.remove(&index);
            }
            Action::RemovePorts(gone) => {
                let is_gone = |index| gone.iter().any(|port| port.index == index);
                self.observed.fast.ports.retain(|index, _| !is_gone(*index));
            }
            Action::AttachPrograms { point, link, .. } => {
                assert!(self.observed.pins.programs_loaded());
                assert!(
                    self.links(environment, point.netns()).contains_key(&link),
                    "nothing to attach to"
                );
                if point == AttachPoint::RouterWan {
                    self.router(environment)
                        .attached
                        .insert((point, link), Attached::Current);
                } else {
                    let known = match point {
                        AttachPoint::RouterPort | AttachPoint::GuestPort | AttachPoint::UplinkPort => {
                            let index = self.observed.links[&link].index;
                            self.observed.fast.ports.contains_key(&index)
                        }
                        _ => true,
                    };
                    assert!(known, "{link} has programs before they know it");
                    self.observed.attached.insert((point, link), Attached::Current);
                }
            }
            Action::DetachPrograms { point, link } => {
                self.observed.attached.remove(&(point, link));
            }
            Action::AddAddress { link, address } => {
                assert!(self.router(environment).links.contains_key(&link));
                self.router(environment).addresses.insert((link, address));
            }
            Action::DeleteAddress { link, address } => {
                assert!(self.router(environment).addresses.remove(&(link, address)));
                self.forget_source(environment, address);
            }
            Action::AddRoute(route) => {
                let link = self
                    .router(environment)
                    .links
                    .get(&route.interface)
                    .expect("the interface exists")
                    .clone();
                assert!(link.up, "the kernel refuses a route over an interface that is down");
                let kernel = KernelRoute {
                    destination: route.destination,
                    gateway: route.gateway,
                    interface: link.index,
                    source: Some(route.source),
                    metric: route.metric,
                };
                self.router(environment).routes.insert((kernel, route.interface));
            }
            Action::DeleteRoute(route) => {
                let routes = &mut self.router(environment).routes;
                let before = routes.len();
                routes.retain(|(kernel, link)| {
                    (kernel.destination, kernel.metric, link) != (route.destination, route.metric, &route.interface)
                });
                assert_eq!(
                    before,
                    routes.len() + 1,
                    "the kernel refuses to delete a route that is not there: {route}"
                );
            }
        }
    }

    /// What the kernel does when an interface of the router goes.
    fn forget_interface(&mut self, environment: u32, name: &str) {
        let router = self.router(environment);
        let (gone, kept) = std::mem::take(&mut router.addresses)
            .into_iter()
            .partition(|(link, _)| link == name);
        router.addresses = kept;
        router.routes.retain(|(_, link)| link != name);
        let gone: BTreeSet<(String, Ipv4Net)> = gone;
        for (_, address) in gone {
            self.forget_source(environment, address);
        }
    }

    /// What the kernel does, without a word, when an address of the router goes.
    fn forget_source(&mut self, environment: u32, address: Ipv4Net) {
        self.router(environment)
            .routes
            .retain(|(route, _)| route.source != Some(address.addr()));
    }

    fn create(&mut self, environment: u32, link: &Link) {
        let alias = Instance::Host.alias(environment);
        let (mut index, mut peer) = (self.index(), None);
        let kind = match &link.kind {
            LinkKind::Bridge => Kind::Bridge,
            LinkKind::VethPeer => panic!("the other end of a veth is never made by itself"),
            LinkKind::Macvlan { index: asked, .. } => {
                index = *asked;
                Kind::Macvlan {
                    parent: UPLINK,
                    bridge_mode: true,
                }
            }
            LinkKind::Tap { user, group } => Kind::Tap {
                user: *user,
                group: *group,
            },
            LinkKind::Veth {
                peer: name,
                peer_mac,
                peer_index,
            } => {
                let index = if *peer_index == 0 { self.index() } else { *peer_index };
                let alias = alias.clone();
                peer = Some(KernelLink {
                    mac: *peer_mac,
                    alias,
                    ..kernel_link(index, name, Kind::Veth)
                });
                Kind::Veth
            }
        };
        let master = link.master.as_ref().map(|master| self.observed.links[master].index);
        let mac = link.mac.unwrap_or_default();
        let group_forwarding = link.group_forwarding;
        let made = KernelLink {
            mac,
            master,
            alias,
            group_forwarding,
            ..kernel_link(index, &link.name, kind)
        };
        let old = self.links(environment, link.place).insert(link.name.clone(), made);
        assert!(old.is_none(), "{} exists already", link.name);
        if let Some(peer) = peer {
            let old = self.router(environment).links.insert(peer.name.clone(), peer);
            assert!(old.is_none(), "the other end of {} exists already", link.name);
        }
    }
}

fn nothing_left(model: &mut Model, config: &Config) {
    let again = model.attach(config);
    assert!(again.is_empty(), "the second plan is not empty: {again:#?}");
}

#[test]
fn attach_converges_in_one_step() {
    for mode in ["macvlan", "bridge"] {
        let config = config("1-2", mode, &[2, 3]);
        let mut model = Model::new();
        assert!(!model.attach(&config).is_empty());
        nothing_left(&mut model, &config);
    }
}

#[test]
fn every_change_of_the_configuration_converges() {
    let configs = [
        config("1-2", "macvlan", &[2, 3]),
        config("1-2", "bridge", &[2, 3]),
        config("2-3", "macvlan", &[2, 4]),
        config("3", "bridge", &[4]),
        changed("1-2", ("router = \"10.0.0.1\"", "router = \"10.0.0.254\"")),
        changed("1-2", ("10.0.0.0/24", "10.0.0.0/25")),
        changed("1-2", ("[addresses]", "accelerate = \"off\"\n[addresses]")),
        changed("1-2", ("[addresses]", "accelerate = \"xdp\"\n[addresses]")),
    ];
    let mut model = Model::new();
    for from in &configs {
        for to in &configs {
            model.attach(from);
            model.attach(to);
            nothing_left(&mut model, to);
            let numbers: Vec<u32> = model.observed.routers.keys().copied().collect();
            assert_eq!(numbers, to.environments);
            assert_eq!(
                model.observed.mappings.len(),
                to.environments.len() * (to.vms.len() + 1)
            );
        }
    }
}

#[test]
fn what_did_not_change_is_left_alone() {
    let mut model = Model::new();
    model.attach(&config("1-2", "macvlan", &[2, 3]));
    let changes = model.attach(&config("1-3", "macvlan", &[2, 3]));
    assert!(
        changes.iter().all(|change| change.environment == Some(3)),
        "{changes:#?}"
    );
    let changes = model.attach(&config("1-3", "macvlan", &[2]));
    assert!(
        changes.iter().all(|change| matches!(
            change.action,
            Action::DeleteLink { .. } | Action::RemoveMappings(_) | Action::RemoveEndpoints(_) | Action::RemovePorts(_)
        )),
        "{changes:#?}"
    );
}

type Damage = (&'static str, fn(&mut Model));

#[test]
fn damage_is_repaired() {
    let config = config("1", "macvlan", &[2, 3]);
    let damages: [Damage; 9] = [
        ("bridge deleted", |model| {
            model.observed.links.remove("br1");
            model.observed.attached.remove(&(AttachPoint::Bridge, "br1".to_owned()));
            model.observed.links.values_mut().for_each(|link| link.master = None);
        }),
        ("namespace deleted", |model| {
            model.observed.routers.remove(&1);
            model.observed.links.remove("peer1-br1");
        }),
        ("WAN port deleted", |model| {
            let router = model.router(1);
            router.links.remove("gw1");
            router.routes.clear();
            router.attached.clear();
        }),
        ("tap unplugged", |model| {
            model.observed.links.get_mut("vm1.2").expect("tap").master = None;
        }),
        ("tap down", |model| {
            model.observed.links.get_mut("vm1.2").expect("tap").up = false;
        }),
        ("pins removed", |model| {
            model.observed.pins = PinState::Absent;
            model.observed.environments.clear();
            model.observed.mappings.clear();
            model.observed.fast = Fast::default();
        }),
        ("sysctl changed", |model| {
            drop(
                model
                    .observed
                    .sysctls
                    .insert("ipv4/conf/br1/forwarding".into(), "1".into()),
            );
        }),
        ("foreign route", |model| {
            let route = KernelRoute {
                destination: "192.0.2.0/24".parse().expect("a prefix"),
                gateway: None,
                interface: desired::router_wan_index(1),
                source: None,
                metric: 7,
            };
            model.router(1).routes.insert((route, "gw1".to_owned()));
        }),
        ("address on the WAN port", |model| {
            let address = "172.16.1.1/16".parse().expect("an address");
            model.router(1).addresses.insert(("gw1".to_owned(), address));
        }),
    ];
    for (what, damage) in damages {
        let mut model = Model::new();
        model.attach(&config);
        damage(&mut model);
        assert!(!model.attach(&config).is_empty(), "{what}: nothing planned");
        nothing_left(&mut model, &config);
    }
}

#[test]
fn a_crash_anywhere_is_repaired_by_attach_and_cleaned_by_detach() {
    for mode in ["macvlan", "bridge"] {
        let config = config("1-2", mode, &[2, 3]);
        let steps = attach(&wanted(&config), &Model::new().observed, &Instance::Host, Others::Go).expect("no conflict");
        for survived in 0..steps.len() {
            let crashed = || {
                let mut model = Model::new();
                steps[..survived].iter().for_each(|change| model.apply(change));
                model
            };
            let mut model = crashed();
            model.attach(&config);
            nothing_left(&mut model, &config);
            let mut model = crashed();
            for change in detach(&model.observed, &Instance::Host) {
                model.apply(&change);
            }
            assert_clean(&model);
        }
    }
}

#[test]
fn inverses_take_everything_back() {
    let config = config("1-2", "bridge", &[2, 3]);
    let mut model = Model::new();
    let changes = model.attach(&config);
    for change in changes.iter().rev().filter_map(Change::inverse) {
        model.apply(&change);
    }
    assert_clean(&model);
}

#[test]
fn taking_an_upgrade_back_leaves_running_programs_alone() {
    let config = config("1-2", "macvlan", &[2, 3]);
    let mut model = Model::new();
    model.attach(&config);
    // What another build finds.
    model.pins().programs_loaded = false;
    for router in model.observed.routers.values_mut() {
        router
            .attached
            .values_mut()
            .for_each(|attached| *attached = Attached::Other);
    }
    for pins in [model.observed.pins.clone(), PinState::Absent] {
        model.observed.pins = pins;
        let changes = attach(&wanted(&config), &model.observed, &Instance::Host, Others::Go).expect("no conflict");
        assert!(
            changes
                .iter()
                .any(|change| matches!(change.action, Action::AttachPrograms { .. }))
        );
        let back: Vec<_> = changes.iter().filter_map(Change::inverse).collect();
        let harmful = |change: &&Change| matches!(change.action, Action::DetachPrograms { .. } | Action::RemovePins);
        assert_eq!(
            back.iter().find(harmful),
            None,
            "the routers' WAN ports are up and would be without programs"
        );
    }
}

fn assert_clean(model: &Model) {
    let links: Vec<&String> = model.observed.links.keys().collect();
    assert_eq!(links, ["up0"]);
    assert!(model.observed.routers.is_empty() && !model.observed.pins.is_present());
    assert!(model.observed.environments.is_empty() && model.observed.mappings.is_empty());
    assert_eq!(model.observed.fast, Fast::default());
    assert!(model.observed.attached.is_empty(), "{:?}", model.observed.attached);
}

#[test]
fn removals_wait_for_everything_else() {
    let mut model = Model::new();
    model.attach(&config("1-3", "macvlan", &[2]));
    let changes = model.attach(&config("1-2,4", "bridge", &[2]));
    let phases: Vec<Phase> = changes
        .chunk_by(|a, b| a.phase == b.phase)
        .map(|stage| stage[0].phase)
        .collect();
    let [.., rest, addresses, close, links, forget, maps] = phases[..] else {
        panic!("too few phases: {phases:?}")
    };
    assert_eq!(
        [rest, addresses, close, links, forget, maps],
        [
            Phase::Rest,
            Phase::Shared,
            Phase::Close,
            Phase::Shared,
            Phase::Forget,
            Phase::Shared
        ]
    );
}

#[test]
fn what_is_not_envnets_is_refused() {
    let config = config("1", "macvlan", &[2]);
    let refuse = |change: fn(&mut Observed)| {
        let mut model = Model::new();
        change(&mut model.observed);
        attach(&wanted(&config), &model.observed, &Instance::Host, Others::Go)
            .expect_err("a conflict")
            .to_string()
    };
    let error = refuse(|observed| drop(observed.links.insert("br1".into(), kernel_link(7, "br1", Kind::Bridge))));
    assert!(error.contains("link br1") && error.contains("environment 1"), "{error}");
    let error = refuse(|observed| {
        let other = KernelLink {
            alias: "envnet netns lab 1".into(),
            ..kernel_link(7, "vm1.2", Kind::Ethernet)
        };
        observed.links.insert("vm1.2".into(), other);
    });
    assert!(error.contains("vm1.2"), "another instance's link: {error}");
    let error = refuse(|observed| {
        let altnames = vec!["br1".to_owned()];
        let other = KernelLink {
            altnames,
            ..kernel_link(7, "precious", Kind::Bridge)
        };
        observed.links.insert("precious".into(), other);
    });
    assert!(error.contains("br1"), "an alternative name: {error}");
    let error = refuse(|observed| {
        observed.foreign_namespaces.insert("ns1".into());
    });
    assert!(error.contains("namespace ns1"), "{error}");
}

#[test]
fn the_wan_port_goes_first() {
    for mode in ["macvlan", "bridge"] {
        let mut model = Model::new();
        model.attach(&config("1", mode, &[2]));
        let changes = detach(&model.observed, &Instance::Host);
        let touches = |change: &&Change| {
            matches!(
                change.action,
                Action::SetLink { .. } | Action::DeleteLink { .. } | Action::DeleteLinks(_)
            )
        };
        let first = changes.iter().find(touches).map(ToString::to_string);
        assert_eq!(first.as_deref(), Some("- link gw1 in the router"));
        let before: Vec<_> = changes.iter().take_while(|change| !touches(change)).collect();
        assert!(
            before
                .iter()
                .any(|change| matches!(change.action, Action::RemoveEndpoints(_))),
            "the fast path goes even before: {before:?}"
        );
    }
}

/// The plan for a part of a configuration.
fn part(config: &Config, part: &str, model: &Model) -> Result<Vec<Change>, Conflict> {
    let part = part.parse().expect("a list");
    let config = config
        .clone()
        .only(&part, Path::new("test.toml"))
        .expect("they are in the file");
    attach(&wanted(&config), &model.observed, &Instance::Host, Others::Stay)
}

#[test]
fn a_part_is_changed_alone() {
    for mode in ["macvlan", "bridge"] {
        let mut model = Model::new();
        model.attach(&config("1-3", mode, &[2, 3]));
        // Another machine, another environment, and one environment less: of all that, only what is asked for is done.
        let next = config("1,3-4", mode, &[2, 3, 4]);
        let changes = part(&next, "3-4", &model).expect("no conflict");
        assert!(
            changes.iter().all(|change| matches!(change.environment, Some(3 | 4))),
            "{changes:?}"
        );
        for change in &changes {
            model.apply(change);
        }
        assert_eq!(part(&next, "3-4", &model), Ok(Vec::new()));
        assert!(model.observed.routers.keys().eq(&[1, 2, 3, 4]));

        let two = "2,4,9".parse().expect("a list");
        let changes = detach_part(&model.observed, &Instance::Host, &two).expect("no conflict");
        let others = |change: &Change| matches!(change.environment, None | Some(2 | 4));
        assert!(changes.iter().all(others), "{changes:?}");
        for change in &changes {
            model.apply(change);
        }
        assert!(model.observed.routers.keys().eq(&[1, 3]));
        assert!(model.observed.pins.programs_loaded());
        let number = |entry: &envnet_common::maps::Environment| entry.number;
        assert!(model.observed.environments.values().map(number).eq([1, 3]));
        let ports = model.observed.fast.ports.values();
        assert!(
            ports
                .map(|port| number(&port.environment))
                .all(|number| number == 1 || number == 3)
        );
        assert_eq!(detach_part(&model.observed, &Instance::Host, &two), Ok(Vec::new()));

        let rest = "1,3".parse().expect("a list");
        for change in detach_part(&model.observed, &Instance::Host, &rest).expect("no conflict") {
            model.apply(&change);
        }
        assert_clean(&model);
    }
}

#[test]
fn a_part_that_concerns_the_others_is_refused() {
    let old = config("1-3", "macvlan", &[2]);
    let attached = || {
        let mut model = Model::new();
        model.attach(&old);
        model
    };
    let others = |list: &str| list.parse().expect("a list");
    let mut model = attached();
    model.pins().programs_loaded = false;
    assert_eq!(part(&old, "3", &model), Err(Conflict::Build(others("1-2"))));
    // Nobody else is there.
    assert!(part(&old, "1-3", &model).is_ok());

    for accelerate in ["auto", "off"] {
        let text = text("1-3", "macvlan", &[2, 3])
            .replace("[addresses]", &format!("accelerate = \"{accelerate}\"\n[addresses]"));
        let parse = |text: &str| Config::parse(text, Path::new("test.toml")).expect("a good configuration");
        let mut model = Model::new();
        model.attach(&parse(&text));
        for pool in ["172.16.0.0/15", "172.20.0.0/16"] {
            let refused = part(&parse(&text.replace("172.16.0.0/16", pool)), "2", &model);
            let refused = refused.expect_err("another pool").to_string();
            for word in [
                "addresses.external",
                pool,
                "environments 1, 3",
                "172.16.0.0/16",
                "without --environments",
            ] {
                assert!(refused.contains(word), "no {word} in {refused}");
            }
        }
    }

    let model = attached();
    for other in [
        ("172.16.0.1", "172.16.0.2"),
        ("macvlan\"", "macvlan\"\naccelerate = \"off\""),
    ] {
        assert_eq!(
            part(&changed("1-3", other), "2", &model),
            Err(Conflict::Uplink(others("1,3")))
        );
    }

    let off = changed("1-3", ("macvlan\"", "macvlan\"\naccelerate = \"off\""));
    let mut model = Model::new();
    model.attach(&off);
    // Environments half as large: the third one's addresses are the first one's.
    let moved = changed("1-3", ("10.0.0.0/24", "10.0.0.0/25"));
    let refused = part(&moved, "3", &model);
    assert!(
        matches!(
            refused,
            Err(Conflict::Subnet {
                environment: 3,
                other: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_port_that_goes_is_named() {
    let mut model = Model::new();
    model.attach(&config("1", "macvlan", &[2, 3]));
    let tap = model.observed.links["vm1.3"].index;
    let shown = |model: &Model| {
        let changes = attach(
            &wanted(&config("1", "macvlan", &[2])),
            &model.observed,
            &Instance::Host,
            Others::Go,
        );
        let changes = changes.expect("no conflict");
        let ports = changes
            .iter()
            .find(|change| matches!(change.action, Action::RemovePorts(_)));
        ports.expect("a port that goes").to_string()
    };
    assert_eq!(shown(&model), "- fast path at vm1.3");
    model.observed.links.remove("vm1.3");
    assert_eq!(shown(&model), format!("- fast path at interface {tap} (gone)"));
}

#[test]
fn what_cannot_be_taken_back_says_why() {
    let mut model = Model::new();
    let old = config("1-2", "macvlan", &[2, 3]);
    let mut changes = model.attach(&old);
    changes.extend(
        attach(
            &wanted(&config("1", "bridge", &[2])),
            &model.observed,
            &Instance::Host,
            Others::Go,
        )
        .expect("no conflict"),
    );
    changes.extend(detach(&model.observed, &Instance::Host));
    for change in changes {
        let removes = change.to_string().starts_with("- ");
        let removes = removes && !matches!(change.action, Action::RemovePins);
        let nothing_missed = change.inverse().is_some() || change.loss().is_some();
        assert!(nothing_missed || !removes, "{change}");
    }
}

#[test]
fn the_example_is_planned() {
    let text = include_str!("../../../examples/envnet.toml").replace("eth0", "up0");
    let config = Config::parse(&text, Path::new("examples/envnet.toml")).expect("a good configuration");
    let mut model = Model::new();
    assert!(!model.attach(&config).is_empty());
    nothing_left(&mut model, &config);
}

#[test]
fn maps_of_another_shape_are_refused() {
    let mut model = Model::new();
    model.pins().maps = MapState::Unfit("a map is not right".to_owned());
    let config = config("1", "macvlan", &[2]);
    let refused = attach(&wanted(&config), &model.observed, &Instance::Host, Others::Go);
    assert!(matches!(refused, Err(Conflict::Maps(_))), "{refused:?}");
}

#[test]
fn another_layout_keeps_what_it_was_given_when_an_upgrade_is_taken_back() {
    let config = config("1", "macvlan", &[2]);
    let mut model = Model::new();
    model.attach(&config);
    let observed = &mut model.observed;
    observed.fast = Fast::default();
    (observed.environments, observed.mappings) = (BTreeMap::new(), BTreeMap::new());
    observed.pins = PinState::Present(Pins {
        programs_loaded: false,
        maps: MapState::Absent,
        other_builds: Some(OtherBuilds { layouts: [1].into() }),
    });
    let changes = model.attach(&config);
    assert!(
        changes
            .iter()
            .any(|change| change.action == Action::ForgetOtherPrograms)
    );
    let taken = |change: &Change| {
        matches!(
            change.action,
            Action::RemoveEnvironments(_) | Action::RemoveMappings(_) | Action::RemoveEndpoints(_)
        )
    };
    let back = changes.iter().filter_map(Change::inverse).find(taken);
    assert_eq!(back, None, "the programs use the new maps by then");
}

#[test]
fn stale_pins_are_removed() {
    let config = config("1", "macvlan", &[2]);
    let mut model = Model::new();
    model.attach(&config);
    let stale = StalePin {
        name: "vnet7-ingress".to_owned(),
        holds: None,
    };
    model.observed.stale_pins.push(stale.clone());
    let changes = model.attach(&config);
    let actions: Vec<_> = changes.into_iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::RemoveStalePins(vec![stale])]);
}

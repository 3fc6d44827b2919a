//! The model of the kernel that plans are applied to.

use super::*;

/// A kernel that does what it is told, and complains about what a real one would refuse.
pub(super) struct Model {
    pub(super) observed: Observed,
    pub(super) next_index: u32,
}

impl Model {
    pub(super) fn new() -> Self {
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

    pub(super) fn attach(&mut self, config: &Config) -> Vec<Change> {
        let changes = attach(&desired(config), &self.observed, &Instance::Host, Others::Prune).expect("no conflict");
        for change in &changes {
            self.apply(change);
        }
        changes
    }

    /// The pins, of which there are some from now on.
    pub(super) fn pins(&mut self) -> &mut Pins {
        if !self.observed.pins.is_present() {
            self.observed.pins = PinState::Present(Pins::default());
        }
        match &mut self.observed.pins {
            PinState::Present(pins) => pins,
            state => panic!("there are pins: {state:?}"),
        }
    }

    pub(super) fn links(&mut self, environment: u32, place: NetnsKind) -> &mut BTreeMap<String, KernelLink> {
        match place {
            NetnsKind::Host => &mut self.observed.links,
            NetnsKind::Router => &mut self.router(environment).links,
        }
    }

    pub(super) fn router(&mut self, environment: u32) -> &mut Router {
        self.observed
            .routers
            .get_mut(&environment)
            .expect("the namespace exists")
    }

    pub(super) fn index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm per kind of change; together they are the model"
    )]
    pub(super) fn apply(&mut self, change: &Change) {
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
            Action::Put { new, .. } => self.put(new),
            Action::Delete(keys) => self.delete(keys),
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
    pub(super) fn forget_interface(&mut self, environment: u32, name: &str) {
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
    pub(super) fn forget_source(&mut self, environment: u32, address: Ipv4Net) {
        self.router(environment)
            .routes
            .retain(|(route, _)| route.source != Some(address.addr()));
    }

    pub(super) fn create(&mut self, environment: u32, link: &Link) {
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

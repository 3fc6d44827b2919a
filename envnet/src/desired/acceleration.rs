//! What the programs at the ports of every `brE` and on the uplink are told: those that check what guests send, and the fast
//! path.

use std::collections::BTreeMap;

use envnet_common::{
    Address,
    maps::{self, Endpoint, FdbKey, Location},
};

use super::HostFacts;
use crate::{
    config::{Accelerate, Addresses, Config, UplinkMode},
    names,
    topology::AttachPoint,
};

/// The uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// What the programs are told about it.
    pub entry: maps::Uplink,
    /// Which programs of the fast path run on it.
    pub points: Vec<AttachPoint>,
}

/// What is told about the ports and the guests of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fast {
    /// Whether there is a fast path; else the programs at the ports only check.
    pub accelerated: bool,
    /// The ports of `brE` that envnet itself makes, `brE` itself, and the uplink bridge's port.
    pub ports: Vec<Port>,
    /// The mappings as these programs see them, by external address, with nothing learned.
    pub endpoints: BTreeMap<Address, Endpoint>,
}

/// A link that the programs are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub link: String,
    /// Which programs.
    pub point: AttachPoint,
    /// The only internal address that may send there; none on a port that somebody else has plugged in.
    pub internal: Address,
    /// The environment.
    pub environment: maps::Environment,
    /// Name of the port towards the router.
    pub router: String,
    /// Name of the interface that translated packets leave by.
    pub exit: String,
    /// Whether that is the environment's own port of the uplink bridge.
    pub exit_is_port: bool,
}

impl Port {
    /// What the programs are told about the port, when all links concerned are there; `index` knows them by name.
    #[must_use]
    pub fn entry(&self, index: impl Fn(&str) -> Option<u32>) -> Option<(u32, maps::Port)> {
        let entry = maps::Port {
            environment: self.environment,
            internal: self.internal,
            router: index(&self.router)?,
            exit: index(&self.exit)?,
            exit_is_port: u32::from(self.exit_is_port),
        };
        Some((index(&self.link)?, entry))
    }
}

impl Fast {
    /// Whether programs run at a port, besides those that every environment has.
    #[must_use]
    pub const fn runs_at(&self, point: AttachPoint) -> bool {
        match point {
            AttachPoint::GuestPort | AttachPoint::ForeignPort => true,
            AttachPoint::RouterPort | AttachPoint::UplinkPort => self.accelerated,
            _ => false,
        }
    }

    /// The Ethernet addresses that are promised to guests, with the internal addresses of those. The router's own is refused
    /// without a look-up.
    pub fn guest_macs(&self) -> impl Iterator<Item = (FdbKey, Address)> {
        let guests = self.endpoints.values().filter(|guest| guest.mac.is_set());
        let guests = guests.filter(|guest| guest.mac != names::ROUTER_INSIDE_MAC);
        guests.map(|guest| (FdbKey::new(guest.environment.number, guest.mac), guest.internal))
    }

    /// A port that somebody else has plugged into the environment's bridge: like the router's, for any guest.
    #[must_use]
    pub fn foreign_port(&self, link: &str) -> Option<Port> {
        let like = self.ports.first()?;
        Some(Port {
            link: link.to_owned(),
            point: AttachPoint::ForeignPort,
            internal: Address::UNSPECIFIED,
            ..like.clone()
        })
    }
}

/// Why the fast path is as it is, for people.
#[must_use]
pub fn reason(config: &Config) -> &'static str {
    match (config.uplink.accelerate, config.uplink.mode) {
        (Accelerate::Off, _) => "off: everything goes through the routers",
        (Accelerate::Xdp, _) => "xdp, as configured: most small packets per second; TC takes what XDP leaves",
        (Accelerate::Tc, UplinkMode::Macvlan) => "tc, as configured",
        (Accelerate::Auto | Accelerate::Tc, UplinkMode::Bridge) => {
            "tc, at the uplink bridge's ports towards the routers"
        }
        (Accelerate::Auto, UplinkMode::Macvlan) => {
            "tc, chosen by auto: XDP wins with small packets, but takes the large ones apart that TCP streams live on"
        }
    }
}

/// The uplink. Without a fast path, the programs are told of the pool only.
pub(super) fn uplink(config: &Config, host: &HostFacts) -> Uplink {
    let interface = config.uplink.interface.clone();
    let accelerate = config.uplink.accelerate;
    let points = match (accelerate, config.uplink.mode) {
        // A bridge itself only sees what is for the host.
        (Accelerate::Off, _) | (_, UplinkMode::Bridge) => Vec::new(),
        (Accelerate::Xdp, UplinkMode::Macvlan) => vec![AttachPoint::Uplink, AttachPoint::UplinkDriver],
        (Accelerate::Auto | Accelerate::Tc, UplinkMode::Macvlan) => vec![AttachPoint::Uplink],
    };
    let pool = config.addresses.external;
    let entry = maps::Uplink {
        interface: if accelerate == Accelerate::Off { 0 } else { host.uplink },
        mtu: host.mtu,
        pool: pool.network().into(),
        mask: pool.netmask().into(),
        next_hop: config.uplink.gateway.map_or(Address::UNSPECIFIED, Into::into),
        mac: host.uplink_mac,
        host_barred: u8::from(!config.uplink.host),
        reserved: 0,
    };
    Uplink {
        interface,
        entry,
        points,
    }
}

/// An environment's share.
pub(super) fn environment(config: &Config, entry: maps::Environment, ports: Vec<Port>) -> Fast {
    let addresses: &Addresses = &config.addresses;
    let number = entry.number;
    // The router's own address is there so that nobody else takes it; nothing is sent to it on the fast path.
    let router = (addresses.router, Some(names::ROUTER_INSIDE_MAC), false);
    let endpoints = config
        .vms
        .iter()
        .map(|vm| (vm.address, vm.mac, vm.floating))
        .chain([router])
        .map(|(internal, mac, floating)| {
            let endpoint = Endpoint {
                environment: entry,
                internal: internal.into(),
                mac: mac.unwrap_or_default(),
                floating: u8::from(floating),
                reserved: [0; 5],
                location: Location::default(),
            };
            (addresses.external_address(number, internal).into(), endpoint)
        })
        .collect();
    Fast {
        accelerated: config.uplink.accelerate != Accelerate::Off,
        ports,
        endpoints,
    }
}

/// How fast the routers notice that a neighbour is gone, on one of their interfaces.
///
/// The fast path believes what it hears for a quarter of a second and then asks through the router, so the router has to
/// ask at once, too: an entry is believed for a shorter time than that, is probed with the first packet after it
/// (`delay_first_probe_time` 0), with one unicast and then with broadcasts, for as long in all as the kernel would by
/// default: 3 s. On the link outside, which is not envnet's, they come more slowly (RFC 1122, section 2.3.2.1). Without a
/// fast path, the kernel's own defaults.
pub(crate) fn neighbour_sysctls(accelerate: Accelerate, outside: bool) -> [(&'static str, &'static str); 6] {
    let [reachable, delay, retransmit, unicasts, broadcasts, again] = match (accelerate, outside) {
        (Accelerate::Off, _) => ["30000", "5", "1000", "3", "3", "0"],
        // Times that are whole ticks of every kernel's clock, or they would not read as they were written.
        (_, false) => ["160", "0", "100", "1", "30", "30"],
        (_, true) => ["160", "0", "300", "1", "10", "10"],
    };
    [
        ("base_reachable_time_ms", reachable),
        ("delay_first_probe_time", delay),
        ("retrans_time_ms", retransmit),
        ("ucast_solicit", unicasts),
        ("mcast_solicit", broadcasts),
        ("mcast_resolicit", again),
    ]
}

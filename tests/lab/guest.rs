//! A guest made of a network namespace, on the same taps that virtual machines use.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;

use crate::{
    cable::Cable,
    namespace::Namespace,
    ping::ping,
    tap::{self, Offload},
};

/// How long a single echo request is waited for. A tap's bridge port forwards only after the kernel's link watch, up to
/// a second after the cable was plugged in.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// What a guest is told when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The tap in the host's namespace.
    pub tap: String,
    /// The guest's internal address.
    pub address: Ipv4Addr,
    /// Length of the internal prefix.
    pub prefix: u8,
    /// The router's internal address.
    pub router: Ipv4Addr,
    /// The guest's Ethernet address.
    pub mac: String,
    /// What its interface can do.
    pub offload: Offload,
}

/// A namespace guest with `eth0` and a default route. Its cable is plugged in until [`Guest::unplug`].
#[derive(Debug)]
pub struct Guest {
    // Before the namespace, so that the cable's file of the guest's interface is closed first.
    cable: Option<Cable>,
    namespace: Namespace,
    settings: Settings,
}

impl Guest {
    /// Makes the namespace `name` and connects its `eth0` to the guest's tap in the host's namespace.
    pub fn create(name: &str, host: &Namespace, settings: Settings) -> Result<Self> {
        let mut guest = Self {
            cable: None,
            namespace: Namespace::create(name)?,
            settings,
        };
        guest.plug(host)?;
        Ok(guest)
    }

    /// Connects the guest again: it comes back as if it had been switched on.
    pub fn plug(&mut self, host: &Namespace) -> Result<()> {
        self.unplug();
        let Settings {
            tap,
            address,
            prefix,
            router,
            mac,
            offload,
        } = &self.settings;
        let inside = tap::open(&self.namespace, "eth0", *offload)?;
        self.namespace.ip(&format!("link set eth0 address {mac}"))?;
        self.namespace.ip(&format!("address add {address}/{prefix} dev eth0"))?;
        let cable = Cable::plug(tap::open(host, tap, *offload)?, inside)?;
        self.namespace.ip("link set eth0 up")?;
        self.namespace.ip(&format!("route add default via {router}"))?;
        self.cable = Some(cable);
        Ok(())
    }

    /// Gives the guest another Ethernet address, the next time it is plugged in.
    pub fn set_mac(&mut self, mac: &str) {
        mac.clone_into(&mut self.settings.mac);
    }

    /// Pulls the cable: the guest is gone from the network, its tap has no carrier.
    pub fn unplug(&mut self) {
        self.cable = None;
    }

    /// The guest's namespace, to run anything in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The cable, while it is plugged in.
    #[must_use]
    pub fn cable(&self) -> Option<&Cable> {
        self.cable.as_ref()
    }

    /// The internal address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.settings.address
    }

    /// One echo request to `target`; the round-trip time if it was answered.
    pub fn ping(&self, target: Ipv4Addr) -> Result<Option<Duration>> {
        ping(&self.namespace, target, 56, PATIENCE)
    }
}

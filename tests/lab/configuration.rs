//! The configuration of envnet, built instead of written: everything in the tests that runs envnet gets its file from here.

use std::{
    fmt::{self, Display, Formatter},
    net::Ipv4Addr,
};

use crate::addresses::{EXTERNAL, INTERNAL, INTERNAL_PREFIX, ROLES, ROUTER, Role, UPSTREAM};

/// How the routers are connected to the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each with a macvlan on `eth0`.
    #[default]
    Macvlan,
    /// Each with a port of the bridge `br0`, which has `eth0` as another port.
    Bridge,
}

impl Mode {
    /// The interface the configuration names.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::Macvlan => "eth0",
            Self::Bridge => "br0",
        }
    }
}

impl Display for Mode {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Macvlan => "macvlan",
            Self::Bridge => "bridge",
        })
    }
}

/// A configuration. It begins as the laboratory's own, each method changes one thing, and as text it is the file.
///
/// ```
/// # use envnet_lab::{Configuration, Mode};
/// let file = Configuration::of(3).mode(Mode::Bridge).accelerate("tc").to_string();
/// assert!(file.contains("environments = \"1-3\"") && file.contains("interface = \"br0\""));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    environments: String,
    interface: String,
    mode: Mode,
    next_hop: Option<Ipv4Addr>,
    accelerate: Option<&'static str>,
    host: bool,
    internal: String,
    router: Ipv4Addr,
    external: String,
    tap_owner: Option<[String; 2]>,
    machines: Vec<Vm>,
    floating: Vec<Ipv4Addr>,
    hook: Option<&'static str>,
}

/// One machine of the set that every environment has a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// Its internal address.
    pub address: Ipv4Addr,
    /// Its Ethernet address, if the file says it.
    pub mac: Option<String>,
}

impl From<Role> for Vm {
    fn from(role: Role) -> Self {
        Self {
            name: role.name.to_owned(),
            address: role.internal(),
            mac: Some(role.mac.to_owned()),
        }
    }
}

impl Default for Configuration {
    /// Two environments.
    fn default() -> Self {
        Self::of(2)
    }
}

impl Configuration {
    /// Environments 1 to that number, each with both machines of [`ROLES`], on macvlans of `eth0`.
    #[must_use]
    pub fn of(environments: impl Display) -> Self {
        Self {
            environments: format!("1-{environments}"),
            interface: Mode::Macvlan.interface().to_owned(),
            mode: Mode::Macvlan,
            next_hop: Some(UPSTREAM),
            accelerate: None,
            host: true,
            internal: format!("{INTERNAL}/{INTERNAL_PREFIX}"),
            router: ROUTER,
            external: EXTERNAL.to_owned(),
            tap_owner: None,
            machines: ROLES.map(Vm::from).into(),
            floating: Vec::new(),
            hook: None,
        }
    }

    /// Other environments: a list as in the file, like `1-3,7`.
    #[must_use]
    pub fn environments(mut self, list: impl Display) -> Self {
        self.environments = list.to_string();
        self
    }

    /// Another uplink mode, on the interface that the laboratory has for it.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self.uplink(mode.interface())
    }

    /// Another uplink.
    #[must_use]
    pub fn uplink(mut self, interface: &str) -> Self {
        interface.clone_into(&mut self.interface);
        self
    }

    /// No next hop: only the uplink's own network is reached.
    #[must_use]
    pub fn without_next_hop(mut self) -> Self {
        self.next_hop = None;
        self
    }

    /// That fast path (`uplink.accelerate`), which envnet otherwise chooses.
    #[must_use]
    pub fn accelerate(mut self, fast_path: &'static str) -> Self {
        self.accelerate = Some(fast_path);
        self
    }

    /// Other prefixes, with another address of the router.
    #[must_use]
    pub fn addresses(mut self, internal: impl Display, router: Ipv4Addr, external: impl Display) -> Self {
        self.internal = internal.to_string();
        self.router = router;
        self.external = external.to_string();
        self
    }

    /// An address that machines hold in turns.
    #[must_use]
    pub fn floating(mut self, address: Ipv4Addr) -> Self {
        self.floating.push(address);
        self
    }

    /// How the routers are connected to the uplink.
    #[must_use]
    pub fn uplink_mode(&self) -> Mode {
        self.mode
    }

    /// Guests and host do not reach each other.
    #[must_use]
    pub fn without_host(mut self) -> Self {
        self.host = false;
        self
    }

    /// A user and a group who own the taps; an empty one is not said.
    #[must_use]
    pub fn tap_owner(mut self, user: &str, group: &str) -> Self {
        self.tap_owner = Some([user, group].map(str::to_owned));
        self
    }

    /// One machine more, or another one in the place of that name.
    #[must_use]
    pub fn machine(mut self, machine: impl Into<Vm>) -> Self {
        let machine = machine.into();
        match self.machines.iter_mut().find(|other| other.name == machine.name) {
            Some(other) => *other = machine,
            None => self.machines.push(machine),
        }
        self
    }

    /// One machine less.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.machines.retain(|machine| machine.name != name);
        self
    }

    /// These machines only.
    #[must_use]
    pub fn machines(mut self, machines: impl IntoIterator<Item = Vm>) -> Self {
        self.machines = machines.into_iter().collect();
        self
    }

    /// No Ethernet addresses: those of the guests are whatever the guests say.
    #[must_use]
    pub fn without_macs(mut self) -> Self {
        for machine in &mut self.machines {
            machine.mac = None;
        }
        self
    }

    /// How programs are attached. Not a key of the file but an option of the command, which a laboratory gives to it.
    #[must_use]
    pub fn hook(mut self, hook: &'static str) -> Self {
        self.hook = Some(hook);
        self
    }

    pub(crate) fn chosen_hook(&self) -> Option<&'static str> {
        self.hook
    }

    pub(crate) fn chosen_mode(&self) -> Mode {
        self.mode
    }

    pub(crate) fn chosen_fast_path(&self) -> Option<&'static str> {
        self.accelerate
    }

    /// What is special about it, for messages.
    pub(crate) fn summary(&self) -> String {
        let Self { environments, mode, .. } = self;
        let [hook, accelerate] = [self.hook, self.accelerate].map(|choice| choice.unwrap_or("default"));
        format!("environments {environments}, {mode} mode, hook {hook}, accelerate {accelerate}")
    }
}

impl Display for Configuration {
    fn fmt(&self, file: &mut Formatter<'_>) -> fmt::Result {
        writeln!(file, "environments = \"{}\"", self.environments)?;
        writeln!(file, "\n[uplink]\ninterface = \"{}\"", self.interface)?;
        writeln!(file, "mode = \"{}\"", self.mode)?;
        if let Some(next_hop) = self.next_hop {
            writeln!(file, "gateway = \"{next_hop}\"")?;
        }
        if let Some(accelerate) = self.accelerate {
            writeln!(file, "accelerate = \"{accelerate}\"")?;
        }
        if !self.host {
            writeln!(file, "host = false")?;
        }
        writeln!(file, "\n[addresses]\ninternal = \"{}\"", self.internal)?;
        writeln!(file, "router = \"{}\"", self.router)?;
        writeln!(file, "external = \"{}\"", self.external)?;
        if let Some(owner) = &self.tap_owner {
            writeln!(file, "\n[taps]")?;
            for (key, value) in ["user", "group"]
                .iter()
                .zip(owner)
                .filter(|(_, value)| !value.is_empty())
            {
                writeln!(file, "{key} = \"{value}\"")?;
            }
        }
        for address in &self.floating {
            writeln!(
                file,
                "\n[[vm]]\nname = \"float-{address}\"\naddress = \"{address}\"\nfloating = true"
            )?;
        }
        for Vm { name, address, mac } in &self.machines {
            writeln!(file, "\n[[vm]]\nname = \"{name}\"\naddress = \"{address}\"")?;
            if let Some(mac) = mac {
                writeln!(file, "mac = \"{mac}\"")?;
            }
        }
        Ok(())
    }
}

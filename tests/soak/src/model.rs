//! What the configuration currently wants, what is attached of it, and which guests run: all that the walk's next step is
//! chosen from. Nothing in here depends on how fast the machine is, so that a seed always gives the same walk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use envnet_lab::{
    Configuration, Mode,
    addresses::{ROLES, Role},
    configuration::Vm,
};

/// Environments come from 1 to this.
pub(crate) const MOST_ENVIRONMENTS: u8 = 4;

/// The machines that a configuration may have.
pub(crate) const MACHINES: [Role; 3] = [
    ROLES[0],
    ROLES[1],
    Role {
        name: "printer",
        number: 4,
        mac: "52:54:00:00:00:04",
    },
];

/// The Ethernet addresses that guests have after they were replaced.
const OTHER_MACS: [&str; 3] = ["52:54:00:00:01:02", "52:54:00:00:01:03", "52:54:00:00:01:04"];

/// What the names of taps begin with that are not envnet's.
pub(crate) const FOREIGN: &str = "vnet";

/// The ways past the routers that the walk chooses from.
pub(crate) const ACCELERATIONS: [&str; 4] = ["off", "tc", "xdp", "auto"];

/// A place for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat {
    pub(crate) environment: u8,
    /// Which of [`MACHINES`].
    pub(crate) machine: usize,
}

impl Seat {
    pub(crate) fn role(self) -> Role {
        MACHINES[self.machine]
    }

    /// The role with the Ethernet address that the guest has.
    pub(crate) fn role_as(self, card: Card) -> Role {
        let role = self.role();
        match card {
            Card::Own => role,
            Card::Other => Role {
                mac: OTHER_MACS[self.machine],
                ..role
            },
        }
    }

    pub(crate) fn internal(self) -> Ipv4Addr {
        self.role().internal()
    }

    pub(crate) fn external(self) -> Ipv4Addr {
        self.role().external(self.environment)
    }

    pub(crate) fn tap(self) -> String {
        self.role().tap(self.environment)
    }

    /// The tap that a hypervisor makes itself for a guest in this place.
    pub(crate) fn foreign_tap(self) -> String {
        format!("{FOREIGN}{}.{}", self.environment, self.role().number)
    }
}

/// The Ethernet address a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Card {
    /// The one that a configuration with `mac` says.
    Own,
    Other,
}

/// The contents of the configuration file, and who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) environments: BTreeSet<u8>,
    /// Which of [`MACHINES`], and whether their Ethernet address is given.
    pub(crate) machines: BTreeMap<usize, bool>,
    pub(crate) accelerate: &'static str,
    pub(crate) mode: Mode,
    /// Which of the two builds of envnet the commands are.
    pub(crate) build: usize,
}

impl Desired {
    pub(crate) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.environments
            .iter()
            .flat_map(|&environment| self.machines.keys().map(move |&machine| Seat { environment, machine }))
    }

    pub(crate) fn has(&self, seat: Seat) -> bool {
        self.environments.contains(&seat.environment) && self.machines.contains_key(&seat.machine)
    }

    /// Whether that guest is as this configuration says.
    pub(crate) fn takes(&self, seat: Seat, card: Card) -> bool {
        self.has(seat) && (card == Card::Own || self.machines.get(&seat.machine) == Some(&false))
    }

    /// Whether nothing changes for that guest from one configuration to the other.
    pub(crate) fn is_same_for(&self, other: &Self, seat: Seat) -> bool {
        self.has(seat) && other.has(seat) && self.machines.get(&seat.machine) == other.machines.get(&seat.machine)
    }

    /// The same for an uplink of that mode.
    pub(crate) fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        if mode == Mode::Bridge && self.accelerate == "xdp" {
            // A bridge has no driver.
            self.accelerate = "auto";
        }
        self
    }

    /// What the status calls the fast path.
    pub(crate) fn fast_path(&self) -> &'static str {
        match self.accelerate {
            "auto" => "tc",
            other => other,
        }
    }

    /// The file.
    pub(crate) fn configuration(&self) -> Configuration {
        let list: Vec<_> = self.environments.iter().map(u8::to_string).collect();
        let machines = self.machines.iter().map(|(&machine, &with_mac)| Vm {
            mac: with_mac.then(|| MACHINES[machine].mac.to_owned()),
            ..MACHINES[machine].into()
        });
        Configuration::default()
            .environments(list.join(","))
            .mode(self.mode)
            .accelerate(self.accelerate)
            .machines(machines)
    }
}

/// What is attached, as far as it can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Detached,
    Attached(Desired),
    /// Something was killed or damaged, or two commands have raced.
    Unsettled,
}

/// Everything that the next step is chosen from.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) file: Desired,
    pub(crate) state: State,
    /// The guests that are switched on, also those whose tap is gone.
    pub(crate) guests: BTreeMap<Seat, Card>,
    /// Those of them that are on a port of somebody else's.
    pub(crate) foreign: BTreeSet<Seat>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            file: Desired {
                environments: [1, 2].into(),
                machines: [(0, true), (1, false)].into(),
                accelerate: "auto",
                mode: Mode::Macvlan,
                build: 0,
            },
            state: State::Detached,
            guests: BTreeMap::new(),
            foreign: BTreeSet::new(),
        }
    }

    /// The configuration that is attached, when that is certain.
    pub(crate) fn attached(&self) -> Option<&Desired> {
        match &self.state {
            State::Attached(desired) => Some(desired),
            State::Detached | State::Unsettled => None,
        }
    }

    /// The guests that must be reachable now.
    pub(crate) fn reachable(&self) -> Vec<Seat> {
        let Some(desired) = self.attached() else {
            return Vec::new();
        };
        let guests = self.guests.iter();
        guests
            .filter(|&(&seat, &card)| desired.takes(seat, card))
            .map(|(&seat, _)| seat)
            .collect()
    }
}

//! What the configuration currently wants, what is attached of it, and which guests run: all that the walk's next step is
//! chosen from. Nothing in here depends on how fast the machine is, so that a seed always gives the same walk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use crate::addresses::{self, INTERNAL, INTERNAL_PREFIX, Mode, ROLES, ROUTER, Role, UPSTREAM};

/// Environments come from 1 to this.
pub(super) const MOST_ENVIRONMENTS: u8 = 4;

/// The machines that a configuration may have.
pub(super) const MACHINES: [Role; 3] = [
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
pub(super) const FOREIGN: &str = "vnet";

/// The ways past the routers that the walk chooses from.
pub(super) const ACCELERATIONS: [&str; 4] = ["off", "tc", "xdp", "auto"];

/// A place for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) environment: u8,
    /// Which of [`MACHINES`].
    pub(super) machine: usize,
}

impl Seat {
    pub(super) fn role(self) -> Role {
        MACHINES[self.machine]
    }

    /// The role with the Ethernet address that the guest has.
    pub(super) fn role_as(self, card: Card) -> Role {
        let role = self.role();
        match card {
            Card::Own => role,
            Card::Other => Role {
                mac: OTHER_MACS[self.machine],
                ..role
            },
        }
    }

    pub(super) fn internal(self) -> Ipv4Addr {
        self.role().internal()
    }

    pub(super) fn external(self) -> Ipv4Addr {
        self.role().external(self.environment)
    }

    pub(super) fn tap(self) -> String {
        self.role().tap(self.environment)
    }

    /// The tap that a hypervisor makes itself for a guest in this place.
    pub(super) fn foreign_tap(self) -> String {
        format!("{FOREIGN}{}.{}", self.environment, self.role().number)
    }
}

/// The Ethernet address a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    /// The one that a configuration with `mac` says.
    Own,
    Other,
}

/// The contents of the configuration file, and who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) environments: BTreeSet<u8>,
    /// Which of [`MACHINES`], and whether their Ethernet address is given.
    pub(super) machines: BTreeMap<usize, bool>,
    pub(super) accelerate: &'static str,
    pub(super) mode: Mode,
    /// Which of the two builds of envnet the commands are.
    pub(super) build: usize,
}

impl Wanted {
    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.environments
            .iter()
            .flat_map(|&environment| self.machines.keys().map(move |&machine| Seat { environment, machine }))
    }

    pub(super) fn has(&self, seat: Seat) -> bool {
        self.environments.contains(&seat.environment) && self.machines.contains_key(&seat.machine)
    }

    /// Whether that guest is as this configuration says.
    pub(super) fn takes(&self, seat: Seat, card: Card) -> bool {
        self.has(seat) && (card == Card::Own || self.machines.get(&seat.machine) == Some(&false))
    }

    /// Whether nothing changes for that guest from one configuration to the other.
    pub(super) fn is_same_for(&self, other: &Self, seat: Seat) -> bool {
        self.has(seat) && other.has(seat) && self.machines.get(&seat.machine) == other.machines.get(&seat.machine)
    }

    /// The same for an uplink of that mode.
    pub(super) fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        if mode == Mode::Bridge && self.accelerate == "xdp" {
            // A bridge has no driver.
            self.accelerate = "auto";
        }
        self
    }

    /// What the status calls the fast path.
    pub(super) fn fast_path(&self) -> &'static str {
        match self.accelerate {
            "auto" => "tc",
            other => other,
        }
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        let list: Vec<_> = self.environments.iter().map(u8::to_string).collect();
        let (interface, mode) = match self.mode {
            Mode::Macvlan => ("eth0", "macvlan"),
            Mode::Bridge => ("br0", "bridge"),
        };
        let mut text = format!(
            r#"environments = [{}]

[uplink]
interface = "{interface}"
mode = "{mode}"
gateway = "{UPSTREAM}"
accelerate = "{}"

[addresses]
internal = "{INTERNAL}/{INTERNAL_PREFIX}"
router = "{ROUTER}"
external = "172.16.0.0/16"
"#,
            list.join(", "),
            self.accelerate
        );
        for (&machine, with_mac) in &self.machines {
            let Role { name, mac, .. } = MACHINES[machine];
            let address = addresses::internal(MACHINES[machine].number);
            // Writing to a string does not fail.
            let _ = write!(text, "\n[[vm]]\nname = \"{name}\"\naddress = \"{address}\"\n");
            if *with_mac {
                let _ = writeln!(text, "mac = \"{mac}\"");
            }
        }
        text
    }
}

/// What is attached, as far as it can be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Detached,
    Attached(Wanted),
    /// Something was killed or damaged, or two commands have raced.
    Unsettled,
}

/// Everything that the next step is chosen from.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) file: Wanted,
    pub(super) state: State,
    /// The guests that are switched on, also those whose tap is gone.
    pub(super) guests: BTreeMap<Seat, Card>,
    /// Those of them that are on a port of somebody else's.
    pub(super) foreign: BTreeSet<Seat>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            file: Wanted {
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
    pub(super) fn attached(&self) -> Option<&Wanted> {
        match &self.state {
            State::Attached(wanted) => Some(wanted),
            State::Detached | State::Unsettled => None,
        }
    }

    /// The guests that must be reachable now.
    pub(super) fn reachable(&self) -> Vec<Seat> {
        let Some(wanted) = self.attached() else {
            return Vec::new();
        };
        let guests = self.guests.iter();
        guests
            .filter(|&(&seat, &card)| wanted.takes(seat, card))
            .map(|(&seat, _)| seat)
            .collect()
    }
}

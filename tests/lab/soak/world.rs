//! The laboratory with the guests and the traffic of the walk, and carrying its steps out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    actions::Action,
    bpf::Loaded,
    damage::Damage,
    model::{Card, Model, Seat, State, Wanted},
    traffic::{Traffic, Way},
};
use crate::{
    Lab, Options, fixture,
    guest::Guest,
    interrupt, namespace,
    namespace::Namespace,
    plan::{GATEWAY, Mode, ROUTER},
    process::Process,
    snapshot, socket,
    tap::Offload,
    traffic,
};

/// Data in each direction of a transfer.
const TRANSFER: usize = 200_000;

/// What must be found again after `detach`.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) host: String,
    pub(super) sysctls: BTreeMap<String, String>,
}

/// What a step did to those that look at its effects.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) start: Instant,
    /// Whether what has not changed must have lost nothing.
    pub(super) gentle: bool,
    /// Guests that were not left alone.
    pub(super) touched: BTreeSet<Seat>,
    /// How long the command took, when it was one that counts.
    pub(super) took: Option<Duration>,
    /// Whether a command was killed before its end.
    pub(super) killed: bool,
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) traffic: Traffic,
    pub(super) guests: BTreeMap<Seat, Guest>,
    pub(super) model: Model,
    pub(super) before: Before,
    /// Whether a pin was deleted by hand since the last time something was attached.
    pub(super) without_pin: bool,
    pub(super) loaded: Loaded,
    // After the guests, which are plugged into it.
    pub(super) lab: Lab,
}

impl World {
    pub(super) fn build() -> Result<Self> {
        let lab = Lab::new(Options::default())?;
        let model = Model::new();
        lab.write_configuration(&model.file.text())?;
        let before = before(&lab)?;
        Ok(Self {
            traffic: Traffic::start()?,
            guests: BTreeMap::new(),
            loaded: Loaded::of(&pins(&lab)),
            model,
            before,
            without_pin: false,
            lab,
        })
    }

    /// Carries a step out and follows it in the model.
    pub(super) fn perform(&mut self, action: &Action) -> Result<Effect> {
        let mut effect = Effect {
            start: Instant::now(),
            gentle: false,
            touched: BTreeSet::new(),
            took: None,
            killed: false,
        };
        match action {
            Action::Attach => self.attach("attach", self.model.file.clone(), &mut effect)?,
            Action::Change(file) => {
                self.write(file)?;
                self.attach("attach", file.clone(), &mut effect)?;
            }
            Action::AttachPart(_) | Action::DetachPart(_) => self.change_part(action, &mut effect)?,
            Action::Edit(file) => {
                self.write(file)?;
                effect.gentle = true;
            }
            Action::Detach => self.detach(&mut effect)?,
            Action::Rest => {
                self.detach(&mut effect)?;
                self.traffic.keep(Vec::new(), |_| unreachable!("no way is wanted"))?;
                self.guests.clear();
                self.model.guests.clear();
            }
            Action::KillAttach(file, delay) => {
                self.write(file)?;
                effect.killed = self.kill("attach", *delay)?;
                self.model.state = State::Unsettled;
            }
            Action::KillDetach(delay) => {
                effect.killed = self.kill("detach", *delay)?;
                self.model.state = State::Unsettled;
            }
            Action::Damage(damage) => {
                damage
                    .happen(&self.lab)
                    .with_context(|| format!("the damage itself: {damage:?}"))?;
                self.without_pin |= matches!(damage, Damage::Pin(_) | Damage::Pins);
                self.model.state = State::Unsettled;
            }
            Action::SwitchOn(seat, card) | Action::Restart(seat, card) => {
                self.switch_off(*seat);
                let role = seat.role_as(*card);
                let guest = self.lab.guest_with(seat.environment, role, Offload::Full)?;
                announce(&guest)?;
                self.tell_siblings(*seat);
                self.guests.insert(*seat, guest);
                self.model.guests.insert(*seat, *card);
                effect.gentle = true;
                effect.touched.insert(*seat);
            }
            Action::SwitchOff(seat) => {
                self.switch_off(*seat);
                effect.gentle = true;
                effect.touched.insert(*seat);
            }
            Action::Race(first, second) => {
                let (before, mut commands) = (self.model.state.clone(), [*first, *second]);
                self.race(first, second)?;
                commands.sort_unstable();
                self.model.state = match (commands, before) {
                    (["attach", "detach"], _) => State::Unsettled,
                    (["attach", _], _) => State::Attached(self.model.file.clone()),
                    (["detach", _], _) => State::Detached,
                    (_, before) => before,
                };
            }
            Action::Transfer(from, to) => {
                self.transfer(*from, *to)?;
                effect.gentle = true;
            }
            Action::Look => {
                self.lab.envnet().succeed("--json plan")?;
                self.lab.status()?;
                effect.gentle = true;
            }
            Action::Rebuild(mode) => self.rebuild(*mode)?,
        }
        Ok(effect)
    }

    fn write(&mut self, file: &Wanted) -> Result<()> {
        self.lab.write_configuration(&file.text())?;
        self.model.file = file.clone();
        Ok(())
    }

    /// Runs a command after which that is attached.
    fn attach(&mut self, command: &str, wanted: Wanted, effect: &mut Effect) -> Result<()> {
        let start = Instant::now();
        let changes = self.lab.envnet().changes(command)?;
        effect.took = Some(start.elapsed());
        if let State::Attached(before) = &self.model.state {
            effect.gentle = true;
            let seats = before.seats().chain(wanted.seats());
            effect.touched = seats.filter(|&seat| !before.is_same_for(&wanted, seat)).collect();
            ensure!(
                *before != wanted || changes == 0,
                "attach has made {changes} changes where there was nothing to change"
            );
        }
        self.model.state = State::Attached(wanted);
        Ok(())
    }

    fn change_part(&mut self, action: &Action, effect: &mut Effect) -> Result<()> {
        let mut wanted = self
            .model
            .attached()
            .context("nothing is attached for certain")?
            .clone();
        let command = match action {
            Action::AttachPart(environments) => {
                wanted.environments.extend(environments);
                let list: Vec<_> = environments.iter().map(u8::to_string).collect();
                format!("attach --environments {}", list.join(","))
            }
            Action::DetachPart(environment) => {
                wanted.environments.remove(environment);
                format!("detach --environments {environment}")
            }
            _ => bail!("no step for a part"),
        };
        let nothing = wanted.environments.is_empty();
        self.attach(&command, wanted, effect)?;
        if nothing {
            self.model.state = State::Detached;
        }
        Ok(())
    }

    fn detach(&mut self, effect: &mut Effect) -> Result<()> {
        let start = Instant::now();
        self.lab.detach()?;
        effect.took = Some(start.elapsed());
        self.model.state = State::Detached;
        Ok(())
    }

    /// Whether the command was still at work when it was killed.
    fn kill(&self, subcommand: &str, delay: Duration) -> Result<bool> {
        let mut command = self.lab.envnet().command();
        command.arg(subcommand).stdout(Stdio::null());
        let mut process = Process::start(command)?;
        interrupt::sleep(delay)?;
        Ok(process.ended()?.is_none())
    }

    fn race(&self, first: &str, second: &str) -> Result<()> {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.lab.envnet().succeed(second));
            let own = self.lab.envnet().succeed(first);
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            own.and(other).map(drop)
        })
    }

    /// Makes the siblings of a guest ask for its Ethernet address, as an announcement (RFC 5227, section 2.3) would. They
    /// would otherwise believe what they know for some seconds.
    fn tell_siblings(&self, seat: Seat) {
        let is_sibling = |other: &Seat| other.environment == seat.environment && *other != seat;
        for (_, guest) in self.guests.iter().filter(|(other, _)| is_sibling(other)) {
            // One whose tap is gone has no interface.
            drop(guest.namespace().ip(&format!("neighbour flush to {}", seat.internal())));
        }
    }

    fn switch_off(&mut self, seat: Seat) {
        self.traffic.forget(seat);
        self.guests.remove(&seat);
        self.model.guests.remove(&seat);
    }

    fn transfer(&self, from: Option<Seat>, to: Seat) -> Result<()> {
        let guest = |seat: &Seat| self.guests.get(seat).context("a guest that is not there");
        let server = guest(&to)?.namespace();
        let (client, target) = match &from {
            None => (self.lab.outside(), to.external()),
            Some(from) if from.environment == to.environment => (guest(from)?.namespace(), to.internal()),
            Some(from) => (guest(from)?.namespace(), to.external()),
        };
        traffic::tcp(client, server, target, TRANSFER).map(drop)
    }

    fn rebuild(&mut self, mode: Mode) -> Result<()> {
        let host = self.lab.host();
        match mode {
            Mode::Bridge => {
                host.ip("link add br0 type bridge")?;
                host.ip("link set eth0 master br0")?;
                host.ip("link set br0 up")?;
            }
            Mode::Macvlan => {
                host.ip("link delete br0")?;
            }
        }
        self.before = before(&self.lab)?;
        // The routers get other Ethernet addresses, which nobody tells the neighbours.
        self.lab.outside().ip("neighbour flush dev eth0")?;
        let file = Wanted {
            mode,
            ..self.model.file.clone()
        };
        self.write(&file)
    }

    /// Plugs guests in again whose tap was gone, and replaces those whose Ethernet address the configuration does not
    /// want any more. Says which.
    pub(super) fn mend_guests(&mut self, wanted: &Wanted) -> Result<BTreeSet<Seat>> {
        let mut mended = BTreeSet::new();
        for (&seat, guest) in &mut self.guests {
            if !wanted.has(seat) {
                continue;
            }
            let fits = self
                .model
                .guests
                .get(&seat)
                .is_some_and(|&card| wanted.takes(seat, card));
            if !fits {
                guest.set_mac(seat.role().mac);
                self.model.guests.insert(seat, Card::Own);
            } else if guest.cable().is_some_and(|cable| !cable.is_broken()) {
                continue;
            }
            guest.plug(self.lab.host())?;
            announce(guest)?;
            mended.insert(seat);
        }
        for &seat in &mended {
            self.tell_siblings(seat);
        }
        Ok(mended)
    }

    /// Lets traffic flow on every way between the guests that are reachable, and says how long it took to begin.
    pub(super) fn keep_traffic(&self) -> Result<Duration> {
        self.traffic.keep(self.ways(), |way| {
            let namespace = match way.from {
                None => self.lab.outside(),
                Some(seat) => self.guests.get(&seat).context("a guest that is not there")?.namespace(),
            };
            namespace.run(|| socket::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP))
        })
    }

    fn ways(&self) -> Vec<Way> {
        let seats = self.model.reachable();
        let mut ways = Vec::new();
        let mut add = |from, target, to, busy| ways.push(Way { from, target, to, busy });
        for (index, &seat) in seats.iter().enumerate() {
            add(None, seat.external(), Some(seat), index == 0);
            add(Some(seat), GATEWAY, None, index == 1);
        }
        for pair in seats.windows(2) {
            let [first, second] = [pair[0], pair[1]];
            // Across, or within and by the hairpin.
            add(Some(first), second.external(), Some(second), false);
            if first.environment == second.environment {
                add(Some(second), first.internal(), Some(first), true);
            }
        }
        ways
    }

    /// Where the laboratory's instance has its pins.
    pub(super) fn pins(&self) -> PathBuf {
        pins(&self.lab)
    }

    /// The network namespaces of this laboratory.
    pub(super) fn namespaces(&self) -> Result<usize> {
        let own = self.lab.host().name();
        Ok(namespace::names()?.iter().filter(|name| name.starts_with(own)).count())
    }

    /// The routers' namespaces there are.
    pub(super) fn routers(&self) -> Result<Vec<Namespace>> {
        let prefix = format!("{}-ns", self.lab.host().name());
        let names = namespace::names()?;
        names
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .map(|name| Namespace::open(name))
            .collect()
    }
}

/// Lets the guest speak, as machines do that come up: without the fast path, a router that knows its address with another
/// Ethernet address asks for it again only after half a minute.
fn announce(guest: &Guest) -> Result<()> {
    // An answer is not needed.
    guest.ping(ROUTER).map(drop)
}

pub(super) fn pins(lab: &Lab) -> PathBuf {
    Path::new("/sys/fs/bpf/envnet").join(format!("netns-{}", lab.host().name()))
}

/// Every file below a folder, sorted.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What the host looks like now that the uplink is up.
fn before(lab: &Lab) -> Result<Before> {
    fixture::wait_for_uplink(lab)?;
    Ok(Before {
        host: snapshot::of_host(lab)?,
        sysctls: snapshot::sysctls(lab.host())?,
    })
}

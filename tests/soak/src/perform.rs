//! One step of the walk, carried out on the world and followed in its model.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use envnet_lab::{
    Mode,
    faults::{self, Kind},
    interrupt,
    process::Process,
    traffic,
};

use crate::{
    actions::Action,
    damage::Damage,
    model::{Desired, Seat, State},
    world::{World, baseline},
};

/// So long after its last frame the fast path still sends a guest's packets to the port where it was
/// (`envnet-common/src/age.rs`). A port without programs, as a foreign one is until the next attach, corrects nothing.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(650);
/// Data in each direction of a transfer.
const TRANSFER: usize = 200_000;

/// What a step did to those that look at its effects.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) start: Instant,
    /// Whether what has not changed must have lost nothing.
    pub(crate) gentle: bool,
    /// Guests that were not left alone.
    pub(crate) touched: BTreeSet<Seat>,
    /// How long the command took, when it was one that counts.
    pub(crate) took: Option<Duration>,
    /// Whether a command was killed before its end, or a call of it failed.
    pub(crate) killed: bool,
}

impl World {
    /// Carries a step out and follows it in the model.
    pub(crate) fn perform(&mut self, action: &Action) -> Result<Effect> {
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
                self.traffic.keep(Vec::new(), |_| Ok(self.lab.outside()))?;
                self.guests.clear();
                self.model.guests.clear();
                self.model.foreign.clear();
            }
            Action::KillAttach(file, delay) => {
                self.write(file)?;
                effect.killed = self.kill("attach", *delay)?;
                self.unsettle(file, &mut effect);
            }
            Action::StrikeAttach(file, call, what) => {
                self.write(file)?;
                effect.killed = self.strike("attach", *call, *what)?;
                self.unsettle(file, &mut effect);
            }
            Action::KillDetach(delay) => {
                effect.killed = self.kill("detach", *delay)?;
                self.model.state = State::Unsettled;
            }
            Action::StrikeDetach(call, what) => {
                effect.killed = self.strike("detach", *call, *what)?;
                self.model.state = State::Unsettled;
            }
            Action::Damage(damage) => {
                damage
                    .happen(&self.lab)
                    .with_context(|| format!("the damage itself: {damage:?}"))?;
                self.other_ports |= matches!(damage, Damage::Unplugged(_));
                self.model.state = State::Unsettled;
            }
            Action::SwitchOn(seat, card) | Action::Restart(seat, card) => {
                self.switch_off(*seat);
                self.switch_on(*seat, *card, seat.tap())?;
                self.introduce(*seat)?;
                effect.gentle = true;
                effect.touched.insert(*seat);
            }
            Action::SwitchOnForeign(seat, card) => {
                self.switch_off(*seat);
                interrupt::sleep(FORGOTTEN_AFTER)?;
                self.switch_on(*seat, *card, seat.foreign_tap())?;
                self.model.foreign.insert(*seat);
                self.plug_in(*seat)?;
                self.introduce(*seat)?;
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

    fn write(&mut self, file: &Desired) -> Result<()> {
        self.lab.configure(file.configuration())?;
        self.lab.set_program(self.builds[file.build].program());
        // As long as it is not certain that XDP is gone.
        let finishes = file.accelerate == "xdp" || (self.finishes && self.model.state != State::Detached);
        if finishes != self.finishes {
            self.lab.finish_checksums(finishes)?;
            self.finishes = finishes;
        }
        self.model.file = file.clone();
        Ok(())
    }

    /// Runs a command after which that is attached.
    fn attach(&mut self, command: &str, desired: Desired, effect: &mut Effect) -> Result<()> {
        let start = Instant::now();
        let changes = self.lab.envnet().changes(command)?;
        effect.took = Some(start.elapsed());
        self.spare(&desired, effect);
        if let State::Attached(before) = &self.model.state {
            ensure!(
                *before != desired || changes == 0 || self.other_ports,
                "attach has made {changes} changes where there was nothing to change"
            );
        }
        self.model.state = State::Attached(desired);
        Ok(())
    }

    /// A command may have changed what is attached into that, or some of it.
    fn unsettle(&mut self, desired: &Desired, effect: &mut Effect) {
        self.spare(desired, effect);
        self.model.state = State::Unsettled;
    }

    /// What is the same before and after that is attached must not have noticed.
    fn spare(&self, desired: &Desired, effect: &mut Effect) {
        if let State::Attached(before) = &self.model.state {
            effect.gentle = true;
            let seats = before.seats().chain(desired.seats());
            effect.touched = seats.filter(|&seat| !before.is_same_for(desired, seat)).collect();
        }
    }

    fn change_part(&mut self, action: &Action, effect: &mut Effect) -> Result<()> {
        let mut desired = self
            .model
            .attached()
            .context("nothing is attached for certain")?
            .clone();
        let command = match action {
            Action::AttachPart(environments) => {
                desired.environments.extend(environments);
                let list: Vec<_> = environments.iter().map(u8::to_string).collect();
                format!("attach --environments {}", list.join(","))
            }
            Action::DetachPart(environment) => {
                desired.environments.remove(environment);
                format!("detach --environments {environment}")
            }
            _ => bail!("no step for a part"),
        };
        let nothing = desired.environments.is_empty();
        self.attach(&command, desired, effect)?;
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

    /// Whether the command was killed, or a call of it failed, and it has said so if it could not be done.
    fn strike(&self, subcommand: &str, call: usize, effect: faults::Effect) -> Result<bool> {
        let among = match effect {
            faults::Effect::Kill => Kind::Change,
            _ => Kind::Question,
        };
        let course = faults::strike(self.lab.envnet(), subcommand, among, call, effect)?;
        let outcome = &course.outcome;
        let clear = match outcome.status {
            None => effect == faults::Effect::Kill && course.struck.is_some(),
            Some(0) => true,
            Some(status) => status == 1 && course.struck.is_some() && outcome.stderr.starts_with("envnet: "),
        };
        ensure!(clear, "{subcommand} has ended with {outcome:?}\n{}", course.log());
        Ok(course.struck.is_some())
    }

    fn race(&self, first: &str, second: &str) -> Result<()> {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.lab.envnet().succeed(second));
            let own = self.lab.envnet().succeed(first);
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            own.and(other).map(drop)
        })
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
        // Taps that are not envnet's are links of the host that do not go with it.
        for seat in self.model.foreign.clone() {
            self.switch_off(seat);
        }
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
        self.baseline = baseline(&self.lab)?;
        // The routers get other Ethernet addresses, which nobody tells the neighbours.
        self.lab.outside().ip("neighbour flush dev eth0")?;
        let file = self.model.file.clone().in_mode(mode);
        self.write(&file)
    }
}

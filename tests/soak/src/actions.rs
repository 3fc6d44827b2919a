//! The steps of the walk, and choosing the next one from the model alone.

use std::{collections::BTreeSet, fmt, time::Duration};

use fastrand::Rng;
use nix::errno::Errno;

use crate::{
    damage::Damage,
    model::{ACCELERATIONS, Card, Desired, MACHINES, MOST_ENVIRONMENTS, Model, Seat, State},
};
use envnet_lab::{Mode, faults::Effect};

/// What the kernel says when a call fails on purpose.
const ERRORS: [Errno; 3] = [Errno::EIO, Errno::ENOMEM, Errno::EBUSY];

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The file as it is.
    Attach,
    /// Another file, then attach.
    Change(Desired),
    /// Another file for some later attach.
    Edit(Desired),
    Detach,
    /// These environments of the file, which differs from what is attached in nothing but that.
    AttachPart(BTreeSet<u8>),
    DetachPart(u8),
    /// Detach, all guests off, and everything is counted.
    Rest,
    /// Begin to change the file's environments into those of another file, and die.
    KillAttach(Desired, Duration),
    KillDetach(Duration),
    /// The same, but killed at a system call by its number, or told that the call has failed.
    StrikeAttach(Desired, usize, Effect),
    StrikeDetach(usize, Effect),
    Damage(Damage),
    SwitchOn(Seat, Card),
    /// On a tap that a hypervisor makes and plugs in itself.
    SwitchOnForeign(Seat, Card),
    SwitchOff(Seat),
    /// Off and on again, perhaps as another machine.
    Restart(Seat, Card),
    /// Two commands at once.
    Race(&'static str, &'static str),
    /// Data over TCP between two guests, or from outside.
    Transfer(Option<Seat>, Seat),
    /// What `plan` and `status` say of an unsettled state.
    Look,
    /// The uplink becomes a bridge's port, or is itself again.
    Rebuild(Mode),
}

impl Action {
    /// The kind of step, for the tally.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Attach => "attach again",
            Self::Change(_) => "change and attach",
            Self::Edit(_) => "edit the file",
            Self::Detach => "detach",
            Self::AttachPart(_) => "attach a part",
            Self::DetachPart(_) => "detach a part",
            Self::Rest => "detach and count",
            Self::KillAttach(..) => "kill attach",
            Self::KillDetach(_) => "kill detach",
            Self::StrikeAttach(_, _, Effect::Kill) => "kill attach at a call",
            Self::StrikeAttach(..) => "fail a call of attach",
            Self::StrikeDetach(_, Effect::Kill) => "kill detach at a call",
            Self::StrikeDetach(..) => "fail a call of detach",
            Self::Damage(_) => "damage",
            Self::SwitchOn(..) => "guest on",
            Self::SwitchOnForeign(..) => "guest on a foreign port",
            Self::SwitchOff(_) => "guest off",
            Self::Restart(..) => "guest restarted",
            Self::Race(..) => "two commands at once",
            Self::Transfer(..) => "transfer",
            Self::Look => "plan and status",
            Self::Rebuild(_) => "rebuild the uplink",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.kind())?;
        match self {
            Self::Change(file) | Self::Edit(file) => write!(formatter, ": {}", Short(file)),
            Self::AttachPart(environments) => write!(formatter, ": {environments:?}"),
            Self::DetachPart(environment) => write!(formatter, ": {environment}"),
            Self::KillAttach(file, delay) => write!(formatter, " after {delay:?}: {}", Short(file)),
            Self::KillDetach(delay) => write!(formatter, " after {delay:?}"),
            Self::StrikeAttach(file, call, effect) => write!(formatter, " {call} ({effect:?}): {}", Short(file)),
            Self::StrikeDetach(call, effect) => write!(formatter, " {call} ({effect:?})"),
            Self::Damage(damage) => write!(formatter, ": {damage:?}"),
            Self::SwitchOnForeign(seat, card) => write!(formatter, ": {} {card:?}", seat.foreign_tap()),
            Self::SwitchOn(seat, card) | Self::Restart(seat, card) => write!(formatter, ": {} {card:?}", seat.tap()),
            Self::SwitchOff(seat) => write!(formatter, ": {}", seat.tap()),
            Self::Race(first, second) => write!(formatter, ": {first}, {second}"),
            Self::Transfer(from, to) => {
                let from = from.map_or_else(|| "outside".to_owned(), Seat::tap);
                write!(formatter, ": {from} → {}", to.tap())
            }
            Self::Rebuild(mode) => write!(formatter, ": {mode:?}"),
            Self::Attach | Self::Detach | Self::Rest | Self::Look => Ok(()),
        }
    }
}

struct Short<'a>(&'a Desired);

impl fmt::Display for Short<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Desired {
            environments,
            machines,
            accelerate,
            mode,
            build,
        } = self.0;
        let machines = machines.iter().map(|(&machine, with_mac)| {
            let name = MACHINES[machine].name;
            if *with_mac {
                format!("{name} with mac")
            } else {
                name.to_owned()
            }
        });
        let machines: Vec<_> = machines.collect();
        write!(
            formatter,
            "{environments:?}, {machines:?}, {accelerate}, {mode:?}, build {build}"
        )
    }
}

/// The next step.
pub(crate) fn choose(rng: &mut Rng, model: &Model) -> Action {
    loop {
        let draw = rng.u32(0..100);
        let action = match &model.state {
            State::Attached(desired) => when_attached(rng, draw, model, desired),
            State::Detached => Some(when_detached(rng, draw, model)),
            State::Unsettled => Some(when_unsettled(rng, draw, model)),
        };
        // Not every step is possible now.
        if let Some(action) = action {
            return action;
        }
    }
}

fn when_attached(rng: &mut Rng, draw: u32, model: &Model, attached: &Desired) -> Option<Action> {
    let free: Vec<_> = attached
        .seats()
        .filter(|seat| !model.guests.contains_key(seat))
        .collect();
    // Without guests there is nothing to lose.
    let draw = if model.reachable().len() < 4 && rng.bool() {
        60
    } else {
        draw
    };
    Some(match draw {
        // Whatever is missing is likely to be attached soon.
        0..4 if model.file.environments != attached.environments => part(rng, model, attached)?,
        0..4 => Action::Attach,
        4..26 => Action::Change(changed(rng, &model.file)),
        26..29 => Action::Edit(changed(rng, &model.file)),
        29..32 => Action::Detach,
        32..34 => Action::Rest,
        34..42 => {
            let file = changed(rng, &model.file);
            broken_attach(rng, file)
        }
        42..46 => broken_detach(rng),
        46..56 => Action::Damage(Damage::choose(rng, attached, &model.foreign)?),
        56..70 => {
            let seat = *rng.choice(&free)?;
            Action::SwitchOn(seat, card(rng, attached, seat))
        }
        70..73 => {
            let seat = *rng.choice(&free)?;
            Action::SwitchOnForeign(seat, card(rng, attached, seat))
        }
        73..77 => Action::SwitchOff(*rng.choice(&model.reachable())?),
        77..84 => {
            let seat = *rng.choice(&model.reachable())?;
            Action::Restart(seat, card(rng, attached, seat))
        }
        84..88 => race(rng),
        88..93 => part(rng, model, attached)?,
        93..98 => {
            let reachable = model.reachable();
            let (from, to) = (*rng.choice(&reachable)?, *rng.choice(&reachable)?);
            let from = Some(from).filter(|_| rng.u8(0..3) > 0);
            if from == Some(to) {
                return None;
            }
            Action::Transfer(from, to)
        }
        _ => Action::Look,
    })
}

fn when_detached(rng: &mut Rng, draw: u32, model: &Model) -> Action {
    match draw {
        0..50 => Action::Attach,
        50..65 => Action::Edit(changed(rng, &model.file)),
        65..70 => Action::Look,
        70..80 => broken_attach(rng, model.file.clone()),
        80..83 => broken_detach(rng),
        83..87 => Action::Detach,
        87..91 => race(rng),
        _ => Action::Rebuild(match model.file.mode {
            Mode::Macvlan => Mode::Bridge,
            Mode::Bridge => Mode::Macvlan,
        }),
    }
}

fn when_unsettled(rng: &mut Rng, draw: u32, model: &Model) -> Action {
    match draw {
        0..45 => Action::Attach,
        45..60 => Action::Detach,
        60..62 => Action::Rest,
        62..75 => {
            let file = changed(rng, &model.file);
            broken_attach(rng, file)
        }
        75..83 => broken_detach(rng),
        83..88 => race(rng),
        88..94 => Action::Change(changed(rng, &model.file)),
        _ => Action::Look,
    }
}

/// An attach of that file that is killed some time or at some call, or is told that a call has failed.
fn broken_attach(rng: &mut Rng, file: Desired) -> Action {
    if rng.bool() {
        Action::KillAttach(file, delay(rng))
    } else {
        Action::StrikeAttach(file, call(rng), effect(rng))
    }
}

fn broken_detach(rng: &mut Rng) -> Action {
    if rng.bool() {
        Action::KillDetach(delay(rng))
    } else {
        Action::StrikeDetach(call(rng), effect(rng))
    }
}

/// The number of a call. A command may have fewer, and then ends as it should.
fn call(rng: &mut Rng) -> usize {
    let most = 1 << rng.u32(3..10);
    rng.usize(0..most)
}

fn effect(rng: &mut Rng) -> Effect {
    if rng.bool() {
        Effect::Kill
    } else {
        Effect::Fail(ERRORS[rng.usize(0..ERRORS.len())])
    }
}

/// Short ones are as likely as long ones: much happens in the first milliseconds.
fn delay(rng: &mut Rng) -> Duration {
    let most = 1 << rng.u32(10..19);
    Duration::from_micros(rng.u64(0..most))
}

/// Some environments only: those that are missing are attached, or otherwise one is detached. Another build does not do
/// that.
fn part(rng: &mut Rng, model: &Model, attached: &Desired) -> Option<Action> {
    if model.file.build != attached.build {
        return None;
    }
    let complete = Desired {
        environments: model.file.environments.clone(),
        ..attached.clone()
    };
    let missing: BTreeSet<_> = model
        .file
        .environments
        .difference(&attached.environments)
        .copied()
        .collect();
    if complete == model.file && !missing.is_empty() {
        return Some(Action::AttachPart(missing));
    }
    let environments: Vec<_> = attached.environments.iter().copied().collect();
    Some(Action::DetachPart(*rng.choice(&environments)?))
}

fn race(rng: &mut Rng) -> Action {
    let commands = ["attach", "attach", "detach", "status", "plan"];
    let any = |rng: &mut Rng| commands[rng.usize(0..commands.len())];
    Action::Race(any(rng), any(rng))
}

fn card(rng: &mut Rng, desired: &Desired, seat: Seat) -> Card {
    let other = rng.bool();
    if other && desired.takes(seat, Card::Other) {
        Card::Other
    } else {
        Card::Own
    }
}

/// Another file: one or two differences.
fn changed(rng: &mut Rng, file: &Desired) -> Desired {
    let mut new = file.clone();
    for _ in 0..rng.u8(1..3) {
        match rng.u8(0..9) {
            0..3 => {
                let environment = rng.u8(1..=MOST_ENVIRONMENTS);
                if !new.environments.remove(&environment) {
                    new.environments.insert(environment);
                }
            }
            3..5 => {
                let machine = rng.usize(0..MACHINES.len());
                if new.machines.remove(&machine).is_none() {
                    new.machines.insert(machine, rng.bool());
                }
            }
            5..7 => {
                let machine = rng.usize(0..MACHINES.len());
                if let Some(with_mac) = new.machines.get_mut(&machine) {
                    *with_mac = !*with_mac;
                }
            }
            7 => new.build = 1 - new.build,
            _ => new.accelerate = ACCELERATIONS[rng.usize(0..ACCELERATIONS.len())],
        }
    }
    // Without any environment or machine there is nothing to see.
    if new.environments.is_empty() {
        new.environments.insert(rng.u8(1..=MOST_ENVIRONMENTS));
    }
    if new.machines.is_empty() {
        new.machines.insert(rng.usize(0..MACHINES.len()), rng.bool());
    }
    new.in_mode(file.mode)
}

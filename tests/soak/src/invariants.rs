//! What must be true after every step.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::Value;

use crate::{
    actions::Action,
    bpf,
    model::{Desired, MOST_ENVIRONMENTS, Seat, State},
    perform::Effect,
    reachability::check_reachability,
    traffic::Way,
    world::{World, host},
};
use envnet_lab::{
    addresses,
    counters::{Counters, counters},
    interrupt::wait_for,
    process::output,
    snapshot,
};

/// How long the kernel may take to remove what was in a namespace, while others keep it busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// The highest machine number that is asked whether it answers; nobody has it.
const HIGHEST: u8 = 5;
/// Drops that nothing in the walk can be the reason of. Those of forged packets are among them: no guest forges, and one
/// with another Ethernet address than the configuration says is replaced before it is asked anything.
const NEVER: [&str; 9] = [
    "truncated",
    "vlan-tagged",
    "malformed-ipv4",
    "malformed-arp",
    "source-martian",
    "tiny-fragment",
    "embedded-malformed",
    "helper-failed",
    "icmp-redirect",
];

/// What is remembered from step to step, and what the report says about it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    counters: Counters,
    pub(crate) drops: BTreeMap<String, u64>,
    /// Frames that have left the uplink.
    pub(crate) frames: usize,
    /// The longest time until all have answered, after everything but a guest's start.
    pub(crate) slowest_answer: Duration,
    /// The longest time until there was an answer on every way, after all guests had answered.
    pub(crate) slowest_way: Duration,
}

impl Memory {
    /// Fails with the first that is not true.
    pub(crate) fn check(&mut self, world: &mut World, action: &Action, effect: &Effect) -> Result<()> {
        self.frames += world.lab.check_no_leak_so_far()?;
        match world.model.state.clone() {
            State::Attached(desired) => self.when_attached(world, &desired, effect)?,
            State::Detached => {
                self.counters.clear();
                world.other_ports = false;
                world.traffic.losses(|_| false)?;
                when_detached(world)?;
            }
            State::Unsettled => {
                let file = &world.model.file;
                // An attach that was broken off may have removed what is not in the file, but nothing else.
                let kept = matches!(action, Action::KillAttach(..) | Action::StrikeAttach(..));
                self.counters.retain(|key, _| kept && is_counted(file, *key));
                if kept {
                    check_losses(world, effect, &BTreeSet::new())?;
                } else {
                    world.traffic.losses(|_| false)?;
                }
                world.loaded.look(false)?;
            }
        }
        Ok(())
    }

    fn when_attached(&mut self, world: &mut World, desired: &Desired, effect: &Effect) -> Result<()> {
        let mended = world.mend_guests(desired)?;
        let took = check_reachability(world.lab.outside(), &addresses(world))?;
        if mended.is_empty() && effect.touched.is_empty() {
            self.slowest_answer = self.slowest_answer.max(took);
        }
        check_losses(world, effect, &mended)?;
        self.slowest_way = self.slowest_way.max(world.keep_traffic()?);
        if world.model.file == *desired {
            Self::check_plan(world)?;
        }
        let status = world.status_of(desired)?;
        // `intact` is about the file.
        check_status(&status, desired, world.model.file == *desired, world.other_ports)?;
        self.check_counters(&status, desired)?;
        self.check_drops(&status)?;
        world.loaded.look(true)
    }

    fn check_plan(world: &mut World) -> Result<()> {
        let plan = || -> Result<Value> {
            let planned = world.lab.envnet().succeed("--json plan")?;
            let mut planned: Value = serde_json::from_str(&planned).context("the plan is no JSON")?;
            Ok(planned["changes"].take())
        };
        let mut planned = plan()?;
        let is_empty = |planned: &Value| planned.as_array().is_some_and(Vec::is_empty);
        if world.other_ports && !is_empty(&planned) {
            // Those have programs, or no longer have, after an attach only.
            world.lab.attach()?;
            planned = plan()?;
        }
        world.other_ports = false;
        ensure!(
            is_empty(&planned),
            "attached, but there is still something to change: {planned}"
        );
        Ok(())
    }

    fn check_counters(&mut self, status: &Value, desired: &Desired) -> Result<()> {
        let new = counters(status)?;
        self.counters.retain(|key, _| is_counted(desired, *key));
        for (key, old) in &self.counters {
            let new = new.get(key).with_context(|| format!("no counters of {key:?}"))?;
            ensure!(
                old.iter().zip(new).all(|(old, new)| old <= new),
                "the counters of {key:?} went from {old:?} to {new:?}"
            );
        }
        self.counters = new;
        Ok(())
    }

    fn check_drops(&mut self, status: &Value) -> Result<()> {
        let mut drops: BTreeMap<String, u64> = BTreeMap::new();
        for drop in status["drops"].as_array().context("no drops in the status")? {
            let reason = drop["reason"].as_str().context("a drop without reason")?;
            *drops.entry(reason.to_owned()).or_default() += drop["packets"].as_u64().unwrap_or(0);
            ensure!(!NEVER.contains(&reason), "drops that cannot be: {drop}");
        }
        for (reason, packets) in drops {
            let most = self.drops.entry(reason).or_default();
            *most = packets.max(*most);
        }
        Ok(())
    }
}

/// Fails if something is lost between guests that were left alone, or between them and the outside.
fn check_losses(world: &World, effect: &Effect, mended: &BTreeSet<Seat>) -> Result<()> {
    let counts = |way: &Way| {
        let alone = |seat| !effect.touched.contains(&seat) && !mended.contains(&seat);
        effect.gentle && way.seats().all(alone)
    };
    let losses = world.traffic.losses(counts)?;
    let losses: Vec<_> = losses.iter().map(|loss| loss.since(effect.start)).collect();
    ensure!(
        losses.is_empty(),
        "lost where nothing had changed: {}",
        losses.join("; ")
    );
    Ok(())
}

fn is_counted(desired: &Desired, (environment, internal): (u8, Ipv4Addr)) -> bool {
    let known = internal == addresses::ROUTER || desired.seats().any(|seat| seat.internal() == internal);
    known && desired.environments.contains(&environment)
}

/// Every address that might answer, and whether it must.
fn addresses(world: &World) -> BTreeMap<Ipv4Addr, bool> {
    let guests = world.model.reachable();
    let attached = world.model.attached();
    let mut addresses = BTreeMap::new();
    for environment in 1..=MOST_ENVIRONMENTS {
        for number in 1..=HIGHEST {
            let address = addresses::external(environment, number);
            let router = number == 1 && attached.is_some_and(|desired| desired.environments.contains(&environment));
            let guest = guests.iter().any(|seat| seat.external() == address);
            addresses.insert(address, router || guest);
        }
    }
    addresses
}

/// `intact` says whether all must be there, and `other_ports` whether somebody else's ports have changed since the last attach.
fn check_status(status: &Value, desired: &Desired, intact: bool, other_ports: bool) -> Result<()> {
    let environments = status["environments"]
        .as_array()
        .context("no environments in the status")?;
    let numbers: Vec<_> = environments.iter().map(|entry| entry["environment"].as_u64()).collect();
    let expected: Vec<_> = desired
        .environments
        .iter()
        .map(|&number| Some(u64::from(number)))
        .collect();
    ensure!(
        numbers == expected,
        "status shows the environments {numbers:?}, not {expected:?}"
    );
    let mut expected: Vec<_> = desired.seats().map(|seat| seat.internal().to_string()).collect();
    expected.push(addresses::ROUTER.to_string());
    let expected: BTreeSet<_> = expected.iter().map(String::as_str).collect();
    for entry in environments {
        ensure!(
            (entry["intact"] == true || !intact)
                && (other_ports || entry["new_ports"].as_array().is_some_and(Vec::is_empty)),
            "attached, but not intact: {entry}"
        );
        let guests = entry["guests"].as_array().context("no guests in the status")?;
        let shown: BTreeSet<_> = guests.iter().filter_map(|guest| guest["internal"].as_str()).collect();
        ensure!(shown == expected, "status shows the guests {shown:?}, not {expected:?}");
    }
    let expected = desired.fast_path();
    let fast_path = &status["uplink"]["fast_path"];
    ensure!(fast_path == expected, "the fast path is {fast_path}, not {expected}");
    Ok(())
}

fn when_detached(world: &World) -> Result<()> {
    let (lab, baseline) = (&world.lab, &world.baseline);
    let gone = wait_for("the host as it was", PATIENCE, || {
        Ok((host(lab)? == baseline.host).then_some(()))
    });
    gone.with_context(|| snapshot::difference(&baseline.host, &host(lab).unwrap_or_default()))?;
    let sysctls = snapshot::sysctls(lab.host())?;
    let changed = snapshot::changed(&baseline.sysctls, &sysctls);
    ensure!(changed.is_empty(), "envnet changed the host's {changed:?}");
    let left = || {
        wait_for("BPF programs and maps to go", bpf::PATIENCE, || {
            Ok((world.loaded.left() == (0, 0)).then_some(()))
        })
    };
    left().with_context(|| format!("programs and maps after detach: {:?}", world.loaded.left()))?;
    let taps: Vec<_> = world.model.foreign.iter().map(|seat| seat.foreign_tap()).collect();
    lab.host().run(|| {
        for interface in ["eth0", "br0"].into_iter().chain(taps.iter().map(String::as_str)) {
            for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
                // A kernel without tcx cannot be asked, nor is there always a bridge.
                if let Ok((_, programs)) = SchedClassifier::query_tcx(interface, direction) {
                    let names: Vec<_> = programs
                        .iter()
                        .map(|program| program.name_as_str().unwrap_or("?"))
                        .collect();
                    ensure!(
                        names.is_empty(),
                        "after detach there are still {names:?} at {interface}"
                    );
                }
            }
        }
        Ok(())
    })?;
    for tap in taps {
        let qdiscs = output(lab.host().command("tc").args(["qdisc", "show", "dev", &tap]))?;
        ensure!(!qdiscs.contains("clsact"), "detach has left on {tap}: {qdiscs}");
    }
    // Nobody may answer any more.
    check_reachability(lab.outside(), &addresses(world)).map(drop)
}

//! Runs many cases and compares what the programs did with what the model says.
//!
//! Reading counters takes far longer than running a packet, so they are read once per batch and compared in sum; only when
//! a sum is wrong do the batch's packets run again one by one. Packets with several defects go in a batch of their own,
//! because each of their reasons would be right.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Result;
use envnet_model::{Counts, Due, Host, Program, Verdict, address, as_guest_sends, due};
use fastrand::Rng;

use crate::{
    Case, Disagreement, corpus, generate,
    harness::Action,
    kernel::{DropCount, Kernel},
    report::Report,
    shrink::shrink,
    worlds::{HOSTS, guest_mac},
};

/// Packets that are made, run and counted together.
pub const BATCH: usize = 4096;

/// The programs, and what they have been seen to do.
pub struct Campaign {
    kernel: Kernel,
    /// What was run so far.
    pub report: Report,
}

/// A program on an interface.
#[derive(Clone, Copy)]
struct Attached {
    program: Program,
    /// The host that cases are made for.
    host: &'static Host,
    /// The same, unless the interface belongs to no environment.
    known: Option<&'static Host>,
    /// The only guest that may be on the port.
    owner: Option<Ipv4Addr>,
}

/// A case as one program sees it, and what is due to it.
struct Judged<'a> {
    case: &'a Case,
    attached: Attached,
    frame: Vec<u8>,
    due: Due,
}

impl<'a> Judged<'a> {
    fn new(attached: Attached, case: &'a Case) -> Self {
        let Attached {
            program,
            host,
            known,
            owner,
        } = attached;
        let frame = match program {
            Program::GuestIngress => as_guest_sends(host, guest_mac(sender(&case.frame)), &case.frame),
            _ => case.frame.clone(),
        };
        let due = due(program, known, owner, &frame);
        Self {
            case,
            attached,
            frame,
            due,
        }
    }
}

/// Every program on its interface; a guest's port is now any guest's, now one's own.
fn attached(host: &'static Host, known: Option<&'static Host>) -> impl Iterator<Item = Attached> {
    let on = move |program, owner| Attached {
        program,
        host,
        known,
        owner,
    };
    let guest = host.world().own().nth(1).map(|mapping| mapping.internal);
    let own_port = guest.map(|guest| on(Program::GuestIngress, Some(guest)));
    Program::ALL
        .into_iter()
        .map(move |program| on(program, None))
        .chain(own_port)
}

impl Attached {
    /// Whether the program sees this case, the `at`th. On a guest's own port, what others send is refused: some of it is enough.
    fn sees(&self, at: usize, case: &Case) -> bool {
        case.direction == self.program.direction()
            && self
                .owner
                .is_none_or(|owner| at.is_multiple_of(8) || sender(&case.frame) == owner)
    }
}

/// The internal address that a frame gives as its source, if it gives one.
fn sender(frame: &[u8]) -> Ipv4Addr {
    match frame[12..14] {
        [8, 0] => address(frame, 26),
        [8, 6] if frame.len() >= 42 => address(frame, 28),
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

impl Campaign {
    /// Loads the programs.
    pub fn load() -> Result<Self> {
        let kernel = Kernel::load()?;
        let report = Report::default();
        Ok(Self { kernel, report })
    }

    /// Makes and runs one batch. The same seed and number give the same packets.
    pub fn batch(&mut self, seed: u64, number: u64) -> Result<Vec<Disagreement>> {
        let mut rng = Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let host = &HOSTS[rng.usize(..HOSTS.len())];
        // Now and then nobody's interface, as while an environment is taken away.
        let known = (rng.u8(..50) != 0).then_some(host);
        self.kernel.enter(known)?;
        let length = if known.is_some() { BATCH } else { BATCH / 16 };
        let cases: Vec<Case> = (0..length).map(|_| generate::case(&mut rng, host.world())).collect();
        let mut found = Vec::new();
        for attached in attached(host, known) {
            let concerned = cases.iter().enumerate().filter(|(at, case)| attached.sees(*at, case));
            let judged = concerned.map(|(_, case)| Judged::new(attached, case));
            let (several, plain): (Vec<_>, Vec<_>) =
                judged.partition(|judged| matches!(&judged.due.verdict, Verdict::Drop(defects) if defects.len() > 1));
            for group in [plain, several] {
                found.extend(self.group(attached, &group)?);
            }
        }
        Ok(found)
    }

    /// Runs and counts what one program sees.
    fn group(&mut self, attached: Attached, group: &[Judged<'_>]) -> Result<Vec<Disagreement>> {
        self.kernel.refresh(attached.owner)?;
        let mut wrong = self.run(group)?;
        let drops = self.kernel.take_drops()?;
        let translated = self.kernel.take_translated()?;
        self.report.count(group, &drops);
        if wrong.is_empty() && !counters_fit(attached.known, group, &drops, &translated) {
            wrong = self.one_by_one(attached, group)?;
        }
        let mut found = Vec::new();
        for (case, difference) in wrong {
            let check = |case: &Case| self.check(attached, case);
            let (case, difference) = shrink(case, difference, check)?;
            found.push(Disagreement {
                world: attached.host.world(),
                case,
                difference,
            });
        }
        Ok(found)
    }

    /// Runs kept cases one by one.
    pub fn replay(&mut self, text: &str) -> Result<Vec<Disagreement>> {
        let mut found = Vec::new();
        for (host, case) in corpus::parse(text)? {
            self.kernel.enter(Some(host))?;
            for attached in attached(host, Some(host)) {
                if attached.program.direction() == case.direction
                    && let Some(difference) = self.check(attached, &case)?
                {
                    let case = case.clone();
                    found.push(Disagreement {
                        world: host.world(),
                        case,
                        difference,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Outcomes and frames of a group; those that are wrong, a few at most.
    fn run(&mut self, group: &[Judged<'_>]) -> Result<Vec<(Case, String)>> {
        let mut wrong = Vec::new();
        for judged in group {
            let mut difference = self.run_one(judged)?;
            if difference.is_some() && judged.attached.program.is_fast() {
                // On a busy machine, what was learned may have been forgotten meanwhile.
                self.kernel.refresh(judged.attached.owner)?;
                difference = self.run_one(judged)?;
            }
            if let Some(difference) = difference
                && wrong.len() < 3
            {
                wrong.push((judged.case.clone(), difference));
            }
        }
        Ok(wrong)
    }

    fn run_one(&mut self, judged: &Judged<'_>) -> Result<Option<String>> {
        let (action, frame) = self.kernel.run(judged.attached.program, &judged.frame)?;
        Ok(difference(judged, action, frame))
    }

    fn one_by_one(&mut self, attached: Attached, group: &[Judged<'_>]) -> Result<Vec<(Case, String)>> {
        let mut wrong = Vec::new();
        for judged in group {
            if let Some(difference) = self.check(attached, judged.case)? {
                wrong.push((judged.case.clone(), difference));
                if wrong.len() == 3 {
                    break;
                }
            }
        }
        if wrong.is_empty() {
            // Each alone is counted rightly, but not all together.
            wrong.push((
                group[0].case.clone(),
                format!("{}: the counters of a batch do not add up", attached.program.name()),
            ));
        }
        Ok(wrong)
    }

    /// Runs one case by itself, counters included; says what is wrong.
    fn check(&mut self, attached: Attached, case: &Case) -> Result<Option<String>> {
        let judged = [Judged::new(attached, case)];
        self.kernel.refresh(attached.owner)?;
        self.kernel.take_drops()?;
        self.kernel.take_translated()?;
        let wrong = self.run(&judged)?;
        let drops = self.kernel.take_drops()?;
        let translated = self.kernel.take_translated()?;
        if let Some((_, difference)) = wrong.into_iter().next() {
            return Ok(Some(format!("{difference}; {drops:?}")));
        }
        let [Judged { due, .. }] = &judged;
        let fit = counters_fit(attached.known, &judged, &drops, &translated);
        let name = attached.program.name();
        Ok((!fit).then(|| format!("{name}, due: {due:?}\n  counters: {drops:?} {translated:?}")))
    }
}

fn difference(judged: &Judged<'_>, action: Action, frame: &[u8]) -> Option<String> {
    let fits = match (&judged.due.verdict, action) {
        (Verdict::Pass(expected), Action::Pass) | (Verdict::Redirect(expected), Action::Redirect) => expected.is(frame),
        (Verdict::Next, Action::Next) => judged.frame == frame,
        (Verdict::Drop(_), Action::Drop) => true,
        _ => false,
    };
    (!fits).then(|| {
        let expected = match &judged.due.verdict {
            Verdict::Pass(frame) => format!("pass {}", corpus::hex(&frame.bytes)),
            Verdict::Redirect(frame) => format!("redirect {}", corpus::hex(&frame.bytes)),
            Verdict::Next => format!("next {}", corpus::hex(&judged.frame)),
            Verdict::Drop(defects) => format!("drop {defects:?}"),
        };
        let owner = judged.attached.owner;
        let port = owner.map_or_else(String::new, |owner| format!(", port of {owner}"));
        format!(
            "{}{port}, on {}\n  model:   {expected}\n  program: {action:?} {}",
            judged.attached.program.name(),
            corpus::hex(&judged.frame),
            corpus::hex(frame)
        )
    })
}

/// Whether the counters can be the sum of these packets.
fn counters_fit(host: Option<&Host>, group: &[Judged<'_>], drops: &DropCount, translated: &Counts) -> bool {
    let environment = host.map_or(0, |host| host.world().environment);
    // For each count, how many packets must be in it, and how many may be.
    let mut bounds: BTreeMap<(u32, &'static str, Option<Ipv4Addr>), [u64; 2]> = BTreeMap::new();
    let mut dropped = 0;
    let mut expected = Counts::new();
    for Judged { frame, due, .. } in group {
        if let Verdict::Drop(defects) = &due.verdict {
            dropped += 1;
            for defect in defects {
                let bound = bounds
                    .entry((environment, defect.reason.label(), defect.internal))
                    .or_default();
                bound[0] += u64::from(defects.len() == 1);
                bound[1] += 1;
            }
        }
        due.count(frame.len(), &mut expected);
    }
    let within = |(key, bound): (&_, &[u64; 2])| {
        let count = drops.get(key).copied().unwrap_or_default();
        (bound[0]..=bound[1]).contains(&count)
    };
    drops.keys().all(|key| bounds.contains_key(key))
        && bounds.iter().all(within)
        && drops.values().sum::<u64>() == dropped
        && *translated == expected
}

impl Report {
    fn count(&mut self, group: &[Judged<'_>], drops: &DropCount) {
        for Judged {
            case, attached, due, ..
        } in group
        {
            let program = attached.program;
            let runs = self.programs.entry(program.name()).or_default();
            runs.packets += 1;
            runs.taken += u64::from(!due.counted.is_empty());
            if program.is_fast() {
                continue;
            }
            let kind = self.kinds.entry(case.kind).or_default();
            match due.verdict {
                Verdict::Pass(_) | Verdict::Next => kind.passed += 1,
                Verdict::Redirect(_) => kind.redirected += 1,
                Verdict::Drop(_) => kind.dropped += 1,
            }
        }
        for ((_, reason, _), count) in drops {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.packets += group.len() as u64;
    }
}

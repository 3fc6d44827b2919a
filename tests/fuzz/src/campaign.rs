//! Runs many cases and compares what the programs did with what the model says.
//!
//! Reading counters takes far longer than running a packet, so they are read once per batch and compared in sum; only when
//! a sum is wrong do the batch's packets run again one by one. Packets with several defects go in a batch of their own,
//! because each of their reasons would be right.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Result;
use envnet_model::{Direction, Verdict, World, judge};
use fastrand::Rng;

use crate::{
    Case, Disagreement, corpus, generate,
    kernel::{Action, DropCount, Kernel, TranslatedCount},
    report::Report,
    shrink::shrink,
    worlds::WORLDS,
};

/// Packets that are made, run and counted together.
pub const BATCH: usize = 4096;

/// The programs, and what they have been seen to do.
pub struct Campaign {
    kernel: Kernel,
    /// What was run so far.
    pub report: Report,
}

struct Judged {
    case: Case,
    verdict: Verdict,
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
        let world = &WORLDS[rng.usize(..WORLDS.len())];
        // Now and then nobody's interface, as while an environment is taken away.
        let entered = (rng.u8(..50) != 0).then_some(world);
        self.kernel.enter(entered)?;
        let length = if entered.is_some() { BATCH } else { BATCH / 16 };
        let judged = (0..length).map(|_| {
            let case = generate::case(&mut rng, world);
            let verdict = judge(entered, case.direction, &case.frame);
            Judged { case, verdict }
        });
        let (several, plain): (Vec<_>, Vec<_>) =
            judged.partition(|judged| matches!(&judged.verdict, Verdict::Drop(defects) if defects.len() > 1));

        let mut found = Vec::new();
        for group in [plain, several] {
            let mut wrong = self.run(&group)?;
            let drops = self.kernel.take_drops()?;
            let translated = self.kernel.take_translated()?;
            self.report.count(&group, &drops);
            if wrong.is_empty() && !counters_fit(entered, &group, &drops, &translated) {
                wrong = self.one_by_one(entered, &group)?;
            }
            for (case, difference) in wrong {
                let (case, difference) = shrink(case, difference, |case| self.check(entered, case))?;
                found.push(Disagreement {
                    world,
                    case,
                    difference,
                });
            }
        }
        Ok(found)
    }

    /// Runs kept cases one by one.
    pub fn replay(&mut self, text: &str) -> Result<Vec<Disagreement>> {
        let mut found = Vec::new();
        for (world, case) in corpus::parse(text)? {
            self.kernel.enter(Some(world))?;
            if let Some(difference) = self.check(Some(world), &case)? {
                found.push(Disagreement {
                    world,
                    case,
                    difference,
                });
            }
        }
        Ok(found)
    }

    /// Verdicts and frames of a group; those that are wrong, a few at most.
    fn run(&mut self, group: &[Judged]) -> Result<Vec<(Case, String)>> {
        let mut wrong = Vec::new();
        for Judged { case, verdict } in group {
            let (action, frame) = self.kernel.run(case.direction, &case.frame)?;
            if let Some(difference) = difference(verdict, action, frame)
                && wrong.len() < 3
            {
                wrong.push((case.clone(), difference));
            }
        }
        Ok(wrong)
    }

    fn one_by_one(&mut self, world: Option<&World>, group: &[Judged]) -> Result<Vec<(Case, String)>> {
        let mut wrong = Vec::new();
        for judged in group {
            if let Some(difference) = self.check(world, &judged.case)? {
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
                "the counters of a batch do not add up".to_owned(),
            ));
        }
        Ok(wrong)
    }

    /// Runs one case by itself, counters included; says what is wrong.
    fn check(&mut self, world: Option<&World>, case: &Case) -> Result<Option<String>> {
        let judged = [Judged {
            case: case.clone(),
            verdict: judge(world, case.direction, &case.frame),
        }];
        self.kernel.take_drops()?;
        self.kernel.take_translated()?;
        let wrong = self.run(&judged)?;
        let drops = self.kernel.take_drops()?;
        let translated = self.kernel.take_translated()?;
        if let Some((_, difference)) = wrong.into_iter().next() {
            return Ok(Some(format!("{difference}; {drops:?}")));
        }
        let [Judged { verdict, .. }] = &judged;
        let fit = counters_fit(world, &judged, &drops, &translated);
        Ok((!fit).then(|| format!("the model: {verdict:?}\n  counters: {drops:?} {translated:?}")))
    }
}

fn difference(verdict: &Verdict, action: Action, frame: &[u8]) -> Option<String> {
    let fits = match (verdict, action) {
        (Verdict::Pass(expected), Action::Pass) | (Verdict::Redirect(expected), Action::Redirect) => expected.is(frame),
        (Verdict::Drop(_), Action::Drop) => true,
        _ => false,
    };
    (!fits).then(|| {
        let expected = match verdict {
            Verdict::Pass(frame) => format!("pass {}", corpus::hex(&frame.bytes)),
            Verdict::Redirect(frame) => format!("redirect {}", corpus::hex(&frame.bytes)),
            Verdict::Drop(defects) => format!("drop {defects:?}"),
        };
        format!("model:   {expected}\n  program: {action:?} {}", corpus::hex(frame))
    })
}

/// Whether the counters can be the sum of these packets.
fn counters_fit(world: Option<&World>, group: &[Judged], drops: &DropCount, translated: &TranslatedCount) -> bool {
    let environment = world.map_or(0, |world| world.environment);
    // For each count, how many packets must be in it, and how many may be.
    let mut bounds: BTreeMap<(u32, &'static str, Option<Ipv4Addr>), [u64; 2]> = BTreeMap::new();
    let mut dropped = 0;
    let mut expected = TranslatedCount::new();
    for Judged { case, verdict } in group {
        if let Verdict::Drop(defects) = verdict {
            dropped += 1;
            for defect in defects {
                let bound = bounds
                    .entry((environment, defect.reason.label(), defect.internal))
                    .or_default();
                bound[0] += u64::from(defects.len() == 1);
                bound[1] += 1;
            }
        } else if let Some(world) = world
            && case.frame[12..14] == [8, 0]
            && let Some(internal) = guest(world, case)
        {
            let bytes = case.frame.len() as u64;
            let counts = expected.entry((environment, internal)).or_default();
            let at = if case.direction == Direction::In { 0 } else { 2 };
            counts[at] += 1;
            counts[at + 1] += bytes;
        }
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

/// The internal address that a translated packet is about.
fn guest(world: &World, case: &Case) -> Option<Ipv4Addr> {
    let address = |at: usize| {
        let bytes: [u8; 4] = case.frame[at..at + 4].try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    match case.direction {
        Direction::In => world.internal_of(address(30)?),
        Direction::Out => address(26),
    }
}

impl Report {
    fn count(&mut self, group: &[Judged], drops: &DropCount) {
        for Judged { case, verdict } in group {
            let kind = self.kinds.entry(case.kind).or_default();
            match verdict {
                Verdict::Pass(_) => kind.passed += 1,
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

//! What the walk has done so far, as lines on the terminal.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use crate::{actions::Action, invariants::Memory, perform::Effect, world::World};

/// How many of the last steps are shown when one has failed.
const LAST: usize = 25;
/// How often there is a line of progress.
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Tally {
    start: Instant,
    shown: Instant,
    steps: u64,
    kinds: BTreeMap<&'static str, u64>,
    /// Commands that were killed before their end, or of which a call failed.
    killed: u64,
    attached: Times,
    detached: Times,
    last: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Times {
    count: u32,
    sum: Duration,
    longest: Duration,
}

impl Times {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        self.longest = self.longest.max(took);
    }

    fn text(&self) -> String {
        let mean = self.sum.checked_div(self.count).unwrap_or_default();
        format!(
            "{} times, {} ms on average, {} ms at most",
            self.count,
            mean.as_millis(),
            self.longest.as_millis()
        )
    }
}

impl Tally {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            shown: Instant::now(),
            steps: 0,
            kinds: BTreeMap::new(),
            killed: 0,
            attached: Times::default(),
            detached: Times::default(),
            last: VecDeque::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, action: &Action) {
        self.steps += 1;
        *self.kinds.entry(action.kind()).or_default() += 1;
        self.last.truncate(LAST - 1);
        self.last.push_front(format!(
            "{:5} {:7.1} s  {action}",
            self.steps,
            self.start.elapsed().as_secs_f32()
        ));
    }

    /// The command of a step has ended.
    pub(crate) fn done(&mut self, action: &Action, effect: &Effect) {
        self.killed += u64::from(effect.killed);
        if let Some(took) = effect.took {
            match action {
                Action::Detach | Action::Rest => self.detached.add(took),
                _ => self.attached.add(took),
            }
        }
    }

    /// A line, if it is time for one.
    pub(crate) fn progress(&mut self, world: &World, memory: &Memory) {
        if self.shown.elapsed() < PROGRESS {
            return;
        }
        self.shown = Instant::now();
        let count = world.traffic.count();
        println!(
            "{:6.0} s  {} steps, {} attached, {} detached, {} killed, {} damaged; {} guests; {} of {} requests answered; {} frames looked at",
            self.start.elapsed().as_secs_f32(),
            self.steps,
            self.attached.count,
            self.detached.count,
            self.killed,
            self.kinds.get("damage").copied().unwrap_or(0),
            world.guests.len(),
            count.answered,
            count.sent,
            memory.frames,
        );
    }

    /// The step that has begun.
    pub(crate) fn latest(&self) -> &str {
        self.last.front().map_or("", String::as_str)
    }

    /// The last steps, the last one last.
    pub(crate) fn last(&self) -> String {
        let lines: Vec<_> = self.last.iter().rev().map(String::as_str).collect();
        lines.join("\n")
    }

    /// The table at the end.
    pub(crate) fn summary(&self, world: &World, memory: &Memory) -> String {
        let mut text = format!("{} steps in {:.0} s\n", self.steps, self.start.elapsed().as_secs_f32());
        for (kind, count) in &self.kinds {
            text += &line(kind, count);
        }
        let count = world.traffic.count();
        let (programs, maps) = world.loaded.ever();
        for (what, value) in [
            ("attach", self.attached.text()),
            ("detach", self.detached.text()),
            ("killed or failed at work", self.killed.to_string()),
            ("requests sent, answered", format!("{}, {}", count.sent, count.answered)),
            (
                "frames out of the uplink",
                format!("{}, none with an internal address", memory.frames),
            ),
            (
                "all answer after a change",
                format!("within {} ms", memory.slowest_answer.as_millis()),
            ),
            (
                "then traffic on all ways",
                format!("within {} ms", memory.slowest_way.as_millis()),
            ),
            ("BPF programs, maps ever seen", format!("{programs}, {maps}")),
        ] {
            text += &line(what, &value);
        }
        let drops: Vec<_> = memory
            .drops
            .iter()
            .map(|(reason, most)| format!("{reason} {most}"))
            .collect();
        text + &line("drops, most at once", &drops.join(", "))
    }
}

fn line(what: &str, value: &dyn fmt::Display) -> String {
    format!("  {what:<36} {value}\n")
}

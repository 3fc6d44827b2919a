//! Nanoseconds per frame along the whole way, by flooding it from inside the kernel on one processor.
//!
//! The time is the generator's: what a frame causes is done on the generator's processor before the next batch is sent. A
//! guest on a tap reads on another processor; where that takes longer, its time counts.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, bail, ensure};
use envnet_lab::{addresses::UPSTREAM, namespace::Namespace};

use super::Effort;
use envnet_lab::socket::mac;

use crate::{
    flood::{Generator, Sink},
    frames::{Addresses, Varied, peer},
    methods::{LIMIT, REFERENCE},
    port::{self, INTERFACE},
    reader::Reader,
    rounds::{Cell, Ledger, Name, Sample},
    testbed::{Testbed, UPLINK},
    world::{DC, Direction, World, answers},
};

/// The name under which generator and sink alone are measured.
pub(crate) const HARNESS: &str = "harness";
const MEASUREMENT: &str = "rate";
/// Many flows. Twelve bits of them are in the source port, four in destination port and an address.
const MANY: u32 = 1 << 16;
/// Frames sent to see how long they take.
const PROBE: u32 = 2048;
/// What a tap's queue holds, which is a thousand frames, with room to spare.
const BURST: u32 = 768;
const FEWEST: u32 = 4096;
const MOST: u32 = 500_000;

/// What is particular about a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Usual,
    /// To a tap in bursts that its queue holds.
    InBursts,
    /// Where XDP is told that the guest's veth is a tap: its way without a tap's queue. With what it is compared with.
    PastTheTap,
}

/// Methods that are measured past the tap.
const PAST_THE_TAP: [&str; 4] = [REFERENCE, "envnet-tc", "envnet-xdp", LIMIT];

/// One combination.
#[derive(Clone, Copy, Debug)]
struct Variant {
    direction: Direction,
    way: Way,
    length: usize,
    flows: u32,
}

impl Variant {
    fn all(effort: &Effort) -> Vec<Self> {
        let mut variants = Vec::new();
        for (direction, way) in [
            (Direction::In, Way::Usual),
            (Direction::In, Way::PastTheTap),
            (Direction::Out, Way::Usual),
            (Direction::Across, Way::Usual),
            (Direction::Tap, Way::InBursts),
            (Direction::Tap, Way::Usual),
        ] {
            for (length, flows) in [(64, 1), (1400, 1), (64, MANY), (1400, MANY)] {
                // Lengths and flows in one direction; all of it is for who has time.
                let is_usual = length == 64 && flows == 1;
                let is_in = direction == Direction::In && way == Way::Usual && (length == 64 || flows == 1);
                let is_short = length == 64 || way != Way::PastTheTap;
                if effort.is_quick && !is_usual && !is_in || !is_short {
                    continue;
                }
                variants.push(Self {
                    direction,
                    way,
                    length,
                    flows,
                });
            }
        }
        variants
    }

    fn name(&self) -> Name {
        let direction = match self.direction {
            Direction::In if self.way == Way::PastTheTap => "in, a veth in place of the tap for XDP",
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Across => "environment to environment",
            Direction::Tap if self.way == Way::InBursts => "in, to the queue of a tap",
            Direction::Tap => "in, read from a tap",
        };
        let flows = if self.flows == 1 { "1 flow" } else { "64k flows" };
        Name {
            measurement: MEASUREMENT,
            variant: format!("{direction}, {} bytes, {flows}", self.length),
            unit: "ns/packet",
            less_is_better: true,
        }
    }
}

/// The sinks of a world.
pub(crate) struct Sinks<'w> {
    pub(crate) world: &'w World<'w>,
    inside: Sink,
    outside: Sink,
    across: Sink,
}

impl<'w> Sinks<'w> {
    /// Puts a sink wherever frames arrive. While they are there, the interfaces cannot take segments to be split later.
    pub(crate) fn attach(world: &'w World<'w>) -> Result<Self> {
        let [first, second] = world.guests.each_ref().map(|guest| &guest.namespace);
        let attach = |namespace: &Namespace, interface: &str, direction| {
            let (source, destination) = world.arrival(direction);
            Sink::attach(namespace, interface, source, destination)
        };
        Ok(Self {
            world,
            inside: attach(first, INTERFACE, Direction::In)?,
            outside: attach(&world.testbed.outside, UPLINK, Direction::Out)?,
            across: attach(second, INTERFACE, Direction::Across)?,
        })
    }
}

/// A generator and what it floods.
pub(crate) struct Flood<'w> {
    generator: Generator,
    origin: &'w Namespace,
    /// Whom to ask before each sample, so that all on the way know their neighbours.
    target: Option<Ipv4Addr>,
    end: End<'w>,
    flows: u32,
    /// Frames of a sample, once it is known how long they take.
    frames: u32,
}

/// Where frames are counted.
enum End<'w> {
    Kernel(&'w Sink),
    Reader(&'w Reader),
}

impl<'w> Flood<'w> {
    pub(crate) fn new(sinks: &'w Sinks<'w>, direction: Direction, length: usize, flows: u32) -> Result<Self> {
        let world = sinks.world;
        let (origin, interface) = world.origin(direction);
        let addresses = world.addresses(direction)?;
        Ok(Self {
            generator: Generator::new(origin, interface, &addresses, length, flows)?,
            origin,
            target: Some(addresses.destination),
            end: match direction {
                Direction::In => End::Kernel(&sinks.inside),
                Direction::Out => End::Kernel(&sinks.outside),
                Direction::Across => End::Kernel(&sinks.across),
                Direction::Tap => End::Reader(&world.reader),
            },
            flows,
            frames: 0,
        })
    }

    /// One sample of about that duration, in nanoseconds for each frame that arrived.
    pub(crate) fn sample(&mut self, duration: Duration) -> Result<Sample> {
        self.introduce()?;
        if self.frames == 0 {
            let probe = self.generator.send(self.origin, PROBE)?;
            let frames = duration.as_nanos() * u128::from(PROBE) / probe.as_nanos().max(1);
            self.frames = u32::try_from(frames).unwrap_or(MOST).clamp(FEWEST, MOST);
        }
        self.exactly(self.frames)
    }

    /// Guests speak now and then; neighbours that were not needed for a minute have to be asked again, and proxy ARP takes
    /// its time to answer.
    fn wake(&self) -> Result<()> {
        self.target.map_or(Ok(()), |target| answers(self.origin, target))
    }

    /// What remembers connections gets to know them first: that is measured elsewhere.
    fn introduce(&self) -> Result<()> {
        self.wake()?;
        if self.flows > 1 {
            self.generator.send(self.origin, self.flows)?;
        }
        Ok(())
    }

    /// One sample of so many frames.
    pub(crate) fn exactly(&self, frames: u32) -> Result<Sample> {
        self.wake()?;
        let (received, time) = match &self.end {
            End::Kernel(sink) => {
                let before = sink.arrived()?;
                let time = self.generator.send(self.origin, frames)?;
                (sink.since(before)?.right, time)
            }
            End::Reader(reader) => {
                let (received, sent, read) = self.send_to(reader, frames)?;
                (received, sent.max(read))
            }
        };
        sample(frames.into(), received, time)
    }

    /// One sample of bursts that a tap's queue holds. Its reader waits until a burst is over, so that what is measured is
    /// the way into the queue and not how two processors fight for it.
    fn bursts(&self, number: u32) -> Result<Sample> {
        let End::Reader(reader) = &self.end else {
            bail!("only a tap has a queue");
        };
        self.introduce()?;
        let (mut received, mut time) = (0, Duration::ZERO);
        for _ in 0..number {
            let held = reader.hold();
            // It may be asleep, and waking it is not to be part of a burst.
            self.generator.send(self.origin, 1)?;
            held.wait()?;
            let before = reader.begin();
            time += self.generator.send(self.origin, BURST)?;
            drop(held);
            received += reader.drained(before, BURST)?;
        }
        sample(u64::from(number) * u64::from(BURST), received, time)
    }

    /// Sends frames to a reader: how many it got, how long sending took, and how long reading.
    fn send_to(&self, reader: &Reader, frames: u32) -> Result<(u64, Duration, Duration)> {
        let before = reader.begin();
        let time = self.generator.send(self.origin, frames)?;
        let received = reader.drained(before, frames)?;
        Ok((received, time, reader.duration()))
    }
}

fn sample(offered: u64, received: u64, time: Duration) -> Result<Sample> {
    // A path that loses nearly all is not slow but broken; a reader may lose much that XDP floods it with.
    ensure!(received > offered / 100, "only {received} of {offered} frames arrived");
    #[expect(clippy::cast_precision_loss, reason = "some million frames, some seconds")]
    let value = time.as_nanos() as f64 / received as f64;
    Ok(Sample {
        values: vec![value],
        offered,
        received,
        note: None,
    })
}

/// All cells that another round has to measure: for each variant one for each method, and one for generator and sink alone.
pub(crate) fn cells<'w>(
    sinks: &'w [Sinks<'w>],
    bare: &'w Bare,
    effort: &Effort,
    ledger: &Ledger,
) -> Result<Vec<Cell<'w>>> {
    let mut cells = Vec::new();
    let (duration, bursts) = (effort.flood, effort.bursts);
    let wanted = Variant::all(effort)
        .into_iter()
        .filter(|variant| ledger.wants(&variant.name()));
    for variant in wanted {
        let Variant {
            direction,
            way,
            length,
            flows,
        } = variant;
        if direction == Direction::In && way == Way::Usual {
            let mut flood = bare.flood(length, flows)?;
            cells.push(Cell {
                method: HARNESS.to_owned(),
                names: vec![variant.name()],
                measure: Box::new(move || flood.sample(duration)),
            });
        }
        for sinks in sinks {
            let world = sinks.world;
            let method = world.method.name();
            if way == Way::PastTheTap && !PAST_THE_TAP.contains(&method) {
                continue;
            }
            let mut flood = Flood::new(sinks, direction, length, flows)?;
            cells.push(Cell {
                method: method.to_owned(),
                names: vec![variant.name()],
                measure: Box::new(move || match way {
                    Way::Usual => flood.sample(duration),
                    Way::InBursts => flood.bursts(bursts),
                    Way::PastTheTap => {
                        world.standing.take_as_tap(&world.testbed, &port::name(1, DC), true)?;
                        let sample = flood.sample(duration);
                        world.standing.take_as_tap(&world.testbed, &port::name(1, DC), false)?;
                        sample
                    }
                }),
            });
        }
    }
    Ok(cells)
}

/// A cable from the generator straight to a sink.
pub(crate) struct Bare {
    testbed: Testbed,
    sink: Sink,
}

impl Bare {
    pub(crate) fn new() -> Result<Self> {
        let testbed = Testbed::new("bare")?;
        let sink = Sink::attach(&testbed.host, UPLINK, None, Some(UPSTREAM))?;
        Ok(Self { testbed, sink })
    }

    fn flood(&self, length: usize, flows: u32) -> Result<Flood<'_>> {
        let addresses = Addresses {
            source_mac: mac(&self.testbed.outside.mac(UPLINK)?)?,
            destination_mac: mac(&self.testbed.host.mac(UPLINK)?)?,
            source: peer(0),
            destination: UPSTREAM,
            varied: Varied::Source,
        };
        Ok(Flood {
            generator: Generator::new(&self.testbed.outside, UPLINK, &addresses, length, flows)?,
            origin: &self.testbed.outside,
            target: None,
            end: End::Kernel(&self.sink),
            flows,
            frames: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{headline::LINES, record::example::row};

    #[test]
    fn quick_runs_measure_all_rates_of_the_headline() {
        let names = Variant::all(&Effort::QUICK).into_iter().map(|variant| variant.name());
        let rows: Vec<_> = names
            .map(|name| row([name.measurement, &name.variant, REFERENCE], name.unit, 1.0, &[]))
            .collect();
        let found = LINES.iter().filter(|line| rows.iter().any(|row| line.is_about(row)));
        assert_eq!(found.count(), 4);
    }
}

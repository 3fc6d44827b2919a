//! What each program must do with a case, by the model of the slow path.
//!
//! The fast path is a cache over the slow path: what it must take, it does as the routers on the way would; everything
//! else it leaves alone. Which is which is said for every frame, so that one that takes nothing is found out as well.

use std::net::Ipv4Addr;

use envnet_common::maps::ROUTER_INSIDE_MAC;
use envnet_model::{Direction, Drop, Frame, Reason, Verdict, World, forwarded, is_ordinary, judge};

use crate::{
    Case, Program,
    host::{NEXT_HOP_MAC, guest_mac},
    worlds::elsewhere,
};

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const ARP_END: usize = 42;

/// What is due to one frame.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) outcome: Outcome,
    /// Whose counters count it, and which way.
    pub(crate) counted: Vec<(u32, Ipv4Addr, Direction)>,
}

/// What must become of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Pass(Frame),
    Redirect(Frame),
    /// Left to whoever is next, unchanged.
    Next,
    Drop(Vec<Drop>),
}

impl Outcome {
    fn once(self) -> Due {
        Due {
            outcome: self,
            counted: Vec::new(),
        }
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass(frame) => Self::Pass(frame),
            Verdict::Redirect(frame) => Self::Redirect(frame),
            Verdict::Drop(defects) => Self::Drop(defects),
        }
    }
}

/// The frame that a program sees of a case: what the router would send comes from a guest's port as the guest sends it.
pub(crate) fn seen_by(program: Program, world: &World, case: &Case) -> Vec<u8> {
    let mut frame = case.frame.clone();
    if program != Program::GuestIngress {
        return frame;
    }
    let sender = match frame[12..14] {
        [8, 0] => address(&frame, 26),
        [8, 6] if frame.len() >= ARP_END => address(&frame, 28),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    if frame[0] & 1 == 0 {
        frame[..6].copy_from_slice(&ROUTER_INSIDE_MAC.0);
    }
    let mac = guest_mac(sender);
    frame[6..12].copy_from_slice(&mac);
    if frame[12..14] == ARP && frame.len() >= ARP_END && frame[22..28] == world.router_wan {
        frame[22..28].copy_from_slice(&mac);
    }
    frame
}

/// What the program must do; without a world, its interface belongs to no environment.
pub(crate) fn due(program: Program, world: Option<&World>, frame: &[u8]) -> Due {
    match (program, world) {
        (Program::RouterIngress | Program::RouterEgress, _) => slow(program.direction(), world, frame),
        (_, None) => Outcome::Next.once(),
        (Program::GuestIngress, Some(world)) => from_guest(world, frame),
        (_, Some(world)) => from_uplink(program, world, frame),
    }
}

fn slow(direction: Direction, world: Option<&World>, frame: &[u8]) -> Due {
    let mut due = Outcome::from(judge(world, direction, frame)).once();
    if let Some(world) = world
        && frame[12..14] == IPV4
        && !matches!(due.outcome, Outcome::Drop(_))
    {
        let internal = match direction {
            Direction::In => world.internal_of(address(frame, 30)),
            Direction::Out => Some(address(frame, 26)),
        };
        due.counted = internal
            .map(|internal| (world.environment, internal, direction))
            .into_iter()
            .collect();
    }
    due
}

/// Every router on the uplink hears the frame; the fast path answers for all of them.
fn from_uplink(program: Program, world: &World, frame: &[u8]) -> Due {
    let worlds = [world, &elsewhere(world)];
    let concerned = if program == Program::WanPortEgress { 1 } else { 2 };
    for &world in &worlds[..concerned] {
        match (judge(Some(world), Direction::In, frame), &frame[12..14]) {
            (Verdict::Redirect(answer), [8, 6]) if program != Program::UplinkXdp => {
                // The routers ask each other without the host's help.
                if worlds.iter().any(|world| frame[6..12] == world.router_wan) {
                    return Outcome::Next.once();
                }
                return Outcome::Redirect(answer).once();
            }
            (Verdict::Pass(out), [8, 0]) => {
                let internal = world.internal_of(address(frame, 30));
                // Only a hairpin comes from an own address, and the fast path has a shorter way for it.
                let hairpin = world.external.contains(address(frame, 26));
                let Some(internal) = internal.filter(|_| is_ordinary(frame, 1) && !hairpin) else {
                    continue;
                };
                return Due {
                    outcome: Outcome::Redirect(forwarded(&out, 1, guest_mac(internal), ROUTER_INSIDE_MAC.0)),
                    counted: vec![(world.environment, internal, Direction::In)],
                };
            }
            _ => {}
        }
    }
    Outcome::Next.once()
}

/// On a port where any guest may be.
fn from_guest(world: &World, frame: &[u8]) -> Due {
    let to_group = frame[0] & 1 == 1;
    let verdict = judge(Some(world), Direction::Out, frame);
    if let Some(reason) = refusal(world, frame, &verdict) {
        return Outcome::Drop(vec![Drop::of(reason)]).once();
    }
    if to_group {
        return Outcome::Next.once();
    }
    let taken = match verdict {
        Verdict::Pass(out) | Verdict::Redirect(out) if frame[12..14] == IPV4 => taken_out(world, frame, &out),
        _ => None,
    };
    // The router gets it through its interface, unchanged.
    taken.unwrap_or_else(|| Outcome::Redirect(Frame::exact(frame.to_vec())).once())
}

/// Why a guest may not even send this to a sibling.
fn refusal(world: &World, frame: &[u8], verdict: &Verdict) -> Option<Reason> {
    if let Verdict::Drop(defects) = verdict {
        let malformed = |drop: &&Drop| matches!(drop.reason, Reason::MalformedIpv4 | Reason::MalformedArp);
        if let Some(drop) = defects.iter().find(malformed) {
            return Some(drop.reason);
        }
    }
    let source = match [frame[12], frame[13]] {
        IPV4 => address(frame, 26),
        ARP if frame[22..28] != frame[6..12] => return Some(Reason::MacSpoofed),
        ARP => address(frame, 28),
        _ => return None,
    };
    let has_none = source.is_unspecified() && frame[0] & 1 == 1;
    (!has_none && world.external_of(source).is_none()).then_some(Reason::SourceSpoofed)
}

/// When the fast path must take a packet of which the slow path makes `out`.
fn taken_out(world: &World, frame: &[u8], out: &Frame) -> Option<Due> {
    let (source, destination) = (address(frame, 26), address(frame, 30));
    let sent = (world.environment, source, Direction::Out);
    if world.internal.contains(destination) {
        return None;
    }
    for other in [world, &elsewhere(world)] {
        let Some(internal) = other.internal_of(destination) else {
            continue;
        };
        let mut arriving = out.bytes.clone();
        arriving[..6].copy_from_slice(&other.router_wan);
        arriving[6..12].copy_from_slice(&world.router_wan);
        let Verdict::Pass(received) = judge(Some(other), Direction::In, &arriving) else {
            return None;
        };
        return is_ordinary(frame, 2).then(|| Due {
            outcome: Outcome::Redirect(forwarded(&received, 2, guest_mac(internal), ROUTER_INSIDE_MAC.0)),
            counted: vec![sent, (other.environment, internal, Direction::In)],
        });
    }
    (is_ordinary(frame, 1) && !world.external.contains(destination)).then(|| Due {
        outcome: Outcome::Redirect(forwarded(out, 1, NEXT_HOP_MAC, world.router_wan)),
        counted: vec![sent],
    })
}

fn address(frame: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3])
}

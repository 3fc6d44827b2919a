//! What each program must do with a frame, by the model of the slow path.
//!
//! The fast path is a cache over the slow path: what it must take, it does as the routers on the way would; everything
//! else it leaves alone. Which is which is said for every frame, so that one that takes nothing is found out as well.
//! Everything is taken to be known: where the guests are, and the Ethernet address of the routers' next hop.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    Direction, Drop, Frame, Host, Mapping, Reason, Verdict, World, address,
    arp::{self, SENDER, SENDER_MAC},
    forwarded,
    ipv4::is_unicast_host,
    is_ordinary, judge,
};

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const SOURCE: usize = crate::ETHERNET + crate::ipv4::SOURCE;
const DESTINATION: usize = crate::ETHERNET + crate::ipv4::DESTINATION;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// From the uplink to the router.
    RouterIngress,
    /// From the router to the uplink.
    RouterEgress,
    /// From the uplink to a guest's port.
    UplinkIngress,
    /// The same, on the way to one environment only.
    WanPortEgress,
    /// From the uplink to a guest's port, in the driver.
    UplinkXdp,
    /// From a guest's port to the uplink, or across.
    GuestIngress,
}

/// What is due to one frame.
#[derive(Clone, Debug)]
pub struct Due {
    /// What must become of it.
    pub verdict: Verdict,
    /// Whose counters count it, and which way.
    pub counted: Vec<(u32, Ipv4Addr, Direction)>,
}

/// Packets and bytes in, and packets and bytes out, by environment and internal address.
pub type Counts = BTreeMap<(u32, Ipv4Addr), [u64; 4]>;

/// What the program must do; without a host, its interface belongs to no environment. On a port of `owner`'s, no other
/// guest of the environment may be.
#[must_use]
pub fn due(program: Program, host: Option<&Host>, owner: Option<Ipv4Addr>, frame: &[u8]) -> Due {
    match (program, host) {
        (Program::RouterIngress | Program::RouterEgress, _) => slow(program.direction(), host.map(Host::world), frame),
        (_, None) => Verdict::Next.uncounted(),
        (Program::GuestIngress, Some(host)) => from_guest(host, owner, frame),
        (_, Some(host)) => from_uplink(program, host, frame),
    }
}

fn slow(direction: Direction, world: Option<&World>, frame: &[u8]) -> Due {
    let mut due = judge(world, direction, frame).uncounted();
    if let Some(world) = world
        && frame[12..14] == IPV4
        && !matches!(due.verdict, Verdict::Drop(_))
    {
        let internal = match direction {
            Direction::In => world.internal_of(address(frame, DESTINATION)),
            Direction::Out => Some(address(frame, SOURCE)),
        };
        due.counted = internal
            .map(|internal| (world.environment, internal, direction))
            .into_iter()
            .collect();
    }
    due
}

/// Every router on the uplink hears the frame; the fast path answers for all of them.
fn from_uplink(program: Program, host: &Host, frame: &[u8]) -> Due {
    let worlds = &host.environments;
    // A port of a bridge leads to one environment only.
    let concerned = if program == Program::WanPortEgress { 1 } else { 2 };
    for world in &worlds[..concerned] {
        match (judge(Some(world), Direction::In, frame), [frame[12], frame[13]]) {
            // XDP leaves ARP to TC.
            (Verdict::Redirect(answer), ARP) if program != Program::UplinkXdp => {
                // The routers ask each other without the host's help.
                if worlds.iter().any(|world| frame[6..12] == world.router_wan) {
                    return Verdict::Next.uncounted();
                }
                return Verdict::Redirect(answer).uncounted();
            }
            (Verdict::Pass(out), IPV4) => {
                if let Some(due) = taken_in(host, world, frame, &out) {
                    return due;
                }
            }
            _ => {}
        }
    }
    Verdict::Next.uncounted()
}

/// When the fast path must take a packet of which the slow path makes `out`.
fn taken_in(host: &Host, world: &World, frame: &[u8], out: &Frame) -> Option<Due> {
    let receiver = world.by_external(address(frame, DESTINATION))?;
    // Only a hairpin comes from an own address, and the fast path has a shorter way for it.
    let hairpin = world.external.contains(address(frame, SOURCE));
    let mac = receiver.guest_mac.filter(|_| is_ordinary(frame, 1) && !hairpin)?;
    Some(Due {
        verdict: Verdict::Redirect(forwarded(out, 1, mac, host.router_inside)),
        counted: vec![(receiver.environment, receiver.internal, Direction::In)],
    })
}

/// From a guest to the router, or to everybody.
fn from_guest(host: &Host, owner: Option<Ipv4Addr>, frame: &[u8]) -> Due {
    let world = host.world();
    let verdict = judge(Some(world), Direction::Out, frame);
    if let Some(reason) = refusal(host, owner, frame, &verdict) {
        let internal = owner;
        return Verdict::Drop(vec![Drop { reason, internal }]).uncounted();
    }
    if to_group(frame) {
        return Verdict::Next.uncounted();
    }
    let taken = match verdict {
        Verdict::Pass(out) | Verdict::Redirect(out) if frame[12..14] == IPV4 => taken_out(host, frame, &out),
        _ => None,
    };
    // The router gets it through its interface, unchanged.
    taken.unwrap_or_else(|| Verdict::Redirect(Frame::exact(frame.to_vec())).uncounted())
}

/// Why a guest may not even send this to a sibling.
fn refusal(host: &Host, owner: Option<Ipv4Addr>, frame: &[u8], verdict: &Verdict) -> Option<Reason> {
    let world = host.world();
    // The kernel has taken one tag off before, so that this is a second one.
    if matches!([frame[12], frame[13]], [0x81, 0] | [0x88, 0xa8]) {
        return Some(Reason::VlanTagged);
    }
    if let Verdict::Drop(defects) = verdict {
        let malformed = |drop: &&Drop| matches!(drop.reason, Reason::MalformedIpv4 | Reason::MalformedArp);
        if let Some(drop) = defects.iter().find(malformed) {
            return Some(drop.reason);
        }
    }
    let source = match [frame[12], frame[13]] {
        IPV4 => address(frame, SOURCE),
        ARP if frame[SENDER_MAC..SENDER] != frame[6..12] => return Some(Reason::MacSpoofed),
        ARP => address(frame, SENDER),
        _ => return None,
    };
    // RFC 2131, section 4.1, and RFC 5227, section 2.1.1: who asks for an address has none yet.
    if source.is_unspecified() && to_group(frame) {
        return None;
    }
    if owner == Some(source) {
        return None;
    }
    match world.by_internal(source) {
        // It is nobody's: siblings may have it among themselves. Whatever is not for everybody is for the router here.
        None => {
            let for_router = |mapping: &Mapping| mapping.guest_mac.is_none();
            let asks_router =
                frame[12..14] == ARP && world.by_internal(address(frame, arp::TARGET)).is_some_and(for_router);
            let free = is_unicast_host(source) && !host.link.contains(source);
            (!free || !to_group(frame) || asks_router).then_some(Reason::SourceSpoofed)
        }
        Some(_) if owner.is_some() => Some(Reason::SourceSpoofed),
        // The router's own, and it has another Ethernet address than any guest.
        Some(Mapping { guest_mac: None, .. }) => Some(Reason::MacSpoofed),
        Some(_) => None,
    }
}

/// When the fast path must take a packet of which the slow path makes `out`.
fn taken_out(host: &Host, frame: &[u8], out: &Frame) -> Option<Due> {
    let world = host.world();
    let (source, destination) = (address(frame, SOURCE), address(frame, DESTINATION));
    let sent = (world.environment, source, Direction::Out);
    if world.internal.contains(destination) {
        return None;
    }
    for other in &host.environments {
        let Some(receiver) = other.by_external(destination) else {
            continue;
        };
        let mac = receiver.guest_mac.filter(|_| is_ordinary(frame, 2))?;
        // Two routers would have forwarded it, or one router twice.
        let mut arriving = out.bytes.clone();
        arriving[..6].copy_from_slice(&other.router_wan);
        arriving[6..12].copy_from_slice(&world.router_wan);
        let Verdict::Pass(both) = judge(Some(other), Direction::In, &arriving) else {
            return None;
        };
        return Some(Due {
            verdict: Verdict::Redirect(forwarded(&both, 2, mac, host.router_inside)),
            counted: vec![sent, (receiver.environment, receiver.internal, Direction::In)],
        });
    }
    // Who is on the uplink's link is sent to directly, and only the next hop has been heard there. Nobody there has an
    // address of the environment's own.
    let unheard = host.link.contains(destination) && destination != host.next_hop;
    let known = !unheard && !world.external.contains(destination);
    (is_ordinary(frame, 1) && known).then(|| Due {
        verdict: Verdict::Redirect(forwarded(out, 1, host.next_hop_mac, world.router_wan)),
        counted: vec![sent],
    })
}

fn to_group(frame: &[u8]) -> bool {
    frame[0] & 1 == 1
}

/// The frame as a guest with this Ethernet address would send it, if the router sends it so; ARP is in the guest's name.
#[must_use]
pub fn as_guest_sends(host: &Host, mac: [u8; 6], frame: &[u8]) -> Vec<u8> {
    let mut sent = frame.to_vec();
    if !to_group(frame) {
        sent[..6].copy_from_slice(&host.router_inside);
    }
    sent[6..12].copy_from_slice(&mac);
    if frame[12..14] == ARP && frame.len() >= arp::END && frame[SENDER_MAC..SENDER] == host.world().router_wan {
        sent[SENDER_MAC..SENDER].copy_from_slice(&mac);
    }
    sent
}

impl Verdict {
    fn uncounted(self) -> Due {
        Due {
            verdict: self,
            counted: Vec::new(),
        }
    }
}

impl Due {
    /// Adds what is counted of a frame of this length.
    pub fn count(&self, length: usize, counts: &mut Counts) {
        for (environment, internal, direction) in &self.counted {
            let counts = counts.entry((*environment, *internal)).or_default();
            let at = if *direction == Direction::In { 0 } else { 2 };
            counts[at] += 1;
            counts[at + 1] += length as u64;
        }
    }
}

impl Program {
    /// All programs, the slow path first.
    pub const ALL: [Self; 6] = [
        Self::RouterIngress,
        Self::RouterEgress,
        Self::UplinkIngress,
        Self::WanPortEgress,
        Self::UplinkXdp,
        Self::GuestIngress,
    ];

    /// Its name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RouterIngress => "router_ingress",
            Self::RouterEgress => "router_egress",
            Self::UplinkIngress => "uplink_ingress",
            Self::WanPortEgress => "wan_port_egress",
            Self::UplinkXdp => "uplink_xdp",
            Self::GuestIngress => "guest_ingress",
        }
    }

    /// Which packets it sees.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::RouterEgress | Self::GuestIngress => Direction::Out,
            _ => Direction::In,
        }
    }

    /// Whether it is one of the fast path's.
    #[must_use]
    pub const fn is_fast(self) -> bool {
        !matches!(self, Self::RouterIngress | Self::RouterEgress)
    }
}

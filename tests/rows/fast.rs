//! What the fast path must do with a row's frame, from what the slow path must do with it.
//!
//! It is a cache: it leaves a frame alone, or does what the slow path and the kernel's forwarding do together. Which of
//! both is said here for every frame, so a fast path that takes nothing fails as does one that takes too much.

use std::net::Ipv4Addr;

use envnet_common::{DropReason, maps::ROUTER_INSIDE_MAC};
use envnet_model::is_ordinary;

use crate::{
    harness::{Counted, Harness, Outcome, Program, Row, address},
    host::{self, Owner},
    names::{
        ELSEWHERE, ENVIRONMENT, EXTERNAL, GUEST, GUEST_MAC, GUEST_OUTSIDE, INTERNAL, NEIGHBOUR, OTHER_ENVIRONMENT,
        OTHER_ROUTER_WAN, POOL, ROUTER, ROUTER_WAN, SIBLING, SIBLING_MAC, SIBLING_OUTSIDE, STRANGER, STRANGER_MAC,
    },
    packet::forwarded,
};

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const SOURCE: usize = 26;
const DESTINATION: usize = 30;

/// One frame through one program of the fast path.
pub(crate) struct Run {
    pub(crate) description: String,
    pub(crate) program: Program,
    /// Whose port it comes in by.
    pub(crate) port: Owner,
    pub(crate) frame: Vec<u8>,
    pub(crate) outcome: Outcome,
    pub(crate) counted: Counted,
}

/// A guest that the fast path knows a location of.
struct Guest {
    environment: u32,
    internal: Ipv4Addr,
    mac: [u8; 6],
    router_wan: [u8; 6],
}

fn guest(external: Ipv4Addr) -> Option<Guest> {
    let (environment, internal, mac, router_wan) = match external {
        GUEST_OUTSIDE => (ENVIRONMENT, GUEST, GUEST_MAC, ROUTER_WAN),
        SIBLING_OUTSIDE => (ENVIRONMENT, SIBLING, SIBLING_MAC, ROUTER_WAN),
        ELSEWHERE => (OTHER_ENVIRONMENT, STRANGER, STRANGER_MAC, OTHER_ROUTER_WAN),
        _ => return None,
    };
    Some(Guest {
        environment,
        internal,
        mac,
        router_wan,
    })
}

fn is_in(address: Ipv4Addr, network: Ipv4Addr, bytes: usize) -> bool {
    address.octets()[..bytes] == network.octets()[..bytes]
}

/// Everything that is to be run for a row.
pub(crate) fn runs(harness: &mut Harness, row: &Row) -> Vec<Run> {
    match row.program {
        Program::Ingress => inward(harness, row),
        _ => [Some(sender(&row.frame)), None]
            .map(|owner| outward(harness, row, owner))
            .into(),
    }
}

/// From the uplink.
fn inward(harness: &mut Harness, row: &Row) -> Vec<Run> {
    let frame = &row.frame;
    let left = || (Outcome::Next(frame.clone()), Counted::new());
    // A port of a bridge leads to one environment only.
    let at_port = match &row.outcome {
        Outcome::Pass(out) if frame[12..14] == IPV4 => taken_in(frame, out).unwrap_or_else(left),
        Outcome::Redirect(answer) => (Outcome::Redirect(answer.clone()), Counted::new()),
        _ => left(),
    };
    // On the uplink, every environment's router hears what goes to everybody.
    let to_everybody = frame[12..14] == ARP && frame[0] & 1 == 1;
    let answer = to_everybody.then(|| in_other_environment(harness, frame)).flatten();
    let for_tc = answer.map_or_else(|| at_port.clone(), |answer| (Outcome::Redirect(answer), Counted::new()));
    // ARP is left to TC.
    let for_xdp = if frame[12..14] == IPV4 { at_port.clone() } else { left() };
    let run = |program, (outcome, counted)| Run {
        description: row.description.clone(),
        program,
        port: None,
        frame: frame.clone(),
        outcome,
        counted,
    };
    vec![
        run(Program::UplinkIngress, for_tc),
        run(Program::WanPort, at_port),
        run(Program::UplinkXdp, for_xdp),
    ]
}

/// When a packet must be taken that the slow path makes `out` of.
fn taken_in(frame: &[u8], out: &[u8]) -> Option<(Outcome, Counted)> {
    let guest = guest(address(frame, DESTINATION))?;
    // Only a hairpin comes from an own address, and the fast path has a shorter way for it.
    if !is_ordinary(frame, 1) || is_in(address(frame, SOURCE), EXTERNAL, 3) {
        return None;
    }
    let out = forwarded(out, 1, guest.mac, ROUTER_INSIDE_MAC.0);
    let counts = [1, frame.len() as u64, 0, 0];
    let counted = Counted::from([((guest.environment, guest.internal), counts)]);
    Some((Outcome::Redirect(out), counted))
}

/// What the other environment's router answers, if it does.
fn in_other_environment(harness: &mut Harness, frame: &[u8]) -> Option<Vec<u8>> {
    match at_router(harness, OTHER_ENVIRONMENT, frame) {
        Outcome::Redirect(answer) => Some(answer),
        _ => None,
    }
}

/// What the router of an environment does with a frame from outside.
fn at_router(harness: &mut Harness, environment: u32, frame: &[u8]) -> Outcome {
    harness.stand_at(&host::environment(environment));
    let outcome = harness.observe(Program::Ingress, frame);
    harness.stand_at(&host::environment(ENVIRONMENT));
    outcome.unwrap()
}

/// Who has sent a frame that goes out.
fn sender(frame: &[u8]) -> Ipv4Addr {
    let is_siblings = frame[12..14] == IPV4 && address(frame, SOURCE) == SIBLING;
    if is_siblings { SIBLING } else { GUEST }
}

/// From a guest: what the router would send, as the guest sends it to the router.
fn outward(harness: &mut Harness, row: &Row, owner: Owner) -> Run {
    let mac = if sender(&row.frame) == SIBLING {
        SIBLING_MAC
    } else {
        GUEST_MAC
    };
    let mut frame = row.frame.clone();
    let to_group = frame[0] & 1 == 1;
    if !to_group || frame[12..14] == ARP {
        frame[..6].copy_from_slice(&ROUTER_INSIDE_MAC.0);
    }
    frame[6..12].copy_from_slice(&mac);
    // The router gets it through the interface, not a byte of it changed.
    let left = || (Outcome::Redirect(frame.clone()), Counted::new());
    let (outcome, counted) = if let Some(reason) = refusal(row, owner) {
        (Outcome::Drop(reason, owner), Counted::new())
    } else if frame[0] & 1 == 1 {
        (Outcome::Next(frame.clone()), Counted::new())
    } else {
        taken_out(harness, &frame, &row.outcome).unwrap_or_else(left)
    };
    Run {
        description: format!("{}, port of {owner:?}", row.description),
        program: Program::GuestIngress,
        port: owner,
        frame,
        outcome,
        counted,
    }
}

/// Why a guest may not send this at all.
fn refusal(row: &Row, owner: Owner) -> Option<DropReason> {
    match (&row.outcome, &row.frame[12..14]) {
        (Outcome::Drop(reason @ (DropReason::MalformedIpv4 | DropReason::MalformedArp), _), _) => return Some(*reason),
        // What the router says, from a guest's Ethernet address.
        (_, [8, 6]) => return Some(DropReason::MacSpoofed),
        (_, [8, 0]) => {}
        _ => return None,
    }
    let source = address(&row.frame, SOURCE);
    let has_none = source.is_unspecified() && row.frame[0] & 1 == 1;
    match source {
        _ if has_none => None,
        // On a port of its own, a guest has one address; on another's, the router's is known by its Ethernet address.
        ROUTER if owner.is_none() => Some(DropReason::MacSpoofed),
        GUEST | SIBLING => None,
        _ => Some(DropReason::SourceSpoofed),
    }
}

/// When a packet must be taken that the slow path does this with.
fn taken_out(harness: &mut Harness, frame: &[u8], slow: &Outcome) -> Option<(Outcome, Counted)> {
    let (Outcome::Pass(out) | Outcome::Redirect(out), [8, 0]) = (slow, &frame[12..14]) else {
        return None;
    };
    let (source, destination) = (address(frame, SOURCE), address(frame, DESTINATION));
    let bytes = frame.len() as u64;
    let mut counted = Counted::from([((ENVIRONMENT, source), [0, 0, 1, bytes])]);
    if is_in(destination, INTERNAL, 3) {
        return None;
    }
    if let Some(guest) = guest(destination) {
        if !is_ordinary(frame, 2) {
            return None;
        }
        let counts = counted.entry((guest.environment, guest.internal)).or_default();
        counts[0] += 1;
        counts[1] += bytes;
        let received = received(harness, &guest, out);
        let out = forwarded(&received, 2, guest.mac, ROUTER_INSIDE_MAC.0);
        return Some((Outcome::Redirect(out), counted));
    }
    // All others of the pool are on the link, and nobody has heard them.
    if !is_ordinary(frame, 1) || is_in(destination, POOL, 2) {
        return None;
    }
    let out = forwarded(out, 1, NEIGHBOUR, ROUTER_WAN);
    Some((Outcome::Redirect(out), counted))
}

/// What the other router makes of a packet that has left the first one.
fn received(harness: &mut Harness, guest: &Guest, sent: &[u8]) -> Vec<u8> {
    let mut sent = sent.to_vec();
    sent[..6].copy_from_slice(&guest.router_wan);
    sent[6..12].copy_from_slice(&ROUTER_WAN);
    match at_router(harness, guest.environment, &sent) {
        Outcome::Pass(received) => received,
        odd => panic!("the other router does not take it: {odd:?}"),
    }
}

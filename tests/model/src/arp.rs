//! ARP (RFC 826, RFC 5227): outside there are only external addresses, inside only internal ones.

use std::net::Ipv4Addr;

use crate::{
    Direction, ETHERNET, Reason, World,
    checksum::address,
    verdict::{Frame, Verdict},
};

pub(crate) const SENDER_MAC: usize = ETHERNET + 8;
pub(crate) const SENDER: usize = ETHERNET + 14;
const TARGET_MAC: usize = ETHERNET + 18;
pub(crate) const TARGET: usize = ETHERNET + 24;
pub(crate) const END: usize = ETHERNET + 28;

pub(crate) fn judge(world: &World, direction: Direction, frame: &[u8]) -> Verdict {
    let Some(is_request) = well_formed(frame) else {
        return Verdict::drop(Reason::MalformedArp);
    };
    let decided = match direction {
        Direction::In => comes_in(world, frame, is_request),
        Direction::Out => goes_out(world, frame, is_request),
    };
    decided.unwrap_or_else(|| Verdict::drop(Reason::ArpUnmapped))
}

/// Whether this is a request, if it is ARP for IPv4 on Ethernet by one machine.
fn well_formed(frame: &[u8]) -> Option<bool> {
    let body = frame.get(ETHERNET..END)?;
    // Hardware type 1, protocol type IPv4, their lengths, and the high byte of the operation.
    if body[..7] != [0, 1, 8, 0, 6, 4, 0] || body[8] & 1 == 1 {
        return None;
    }
    match body[7] {
        1 => Some(true),
        2 => Some(false),
        _ => None,
    }
}

/// From outside. Nothing for which nothing is said here goes on.
fn comes_in(world: &World, frame: &[u8], is_request: bool) -> Option<Verdict> {
    let (sender, target) = (address(frame, SENDER), address(frame, TARGET));
    // Internal addresses do not exist outside.
    if world.internal.contains(sender) {
        return None;
    }
    let asked = world.internal_of(target);
    if is_request && asked.is_some() {
        return Some(Verdict::Redirect(answer(world, frame, target, sender)));
    }
    // Only announcements (RFC 5227: sender and target are the same) concern others than the one asked for.
    if is_request && sender != target {
        return None;
    }
    // This environment's addresses are here; an outsider that claims one lies.
    if world.external.contains(sender) && frame[SENDER_MAC..SENDER] != world.router_wan {
        return None;
    }
    Some(pass(frame, &[(TARGET, asked)]))
}

/// From the router, which may call itself by its internal address, or by the external one it is asked for.
fn goes_out(world: &World, frame: &[u8], is_request: bool) -> Option<Verdict> {
    let (sender, target) = (address(frame, SENDER), address(frame, TARGET));
    let announcement = sender == target;
    // Nobody outside is told or asked about an internal address.
    if world.internal.contains(target) && !announcement {
        return None;
    }
    if world.internal_of(sender).is_some() {
        return Some(pass(frame, &[]));
    }
    let external = world.external_of(sender)?;
    if announcement {
        return Some(pass(frame, &[(SENDER, Some(external)), (TARGET, Some(external))]));
    }
    // The router asks for an address of its own environment, which nobody else can answer for.
    if is_request && world.internal_of(target).is_some() {
        return Some(Verdict::Redirect(answer(world, frame, target, external)));
    }
    Some(pass(frame, &[(SENDER, Some(external))]))
}

fn pass(frame: &[u8], changes: &[(usize, Option<Ipv4Addr>)]) -> Verdict {
    let mut bytes = frame.to_vec();
    for (at, address) in changes {
        if let Some(address) = address {
            bytes[*at..][..4].copy_from_slice(&address.octets());
        }
    }
    Verdict::Pass(Frame::exact(bytes))
}

/// RFC 826: "swap hardware and protocol fields, putting the local hardware and protocol addresses in the sender fields".
/// `who` is at the router, and `asker` is told.
fn answer(world: &World, frame: &[u8], who: Ipv4Addr, asker: Ipv4Addr) -> Frame {
    let mut bytes = frame.to_vec();
    let asker_mac = frame[SENDER_MAC..SENDER].to_vec();
    bytes[..6].copy_from_slice(&asker_mac);
    bytes[6..12].copy_from_slice(&world.router_wan);
    bytes[ETHERNET + 7] = 2;
    bytes[SENDER_MAC..SENDER].copy_from_slice(&world.router_wan);
    bytes[SENDER..TARGET_MAC].copy_from_slice(&who.octets());
    bytes[TARGET_MAC..TARGET].copy_from_slice(&asker_mac);
    bytes[TARGET..END].copy_from_slice(&asker.octets());
    Frame::exact(bytes)
}

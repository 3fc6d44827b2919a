//! Decides about ARP (RFC 826): the outside sees the external addresses only, the router the internal ones only.
//!
//! `gwE` carries no address, so the kernel answers no ARP on it. Requests for mapped external addresses are answered
//! here, for exactly those, and what the router itself says gets its internal address translated.

use crate::{
    Address, DropReason, Mac,
    apply::Write,
    lookup::{Lookup, Mappings},
    parse::{ETHERNET_LEN, Read},
};

const ARP_LEN: usize = 28;
/// Ethernet, IPv4, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Offset in the frame of the operation, which the addresses follow.
const OPERATION: usize = ETHERNET_LEN + 6;

/// What an ARP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address; unspecified in a probe (RFC 5227).
    pub sender: Address,
    /// Target hardware address; anything in a request.
    pub target_mac: Mac,
    /// Target protocol address.
    pub target: Address,
}

/// What to do with an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it go on as it is.
    Pass,
    /// Let it go on with these contents.
    Rewrite(Arp),
    /// Send this back to where it came from.
    Answer(Arp),
}

impl Arp {
    /// Reads the packet behind the Ethernet header.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let [a, b, c, d, e, f, o0, o1, s @ .., m0, m1, m2, m3, m4, m5, t0, t1, t2, t3]: [u8; ARP_LEN] =
            packet.read(ETHERNET_LEN).ok_or(DropReason::MalformedArp)?;
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(DropReason::MalformedArp),
        };
        let [n0, n1, n2, n3, n4, n5, s0, s1, s2, s3] = s;
        let sender_mac = Mac([n0, n1, n2, n3, n4, n5]);
        if [a, b, c, d, e, f] != ETHERNET_IPV4 || sender_mac.is_group() {
            return Err(DropReason::MalformedArp);
        }
        Ok(Self {
            operation,
            sender_mac,
            sender: Address([s0, s1, s2, s3]),
            target_mac: Mac([m0, m1, m2, m3, m4, m5]),
            target: Address([t0, t1, t2, t3]),
        })
    }

    #[inline(always)]
    const fn answer(&self, mac: Mac) -> Action {
        Action::Answer(Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        })
    }

    /// Sender and target in the same address: the sender tells everybody about itself.
    #[inline(always)]
    fn is_announcement(&self) -> bool {
        self.sender == self.target
    }
}

/// ARP that comes in from outside.
#[inline(always)]
pub fn inbound(arp: &Arp, lookup: &Lookup<'_, impl Mappings>) -> Result<Action, DropReason> {
    let environment = lookup.environment;
    if environment.is_internal(arp.sender) {
        return Err(DropReason::ArpUnmapped);
    }
    let target = lookup.internal(arp.target);
    if arp.operation == Operation::Request {
        if target.is_some() {
            // Answering an announcement of an address of ours, too, tells its sender of the conflict (RFC 5227).
            return Ok(arp.answer(environment.mac));
        }
        if !arp.is_announcement() {
            return Err(DropReason::ArpUnmapped);
        }
    }
    // The external addresses are here and nowhere else: the router may learn them from `outbound` below, with the MAC
    // that it gives, but not from somebody outside.
    if environment.is_external(arp.sender) && arp.sender_mac != environment.mac {
        return Err(DropReason::ArpUnmapped);
    }
    Ok(match target {
        Some(target) => Action::Rewrite(Arp { target, ..*arp }),
        None => Action::Pass,
    })
}

/// ARP that the router sends, [`inbound`]'s answers among it. [`Action::Answer`] goes back to the router.
#[inline(always)]
pub fn outbound(arp: &Arp, lookup: &Lookup<'_, impl Mappings>) -> Result<Action, DropReason> {
    let environment = lookup.environment;
    if environment.is_internal(arp.target) && !arp.is_announcement() {
        return Err(DropReason::ArpUnmapped);
    }
    let Some(sender) = lookup.external(arp.sender) else {
        return lookup
            .internal(arp.sender)
            .map(|_| Action::Pass)
            .ok_or(DropReason::ArpUnmapped);
    };
    let target = if arp.is_announcement() { sender } else { arp.target };
    let arp = Arp { sender, target, ..*arp };
    // Nobody outside has this environment's addresses, and a macvlan never hears itself.
    if arp.operation == Operation::Request && !arp.is_announcement() && lookup.internal(target).is_some() {
        return Ok(arp.answer(environment.mac));
    }
    Ok(Action::Rewrite(arp))
}

/// Writes the contents of an ARP packet.
#[inline(always)]
pub fn write(packet: &mut (impl Write + ?Sized), arp: &Arp) -> Result<(), DropReason> {
    let operation = match arp.operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    let [a, b, c, d, e, f] = arp.sender_mac.0;
    let [g, h, i, j] = arp.sender.0;
    let [k, l, m, n, o, p] = arp.target_mac.0;
    let [q, r, s, t] = arp.target.0;
    let bytes = [0, operation, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t];
    packet.write(OPERATION, bytes).ok_or(DropReason::HelperFailed)
}

/// Writes an answer with its Ethernet addresses; padding stays as it is.
#[inline(always)]
pub fn write_answer(packet: &mut (impl Write + ?Sized), answer: &Arp) -> Result<(), DropReason> {
    packet.write(0, answer.target_mac.0).ok_or(DropReason::HelperFailed)?;
    packet.write(6, answer.sender_mac.0).ok_or(DropReason::HelperFailed)?;
    write(packet, answer)
}

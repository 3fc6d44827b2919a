//! Decides about ARP (RFC 826): the outside sees the external addresses only, the router the internal ones only.
//!
//! `gwE` has no IP address, so the kernel answers no ARP on it. Requests for mapped external addresses, and only those, are
//! answered here. In ARP that the router sends, its internal address is translated.

use bytemuck::{Pod, Zeroable};
use network_types::eth::{EthHdr, EtherType};

use crate::{
    Address, DropReason, Mac,
    apply::Write,
    header::Wire,
    lookup::{Lookup, Mappings},
    parse::{ETHERTYPE_IPV4, Ethernet, Ethertype, Read},
};

/// An ARP packet for IPv4 over Ethernet, as it stands in a frame.
///
/// Not `ArpHdr` of `network-types`: it has the fields of [`Kind`] one by one, and with it the programs were up to 5 % longer
/// in instructions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Arp {
    kind: Kind,
    operation: [u8; 2],
    sender_mac: Mac,
    sender: Address,
    target_mac: Mac,
    target: Address,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct Kind {
    hardware: [u8; 2],
    protocol: Ethertype,
    lengths: [u8; 2],
}

const ETHERNET_IPV4: Kind = Kind {
    hardware: [0, 1],
    protocol: ETHERTYPE_IPV4,
    lengths: [6, 4],
};
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];

/// What to do with an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Accept it as it is.
    Pass,
    /// Accept it with these contents.
    Rewrite(Arp),
    /// Send this back to the sender.
    Answer(Arp),
}

impl Arp {
    /// Reads the packet behind the Ethernet header.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let arp: Self = packet.read(Ethernet::LEN).ok_or(DropReason::MalformedArp)?;
        if arp.kind != ETHERNET_IPV4 || !matches!(arp.operation, REQUEST | REPLY) || arp.sender_mac.is_group() {
            return Err(DropReason::MalformedArp);
        }
        Ok(arp)
    }

    /// Ethernet address of the sender.
    #[must_use]
    #[inline(always)]
    pub const fn sender_mac(&self) -> Mac {
        self.sender_mac
    }

    /// Protocol address of the sender.
    #[must_use]
    #[inline(always)]
    pub const fn sender(&self) -> Address {
        self.sender
    }

    /// Protocol address that a request asks for, or that a reply is for.
    #[must_use]
    #[inline(always)]
    pub const fn target(&self) -> Address {
        self.target
    }

    #[inline(always)]
    const fn answer(&self, mac: Mac) -> Action {
        Action::Answer(Self {
            operation: REPLY,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
            ..*self
        })
    }

    /// Sender and target are the same address: the sender announces its own address.
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
    if arp.operation == REQUEST {
        if target.is_some() {
            // The answer to an announcement of a mapped address tells its sender of the conflict (RFC 5227).
            return Ok(arp.answer(environment.mac));
        }
        if !arp.is_announcement() {
            return Err(DropReason::ArpUnmapped);
        }
    }
    // No machine outside has an external address of this environment: the router may learn one from `outbound` below,
    // with the MAC address that it gives, but not from outside.
    if environment.is_external(arp.sender) && arp.sender_mac != environment.mac {
        return Err(DropReason::ArpUnmapped);
    }
    Ok(match target {
        Some(target) => Action::Rewrite(Arp { target, ..*arp }),
        None => Action::Pass,
    })
}

/// ARP that the router sends, including the answers of [`inbound`]. [`Action::Answer`] goes back to the router.
#[inline(always)]
pub fn outbound(arp: &Arp, lookup: &Lookup<'_, impl Mappings>) -> Result<Action, DropReason> {
    let environment = lookup.environment;
    if environment.is_internal(arp.target) && !arp.is_announcement() {
        return Err(DropReason::ArpUnmapped);
    }
    if lookup.internal(arp.sender).is_some() {
        return Ok(Action::Pass);
    }
    let sender = lookup.external(arp.sender).ok_or(DropReason::ArpUnmapped)?;
    if arp.is_announcement() {
        return Ok(Action::Rewrite(Arp {
            sender,
            target: sender,
            ..*arp
        }));
    }
    let arp = Arp { sender, ..*arp };
    // No machine outside has this environment's addresses, and a macvlan never receives its own frames.
    if arp.operation == REQUEST && lookup.internal(arp.target).is_some() {
        return Ok(arp.answer(environment.mac));
    }
    Ok(Action::Rewrite(arp))
}

/// Writes the contents of an ARP packet.
#[inline(always)]
pub fn write(packet: &mut (impl Write + ?Sized), arp: &Arp) -> Result<(), DropReason> {
    packet.write(Ethernet::LEN, *arp).ok_or(DropReason::HelperFailed)
}

/// Writes an answer and addresses it to the sender of the request. Padding stays as it is.
#[inline(always)]
pub fn write_answer(packet: &mut (impl Write + ?Sized), answer: &Arp) -> Result<(), DropReason> {
    let header = EthHdr::new(answer.target_mac.0, answer.sender_mac.0, EtherType::Arp);
    packet.write(0, Wire(header)).ok_or(DropReason::HelperFailed)?;
    write(packet, answer)
}

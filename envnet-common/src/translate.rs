//! Decides what a translation writes, as a value: nothing is changed here.
//!
//! Inbound packets get their destination translated from external to internal, outbound ones their source from internal
//! to external. An ICMP error also quotes a packet that went the other way, so in the quoted header the other side is
//! translated (RFC 5508, REQ-4 and REQ-5).

use core::mem::offset_of;

use network_types::{
    icmp::{Icmpv4Hdr, Icmpv4Type},
    ip::{IpProto, Ipv4Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    Address, DropReason,
    checksum::{Change, Checksum},
    parse::{Fragment, Ipv4, Ipv4Tail, Read},
};

pub(crate) const PROTOCOL_ICMP: u8 = IpProto::Icmp as u8;
pub(crate) const PROTOCOL_TCP: u8 = IpProto::Tcp as u8;
pub(crate) const PROTOCOL_UDP: u8 = IpProto::Udp as u8;
const PROTOCOL_DCCP: u8 = IpProto::Dccp as u8;
const PROTOCOL_UDP_LITE: u8 = IpProto::UdpLite as u8;

pub(crate) const ICMP_LEN: usize = size_of::<Icmpv4Hdr>();
const ICMP_CHECKSUM: usize = offset_of!(Icmpv4Hdr, check);
const ICMP_UNREACHABLE: u8 = Icmpv4Type::DestinationUnreachable as u8;
const ICMP_SOURCE_QUENCH: u8 = 4;
const ICMP_REDIRECT: u8 = Icmpv4Type::Redirect as u8;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = Icmpv4Type::ParameterProblem as u8;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From outside to a guest.
    Inbound,
    /// From a guest to the outside.
    Outbound,
}

impl Direction {
    /// Where a packet has the address that is translated.
    #[inline(always)]
    const fn own_side(self) -> Side {
        match self {
            Self::Inbound => Side::Destination,
            Self::Outbound => Side::Source,
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// Everything that one translation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The address that is replaced in the outer header.
    pub old: Address,
    /// What it is replaced by.
    pub new: Address,
    /// The outer header.
    pub header: HeaderEdit,
    /// The transport checksum to correct for the pseudo header, when there is one in this packet.
    pub l4_checksum: Option<L4Checksum>,
    /// The packet inside an ICMP error.
    pub embedded: Option<Embedded>,
}

/// What is written into an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Offset in the frame.
    pub offset: usize,
    /// The new checksum and addresses.
    pub tail: Ipv4Tail,
}

/// A transport checksum that covers a pseudo header with both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L4Checksum {
    /// Offset of the field in the frame.
    pub offset: usize,
    /// As in UDP: 0 says that there is no checksum, and a computed 0 is written as 0xffff.
    pub zero_is_none: bool,
}

/// What is written inside an ICMP error.
///
/// The checksum of the ICMP message covers all of it, but the new address and the new IPv4 checksum cancel out in it:
/// the IPv4 checksum changes by exactly what makes the header's sum stay the same. Only the transport checksum remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The embedded IPv4 header.
    pub header: HeaderEdit,
    /// The embedded transport checksum, when the error quotes enough of the packet.
    pub l4_checksum: Option<WordEdit>,
    /// Offset of the checksum of the ICMP message.
    pub icmp_checksum: usize,
}

/// A 16-bit field that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordEdit {
    /// Offset of the field in the frame.
    pub offset: usize,
    /// What stands there.
    pub old: Checksum,
    /// What it is replaced by.
    pub new: Checksum,
}

/// Decides how to give `ip` the address `new` on its own side; `external` finds the external address of an internal one,
/// for errors that quote a packet of another guest.
#[inline(always)]
pub fn translate(
    packet: &(impl Read + ?Sized),
    ip: &Ipv4,
    direction: Direction,
    new: Address,
    external: impl FnOnce(Address) -> Option<Address>,
) -> Result<Rewrite, DropReason> {
    let side = direction.own_side();
    let old = side.of(ip);
    let mut rewrite = Rewrite {
        old,
        new,
        header: HeaderEdit::new(ip, side, new),
        l4_checksum: None,
        embedded: None,
    };
    // A later fragment has no transport header (RFC 4787, REQ-14): its checksums are in the first one, and the
    // correction there does not need the rest.
    if ip.fragment != Fragment::Later {
        if ip.protocol == PROTOCOL_ICMP {
            rewrite.embedded = embedded(packet, ip, direction, &rewrite, external)?;
        } else {
            rewrite.l4_checksum = l4_checksum(ip)?;
        }
    }
    Ok(rewrite)
}

#[inline(always)]
fn l4_checksum(ip: &Ipv4) -> Result<Option<L4Checksum>, DropReason> {
    match L4Checksum::locate(ip) {
        Some(checksum) if checksum.offset + 2 > ip.end => Err(too_short(ip, DropReason::Truncated)),
        found => Ok(found),
    }
}

#[inline(always)]
fn embedded(
    packet: &(impl Read + ?Sized),
    ip: &Ipv4,
    direction: Direction,
    outer: &Rewrite,
    external: impl FnOnce(Address) -> Option<Address>,
) -> Result<Option<Embedded>, DropReason> {
    if ip.payload + ICMP_LEN > ip.end {
        return Err(too_short(ip, DropReason::Truncated));
    }
    let kind: u8 = packet.read(ip.payload).ok_or(DropReason::Truncated)?;
    match kind {
        _ if is_error(kind) => {}
        // It names another router on the receiver's own link (RFC 1812, section 5.2.7.2): no machine behind this
        // router shares that link. RFC 5508, REQ-11, leaves it to the NAT.
        ICMP_REDIRECT => return Err(DropReason::IcmpRedirect),
        _ => return Ok(None),
    }

    let offset = ip.payload + ICMP_LEN;
    if offset + Ipv4Hdr::LEN > ip.end {
        return Err(too_short(ip, DropReason::EmbeddedMalformed));
    }
    let inner = packet.read(offset).ok_or(DropReason::Truncated)?;
    let inner = Ipv4::decode(offset, inner).ok_or(DropReason::EmbeddedMalformed)?;
    // An error goes to whoever sent the packet that it quotes (RFC 5508, REQ-4c). One that does not is made up, and may
    // show an address that the other side must not see.
    if inner.tail.source != ip.tail.destination {
        return Err(DropReason::EmbeddedUnmapped);
    }
    let side = direction.own_side().opposite();
    let old = side.of(&inner);
    let new = if old == outer.old {
        outer.new
    } else {
        // The router may report a packet that it could not deliver to a guest.
        external(old).ok_or(DropReason::EmbeddedUnmapped)?
    };

    let quoted_end = if inner.end < ip.end { inner.end } else { ip.end };
    let l4_checksum = match L4Checksum::locate(&inner) {
        Some(checksum) if inner.fragment != Fragment::Later && checksum.offset + 2 <= quoted_end => {
            let field = packet.read(checksum.offset).ok_or(DropReason::Truncated)?;
            Some(WordEdit {
                offset: checksum.offset,
                old: field,
                new: checksum.corrected(field, Change::address(old, new)),
            })
        }
        _ => None,
    };
    Ok(Some(Embedded {
        header: HeaderEdit::new(&inner, side, new),
        l4_checksum,
        icmp_checksum: ip.payload + ICMP_CHECKSUM,
    }))
}

/// Whether an ICMP message of this type quotes a packet that is translated with it.
#[inline(always)]
const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        ICMP_UNREACHABLE | ICMP_SOURCE_QUENCH | ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM
    )
}

/// Whether an ICMP message of this type concerns no other packet: its payload is its sender's own.
#[inline(always)]
pub(crate) const fn is_query(kind: u8) -> bool {
    !is_error(kind) && kind != ICMP_REDIRECT
}

/// A first fragment is short on purpose (RFC 1858); a whole packet is broken.
#[inline(always)]
const fn too_short(ip: &Ipv4, whole: DropReason) -> DropReason {
    if matches!(ip.fragment, Fragment::First) {
        DropReason::TinyFragment
    } else {
        whole
    }
}

impl Side {
    #[inline(always)]
    const fn opposite(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }

    #[inline(always)]
    const fn of(self, ip: &Ipv4) -> Address {
        match self {
            Self::Source => ip.tail.source,
            Self::Destination => ip.tail.destination,
        }
    }
}

impl HeaderEdit {
    #[inline(always)]
    const fn new(ip: &Ipv4, side: Side, new: Address) -> Self {
        let checksum = ip.tail.checksum.corrected(Change::address(side.of(ip), new));
        let tail = match side {
            Side::Source => Ipv4Tail {
                checksum,
                source: new,
                ..ip.tail
            },
            Side::Destination => Ipv4Tail {
                checksum,
                destination: new,
                ..ip.tail
            },
        };
        Self {
            offset: ip.tail_offset,
            tail,
        }
    }
}

impl L4Checksum {
    /// Where the checksum of `ip`'s payload is, if the protocol has one over a pseudo header. The CRC of SCTP (RFC 9260)
    /// and the checksums of ICMP and GRE cover no address; ESP's integrity value does not cover the outer header.
    #[inline(always)]
    pub(crate) const fn locate(ip: &Ipv4) -> Option<Self> {
        let (offset, zero_is_none) = match ip.protocol {
            PROTOCOL_TCP => (offset_of!(TcpHdr, check), false),
            // UDP-Lite knows no "no checksum", but a zero is just as illegal after as before (RFC 3828, section 3.1).
            PROTOCOL_UDP | PROTOCOL_UDP_LITE => (offset_of!(UdpHdr, check), true),
            PROTOCOL_DCCP => (6, false),
            _ => return None,
        };
        Some(Self {
            offset: ip.payload + offset,
            zero_is_none,
        })
    }

    /// The field's new value when the pseudo header changes.
    #[must_use]
    #[inline(always)]
    pub fn corrected(self, field: Checksum, change: Change) -> Checksum {
        self.unless_none(field, field.corrected(change))
    }

    /// The same for a checksum that is unfinished.
    #[must_use]
    #[inline(always)]
    pub fn corrected_unfinished(self, field: Checksum, change: Change) -> Checksum {
        self.unless_none(field, field.corrected_unfinished(change))
    }

    #[inline(always)]
    fn unless_none(self, field: Checksum, corrected: Checksum) -> Checksum {
        match (field, corrected) {
            (Checksum::NONE, _) if self.zero_is_none => Checksum::NONE,
            (_, Checksum::NONE) if self.zero_is_none => Checksum::ZERO,
            (_, corrected) => corrected,
        }
    }
}

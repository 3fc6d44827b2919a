//! The fast path's own stage: which packets are eligible for it, and what it writes into them.
//!
//! An eligible packet needs only new IP addresses, a lower TTL and new Ethernet addresses. Any other packet is left to the
//! router, unchanged. No packet is dropped here.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use network_types::ip::Ipv4Hdr;

use crate::{
    Address, DropReason, Mac,
    apply::Write,
    checksum::{self, Change},
    header::Wire,
    parse::{Ethernet, Fragment, Ipv4, Ipv4Tail, Read},
    translate::{ICMP_LEN, L4Checksum, PROTOCOL_ICMP, is_query},
};

const DESTINATION: usize = Ethernet::LEN + offset_of!(Ipv4Hdr, dst_addr);
/// Offset of [`Written`] in the frame.
const WRITTEN: usize = Ethernet::LEN + offset_of!(Ipv4Hdr, ttl);

/// The destination of an IPv4 packet, before any check.
#[must_use]
#[inline(always)]
pub fn destination(packet: &(impl Read + ?Sized)) -> Option<Address> {
    packet.read(DESTINATION)
}

/// A packet that is eligible for the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eligible {
    /// Its header and the offsets in the frame.
    pub ip: Ipv4,
    ttl: u8,
}

impl Eligible {
    /// Reads a packet that can be forwarded over `hops` routers. `None` when the router must handle it: it is malformed, has
    /// IP options, a TTL that ends, or an address that no router forwards, or is an ICMP error.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized), hops: u8) -> Option<Self> {
        let header: Wire<Ipv4Hdr> = packet.read(Ethernet::LEN)?;
        let Wire(Ipv4Hdr { ttl, .. }) = header;
        let ip = Ipv4::decode(Ethernet::LEN, header)?;
        if ip.payload != Ethernet::LEN + Ipv4Hdr::LEN {
            return None;
        }
        // The same value as a constant, so that the verifier knows all offsets.
        let ip = Ipv4 {
            payload: Ethernet::LEN + Ipv4Hdr::LEN,
            ..ip
        };
        let broken = ip.end < ip.payload || ip.end > packet.size() || !checksum::is_right(bytemuck::cast(header));
        let is_forwarded = |address: Address| address.is_unicast_host() && !address.is_link_local();
        let forwarded = is_forwarded(ip.tail.source) && is_forwarded(ip.tail.destination);
        if broken || ttl <= hops || !forwarded {
            return None;
        }
        if ip.protocol == PROTOCOL_ICMP && ip.fragment != Fragment::Later {
            let kind: u8 = packet.read(ip.payload)?;
            if ip.payload + ICMP_LEN > ip.end || !is_query(kind) {
                return None;
            }
        }
        Some(Self { ip, ttl })
    }

    /// Whether the TTL suffices for `hops` routers.
    #[must_use]
    #[inline(always)]
    pub const fn has_ttl_for(&self, hops: u8) -> bool {
        self.ttl > hops
    }

    /// Decides what to write when the packet passes `hops` routers and gets a new source, a new destination, or both. `None`
    /// when the packet ends before the checksum that must be corrected.
    #[must_use]
    #[inline(always)]
    pub fn forward(&self, source: Option<Address>, destination: Option<Address>, hops: u8) -> Option<Forward> {
        let l4_checksum = match L4Checksum::locate(&self.ip) {
            Some(_) if self.ip.fragment == Fragment::Later => None,
            Some(checksum) if checksum.offset + 2 > self.ip.end => return None,
            found => found,
        };
        let mut tail = self.ip.tail;
        let mut addresses = Change::NOTHING;
        if let Some(source) = source {
            addresses = addresses.and(Change::address(tail.source, source));
            tail.source = source;
        }
        if let Some(destination) = destination {
            addresses = addresses.and(Change::address(tail.destination, destination));
            tail.destination = destination;
        }
        let protocol = self.ip.protocol;
        let ttl_and_protocol = [self.ttl - hops, protocol];
        let ttl = Change::word([self.ttl, protocol], ttl_and_protocol);
        tail.checksum = tail.checksum.corrected(addresses.and(ttl));
        Some(Forward {
            addresses,
            l4_checksum,
            written: Written { ttl_and_protocol, tail },
        })
    }
}

/// Everything the fast path writes behind the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    addresses: Change,
    l4_checksum: Option<L4Checksum>,
    written: Written,
}

/// The last twelve bytes of an IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct Written {
    ttl_and_protocol: [u8; 2],
    tail: Ipv4Tail,
}

/// Writes a packet's new headers. After an error the packet may be half written and must be dropped.
#[inline(always)]
pub fn write(
    packet: &mut (impl Write + ?Sized),
    forward: &Forward,
    destination: Mac,
    source: Mac,
) -> Result<(), DropReason> {
    steps(packet, forward, [destination, source]).ok_or(DropReason::HelperFailed)
}

#[inline(always)]
fn steps(packet: &mut (impl Write + ?Sized), forward: &Forward, macs: [Mac; 2]) -> Option<()> {
    packet.write(WRITTEN, forward.written)?;
    packet.write(0, macs)?;
    // Last, because a helper that changes the packet invalidates direct access to it.
    match forward.l4_checksum {
        Some(checksum) => packet.correct_pseudo_header(checksum, forward.addresses),
        None => Some(()),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use etherparse::{PacketBuilder, SlicedPacket};

    use super::*;

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn udp(ttl: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2([9; 6], [8; 6])
            .ipv4([172, 16, 0, 9], [172, 16, 1, 2], ttl)
            .udp(1000, 2000);
        packet.write(&mut frame, b"hello").expect("fits");
        frame
    }

    #[test]
    fn an_eligible_packet_is_forwarded() {
        let mut frame = udp(64);
        let eligible = Eligible::parse(&frame[..], 1).expect("eligible");
        let forward = eligible.forward(None, Some(Address([10, 0, 0, 2])), 1).expect("whole");
        write(&mut frame[..], &forward, GUEST, ROUTER).expect("fits");

        let mut expected = Vec::new();
        let packet = PacketBuilder::ethernet2(ROUTER.0, GUEST.0)
            .ipv4([172, 16, 0, 9], [10, 0, 0, 2], 63)
            .udp(1000, 2000);
        packet.write(&mut expected, b"hello").expect("fits");
        assert_eq!(frame, expected);
        SlicedPacket::from_ethernet(&frame).expect("still a packet");
    }

    #[test]
    fn other_packets_are_not_eligible() {
        let parse = |frame: &[u8]| Eligible::parse(frame, 1);
        assert_eq!(parse(&udp(1)), None, "the TTL ends");
        assert!(parse(&udp(2)).is_some());
        assert!(Eligible::parse(&udp(2)[..], 2).is_none());
        let changed = |offset: usize, value: u8| {
            let mut frame = udp(64);
            frame[offset] = value;
            frame
        };
        assert_eq!(parse(&changed(14, 0x46)), None, "options");
        assert_eq!(parse(&changed(14, 0x65)), None, "version");
        assert_eq!(parse(&changed(24, 0)), None, "a wrong header checksum");
        assert_eq!(parse(&udp(64)[..40]), None, "cut off");
    }
}

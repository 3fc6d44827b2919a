//! The fast path's own stages: which packets are ordinary enough for it, and what it writes into them.
//!
//! An ordinary packet needs new addresses, a lower TTL and new Ethernet addresses, and that is all. What is not ordinary
//! is left to the router, unchanged: nothing is dropped here.

use bytemuck::{Pod, Zeroable};

use crate::{
    Address, DropReason, Mac,
    apply::Write,
    checksum::{self, Change},
    parse::{Ethernet, Fragment, Ipv4, Ipv4Header, Ipv4Tail, Read, bytes},
    translate::{ICMP_LEN, L4Checksum, PROTOCOL_ICMP, is_query},
};

const HEADER_LEN: usize = size_of::<Ipv4Header>();
const DESTINATION: usize = Ethernet::LEN + HEADER_LEN - size_of::<Address>();
/// Offset of [`Written`] in the frame.
const WRITTEN: usize = Ethernet::LEN + core::mem::offset_of!(Ipv4Header, time_and_protocol);

/// Where a packet goes, whatever else it is.
#[must_use]
#[inline(always)]
pub fn destination(packet: &(impl Read + ?Sized)) -> Option<Address> {
    packet.read(DESTINATION)
}

/// A packet that the fast path can forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordinary {
    /// Its header and where it stands.
    pub ip: Ipv4,
    time_and_protocol: [u8; 2],
}

impl Ordinary {
    /// Reads a packet that can be forwarded over `hops` routers; `None` when it is for the router to deal with: malformed,
    /// with IP options, at the end of its time, from or to nobody, or an ICMP error.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized), hops: u8) -> Option<Self> {
        let header: Ipv4Header = packet.read(Ethernet::LEN)?;
        let time_and_protocol = header.time_and_protocol;
        let ip = Ipv4::decode(Ethernet::LEN, header)?;
        if ip.payload != Ethernet::LEN + HEADER_LEN {
            return None;
        }
        // The same, as a constant: the verifier then knows where everything is.
        let ip = Ipv4 {
            payload: Ethernet::LEN + HEADER_LEN,
            ..ip
        };
        let broken = ip.end < ip.payload || ip.end > packet.size() || !checksum::is_right(bytemuck::cast(header));
        let [time_to_live, _] = bytes(time_and_protocol);
        if broken || time_to_live <= hops || ip.tail.source.is_nobody() || ip.tail.destination.is_nobody() {
            return None;
        }
        if ip.protocol == PROTOCOL_ICMP && ip.fragment != Fragment::Later {
            let kind: u8 = packet.read(ip.payload)?;
            if ip.payload + ICMP_LEN > ip.end || !is_query(kind) {
                return None;
            }
        }
        Some(Self { ip, time_and_protocol })
    }

    /// Whether there are `hops` routers' worth of time left.
    #[must_use]
    #[inline(always)]
    pub const fn lasts(&self, hops: u8) -> bool {
        let [time_to_live, _] = bytes(self.time_and_protocol);
        time_to_live > hops
    }

    /// Decides what to write when the packet goes on `hops` routers later from or to another address, where one is given;
    /// `None` when it ends before the checksum that has to be corrected.
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
        let [time_to_live, protocol] = bytes(self.time_and_protocol);
        let time_and_protocol = [time_to_live - hops, protocol];
        let time = Change::word(self.time_and_protocol, time_and_protocol);
        tail.checksum = tail.checksum.corrected(addresses.and(time));
        Some(Forward {
            addresses,
            l4_checksum,
            written: Written {
                time_and_protocol,
                tail,
            },
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
    time_and_protocol: [u8; 2],
    tail: Ipv4Tail,
}

/// Writes a packet's new headers. On an error it may be half written and must be dropped.
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
    // Last, because what a program knows of a packet's memory is lost when it calls the kernel with it.
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

    fn udp(time_to_live: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let packet = PacketBuilder::ethernet2([9; 6], [8; 6])
            .ipv4([172, 16, 0, 9], [172, 16, 1, 2], time_to_live)
            .udp(1000, 2000);
        packet.write(&mut frame, b"hello").expect("fits");
        frame
    }

    #[test]
    fn an_ordinary_packet_is_forwarded() {
        let mut frame = udp(64);
        let ordinary = Ordinary::parse(&frame[..], 1).expect("ordinary");
        let forward = ordinary.forward(None, Some(Address([10, 0, 0, 2])), 1).expect("whole");
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
    fn what_is_not_ordinary_is_left_alone() {
        let parse = |frame: &[u8]| Ordinary::parse(frame, 1);
        assert_eq!(parse(&udp(1)), None, "at the end of its time");
        assert!(parse(&udp(2)).is_some());
        assert!(Ordinary::parse(&udp(2)[..], 2).is_none());
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

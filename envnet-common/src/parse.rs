//! Finds the headers of a frame, and refuses frames with wrong lengths.
//!
//! Headers are read through [`Read`], because a packet in the kernel may be spread over pages: the programs read it with
//! a helper, tests from a slice. Everything behind the Ethernet header is bounded by the IP total length, never by the
//! length of the frame, which may be padded to Ethernet's 60 bytes.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use network_types::{
    eth::{EthHdr, EtherType},
    ip::Ipv4Hdr,
};

use crate::{Address, DropReason, Mac, checksum::Checksum, header::Wire};

/// Something that bytes of a frame can be read from.
pub trait Read {
    /// Length of the frame.
    fn size(&self) -> usize;

    /// The bytes at `offset`, or `None` when the frame ends before the end of `T`.
    fn read<T: Pod>(&self, offset: usize) -> Option<T>;
}

impl Read for [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        Some(bytemuck::pod_read_unaligned(self.get(offset..)?.get(..size_of::<T>())?))
    }
}

/// An ethertype as it stands in a frame.
pub type Ethertype = [u8; 2];

/// IPv4.
pub const ETHERTYPE_IPV4: Ethertype = (EtherType::Ipv4 as u16).to_ne_bytes();
/// ARP.
pub const ETHERTYPE_ARP: Ethertype = (EtherType::Arp as u16).to_ne_bytes();
/// IPv6.
pub const ETHERTYPE_IPV6: Ethertype = (EtherType::Ipv6 as u16).to_ne_bytes();
/// An 802.1Q tag.
pub const ETHERTYPE_VLAN: Ethertype = (EtherType::Ieee8021q as u16).to_ne_bytes();
/// An 802.1ad tag.
pub const ETHERTYPE_QINQ: Ethertype = (EtherType::Ieee8021ad as u16).to_ne_bytes();

/// An Ethernet header without a VLAN tag, at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Where the frame goes.
    pub destination: Mac,
    /// Where the frame comes from.
    pub source: Mac,
    /// What it carries.
    pub ethertype: Ethertype,
}

impl Ethernet {
    /// Length of the header.
    pub const LEN: usize = EthHdr::LEN;

    /// Reads the header.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let Wire::<EthHdr>(header) = packet.read(0).ok_or(DropReason::Truncated)?;
        Ok(Self {
            destination: Mac(header.dst_addr),
            source: Mac(header.src_addr),
            ethertype: header.ether_type.to_ne_bytes(),
        })
    }
}

/// The part of an IPv4 header that a translation changes, in one piece.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Ipv4Tail {
    /// Checksum of the header.
    pub checksum: Checksum,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment: it has the transport header, or the start of it.
    First,
    /// A later one: data only.
    Later,
}

/// An IPv4 packet, and its offsets in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Offset of the header's checksum and addresses in the frame.
    pub tail_offset: usize,
    /// Offset of what follows the header and its options.
    pub payload: usize,
    /// Offset of the end of the packet, as its total length says.
    pub end: usize,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// IANA number of the transport protocol.
    pub protocol: u8,
    /// Checksum and addresses.
    pub tail: Ipv4Tail,
}

const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

impl Ipv4 {
    /// Reads the header behind the Ethernet header, with the checks of RFC 1812, section 5.2.2. The checksum is left to
    /// the kernel: the translation keeps a wrong one wrong.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let header = packet.read(Ethernet::LEN).ok_or(DropReason::Truncated)?;
        let ip = Self::decode(Ethernet::LEN, header).ok_or(DropReason::MalformedIpv4)?;
        if ip.end < ip.payload || ip.end > packet.size() {
            return Err(DropReason::MalformedIpv4);
        }
        Ok(ip)
    }

    /// Decodes a header at `offset`; `None` when its version or header length is wrong. The total length is
    /// taken as it is, since inside an ICMP error it is that of the original packet.
    #[inline(always)]
    pub(crate) fn decode(offset: usize, Wire(header): Wire<Ipv4Hdr>) -> Option<Self> {
        let header_len = usize::from(header.ihl());
        if header.version() != 4 || header_len < Ipv4Hdr::LEN {
            return None;
        }
        let fragment = u16::from_be_bytes(header.frags);
        Some(Self {
            tail_offset: offset + offset_of!(Ipv4Hdr, check),
            payload: offset + header_len,
            end: offset + usize::from(u16::from_be_bytes(header.tot_len)),
            fragment: if fragment & FRAGMENT_OFFSET != 0 {
                Fragment::Later
            } else if fragment & MORE_FRAGMENTS != 0 {
                Fragment::First
            } else {
                Fragment::Whole
            },
            protocol: header.proto,
            tail: Ipv4Tail {
                checksum: Checksum(header.check),
                source: Address(header.src_addr),
                destination: Address(header.dst_addr),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_may_end_anywhere() {
        let mut frame = [0; 40];
        frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
        frame[17] = 24;
        assert_eq!(Ethernet::parse(&frame[..13]), Err(DropReason::Truncated));
        assert_eq!(
            Ethernet::parse(&frame[..14]).map(|ethernet| ethernet.ethertype),
            Ok(ETHERTYPE_IPV4)
        );
        assert_eq!(Ipv4::parse(&frame[..33]), Err(DropReason::Truncated));
        assert_eq!(Ipv4::parse(&frame[..37]), Err(DropReason::MalformedIpv4));
        assert_eq!(Ipv4::parse(&frame[..38]).map(|ip| (ip.payload, ip.end)), Ok((34, 38)));
        assert_eq!(
            Ipv4::parse(&frame[..]).map(|ip| (ip.payload, ip.end)),
            Ok((34, 38)),
            "padding is not the packet"
        );
    }
}

//! Finds the headers of a frame, and refuses frames whose lengths lie.
//!
//! Headers are read through [`Read`], because a packet in the kernel may be spread over pages: the programs read it with
//! a helper, tests from a slice. Everything behind the Ethernet header is bounded by the IP total length, never by the
//! length of the frame, which may be padded to Ethernet's 60 bytes.

use crate::{Address, DropReason, Mac, checksum::Checksum};

/// Length of an Ethernet header without a VLAN tag.
pub const ETHERNET_LEN: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethertype of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Ethertype of an 802.1ad tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;

/// Something that bytes of a frame can be read from.
pub trait Read {
    /// Length of the frame.
    fn size(&self) -> usize;

    /// The `N` bytes at `offset`, or `None` when the frame ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Read for [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }
}

/// An Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Where the frame goes.
    pub destination: Mac,
    /// Where the frame comes from.
    pub source: Mac,
    /// What it carries, in host order; a length when below 0x600.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header at the start of the frame.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n]: [u8; ETHERNET_LEN] =
            packet.read(0).ok_or(DropReason::Truncated)?;
        Ok(Self {
            destination: Mac([a, b, c, d, e, f]),
            source: Mac([g, h, i, j, k, l]),
            ethertype: u16::from_be_bytes([m, n]),
        })
    }
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

/// An IPv4 header, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Offset of the header in the frame.
    pub offset: usize,
    /// Offset of what follows the header and its options.
    pub payload: usize,
    /// Offset of the end of the packet, as its total length says.
    pub end: usize,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// IANA number of the transport protocol.
    pub protocol: u8,
    /// The header's checksum.
    pub checksum: Checksum,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Ipv4 {
    /// Reads the header behind the Ethernet header, with the checks of RFC 1812, section 5.2.2. The checksum is left to
    /// the kernel: the translation keeps a wrong one wrong.
    #[inline(always)]
    pub fn parse(packet: &(impl Read + ?Sized)) -> Result<Self, DropReason> {
        let header = packet.read(ETHERNET_LEN).ok_or(DropReason::Truncated)?;
        let header = Self::decode(ETHERNET_LEN, header).ok_or(DropReason::MalformedIpv4)?;
        if header.end < header.payload || header.end > packet.size() {
            return Err(DropReason::MalformedIpv4);
        }
        Ok(header)
    }

    /// Decodes the fixed part of a header standing at `offset`; `None` when version or header length cannot be. The
    /// total length is taken as it is, since inside an ICMP error it is that of the original packet.
    #[inline(always)]
    pub(crate) fn decode(offset: usize, header: [u8; IPV4_LEN]) -> Option<Self> {
        let [
            first,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            _,
            protocol,
            c0,
            c1,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = header;
        let header_len = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header_len < IPV4_LEN {
            return None;
        }
        Some(Self {
            offset,
            payload: offset + header_len,
            end: offset + usize::from(u16::from_be_bytes([l0, l1])),
            fragment: match u16::from_be_bytes([f0, f1]) & 0x3fff {
                0 => Fragment::Whole,
                0x2000 => Fragment::First,
                _ => Fragment::Later,
            },
            protocol,
            checksum: Checksum([c0, c1]),
            source: Address([s0, s1, s2, s3]),
            destination: Address([d0, d1, d2, d3]),
        })
    }
}

//! Builds frames from a description, with every checksum computed in full by etherparse.
//!
//! A row describes what goes in and what must come out in the same words, so nothing here knows of translation.

use std::{net::Ipv4Addr, ops::Range};

use envnet_model::Frame;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, checksum::Sum16BitWords};

/// Whether a checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Right,
    /// Too large by this, in one's complement.
    Wrong(u16),
    /// Zero: none, in UDP.
    Absent,
}

/// What an IPv4 packet carries.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Tcp,
    /// UDP with these data.
    Udp(Vec<u8>),
    UdpLite,
    Dccp,
    Sctp,
    Gre,
    Esp,
    /// ICMP echo request.
    Echo,
    /// Another ICMP message: type, code, and the rest behind the checksum.
    Icmp(u8, u8, Vec<u8>),
    /// An ICMP error: type, code, how many bytes it quotes of which packet, and what follows that.
    Error(u8, u8, usize, Box<Packet>, Vec<u8>),
    /// Some protocol with these bytes.
    Raw(u8, Vec<u8>),
}

/// An IPv4 packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) payload: Payload,
    pub(crate) sum: Sum,
    pub(crate) header_sum: Sum,
    /// Multiples of four bytes.
    pub(crate) options: Vec<u8>,
    /// Only these bytes of the payload, as a fragment.
    pub(crate) piece: Option<Range<usize>>,
}

pub(crate) fn packet(source: Ipv4Addr, destination: Ipv4Addr, payload: Payload) -> Packet {
    let (sum, header_sum) = (Sum::Right, Sum::Right);
    Packet {
        source,
        destination,
        payload,
        sum,
        header_sum,
        options: Vec::new(),
        piece: None,
    }
}

impl Packet {
    pub(crate) fn from(mut self, source: Ipv4Addr) -> Self {
        self.source = source;
        self
    }

    pub(crate) fn to(mut self, destination: Ipv4Addr) -> Self {
        self.destination = destination;
        self
    }

    pub(crate) fn sum(mut self, sum: Sum) -> Self {
        self.sum = sum;
        self
    }

    pub(crate) fn header_sum(mut self, sum: Sum) -> Self {
        self.header_sum = sum;
        self
    }

    /// Four no-operations and a router alert.
    pub(crate) fn options(mut self) -> Self {
        self.options = vec![1, 1, 1, 1, 148, 4, 0, 0];
        self
    }

    pub(crate) fn piece(mut self, piece: Range<usize>) -> Self {
        self.piece = Some(piece);
        self
    }

    /// The packet's bytes from the IPv4 header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (protocol, whole) = self.transport();
        let piece = self.piece.clone().unwrap_or(0..whole.len());
        let payload = &whole[piece.clone()];
        let mut header = Ipv4Header {
            identification: 0x1234,
            dont_fragment: self.piece.is_none(),
            more_fragments: piece.end < whole.len(),
            fragment_offset: IpFragOffset::try_new(u16::try_from(piece.start / 8).unwrap()).unwrap(),
            time_to_live: 61,
            protocol: IpNumber(protocol),
            source: self.source.octets(),
            destination: self.destination.octets(),
            options: Ipv4Options::try_from(self.options.as_slice()).unwrap(),
            ..Ipv4Header::default()
        };
        header.set_payload_len(payload.len()).unwrap();
        header.header_checksum = apply(self.header_sum, header.calc_header_checksum());
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Protocol number, and the whole payload with its checksum.
    fn transport(&self) -> (u8, Vec<u8>) {
        let data = b"what a packet carries is not changed";
        let (protocol, mut bytes, checksum, pseudo) = match &self.payload {
            Payload::Tcp => {
                let mut bytes = etherparse::TcpHeader::new(0x1f90, 0xc001, 0x0102_0304, 512)
                    .to_bytes()
                    .to_vec();
                bytes.extend_from_slice(data);
                (6, bytes, Some(16), true)
            }
            Payload::Udp(data) => (17, ports(u16::try_from(8 + data.len()).unwrap(), data), Some(6), true),
            // The length field is the checksum's coverage here; zero covers everything.
            Payload::UdpLite => (136, ports(0, data), Some(6), true),
            // Data offset 4 words; CCVal and coverage 0: everything.
            Payload::Dccp => (33, ports(0x0400, &[0x04, 0, 0, 7, 1, 2, 3, 4]), Some(6), true),
            Payload::Sctp => (132, ports(0x1122, &[0x33, 0x44, 0x55, 0x66, 0, 3, 0, 16]), None, false),
            Payload::Gre => (47, [&[0, 0, 8, 0][..], data].concat(), None, false),
            Payload::Esp => (50, [&[0, 0, 16, 1, 0, 0, 0, 9][..], data].concat(), None, false),
            Payload::Echo => (1, [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], data].concat(), Some(2), false),
            Payload::Icmp(kind, code, rest) => (1, [&[*kind, *code, 0, 0][..], rest].concat(), Some(2), false),
            Payload::Error(kind, code, quoted, inner, rest) => {
                let inner = inner.bytes();
                let head = [*kind, *code, 0, 0, 0, 0, 0x05, 0x78];
                (
                    1,
                    [&head[..], &inner[..*quoted.min(&inner.len())], rest].concat(),
                    Some(2),
                    false,
                )
            }
            Payload::Raw(protocol, bytes) => (*protocol, bytes.clone(), None, false),
        };
        if let Some(at) = checksum {
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let mut sum = Sum16BitWords::new().add_slice(&bytes);
            if pseudo {
                sum = sum
                    .add_4bytes(self.source.octets())
                    .add_4bytes(self.destination.octets());
                sum = sum.add_2bytes([0, protocol]).add_2bytes(length);
            }
            let no_zero = matches!(protocol, 17 | 136);
            // etherparse gives the complement as the machine would store it.
            let right = u16::from_be(if no_zero {
                sum.to_ones_complement_with_no_zero()
            } else {
                sum.ones_complement()
            });
            bytes[at..at + 2].copy_from_slice(&apply(self.sum, right).to_be_bytes());
        }
        (protocol, bytes)
    }
}

fn apply(sum: Sum, right: u16) -> u16 {
    match sum {
        Sum::Right => right,
        Sum::Wrong(by) => {
            let (sum, carry) = right.overflowing_add(by);
            sum + u16::from(carry)
        }
        Sum::Absent => 0,
    }
}

fn ports(third: u16, data: &[u8]) -> Vec<u8> {
    let [a, b] = third.to_be_bytes();
    [&[0xc0, 0x01, 0x1f, 0x90, a, b, 0, 0][..], data].concat()
}

/// The frame as `hops` routers later, between these Ethernet addresses, by the model.
pub(crate) fn forwarded(frame: &[u8], hops: u8, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    envnet_model::forwarded(&Frame::exact(frame.to_vec()), hops, destination, source).bytes
}

/// Puts an Ethernet header before a packet.
pub(crate) fn frame(destination: [u8; 6], source: [u8; 6], ethertype: u16, body: &[u8]) -> Vec<u8> {
    [&destination[..], &source[..], &ethertype.to_be_bytes()[..], body].concat()
}

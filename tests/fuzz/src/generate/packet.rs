//! IPv4 packets of every protocol, with options and as fragments.

use std::net::Ipv4Addr;

use envnet_model::sum;

use super::{Maker, put};

/// Fields of a header that differ from packet to packet.
pub(super) struct Header {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) protocol: u8,
}

/// No-operation, end of list, one that the header's checksum does not show, record route, timestamp, loose source route, router alert, and malformed ones.
const OPTIONS: [&[u8]; 10] = [
    &[1, 1, 1, 1],
    &[0, 0xaa, 0xbb, 0xcc],
    &[0, 0, 0, 0],
    &[7, 7, 4, 0, 0, 0, 0, 0],
    &[68, 8, 5, 0, 0, 0, 0, 0],
    &[131, 7, 4, 10, 0, 0, 2, 0],
    &[148, 4, 0, 0],
    &[7, 0, 4, 0],
    &[7, 1, 4, 0],
    &[68, 255, 5, 0],
];

impl Maker<'_> {
    /// A packet for this direction.
    pub(super) fn ipv4(&mut self) -> (&'static str, Vec<u8>) {
        let (source, destination) = self.addresses();
        let (kind, protocol) = self.protocol();
        let (kind, payload) = match protocol {
            1 => self.icmp(kind, source, destination),
            _ => (kind, self.transport(protocol, source, destination)),
        };
        let header = Header {
            source,
            destination,
            protocol,
        };
        (kind, self.around(&header, &payload))
    }

    pub(super) fn protocol(&mut self) -> (&'static str, u8) {
        match self.rng.u8(..32) {
            0..5 => ("tcp", 6),
            5..11 => ("udp", 17),
            11..13 => ("udp-lite", 136),
            13..15 => ("dccp", 33),
            15..17 => ("sctp", 132),
            17 => ("gre", 47),
            18 => ("esp", 50),
            19 => ("ah", 51),
            20 => ("igmp", 2),
            21 => ("any protocol", self.rng.u8(..)),
            _ => ("icmp query", 1),
        }
    }

    /// Puts a header before a payload, which may become a fragment of itself.
    pub(super) fn around(&mut self, header: &Header, payload: &[u8]) -> Vec<u8> {
        let options = if self.one_in(8) { self.options() } else { Vec::new() };
        let (fragment, piece) = self.piece(payload);
        let header_len = 20 + options.len();
        let total = u16::try_from(header_len + piece.len()).unwrap_or(u16::MAX);
        let ihl = u8::try_from(header_len / 4).unwrap_or(15);
        let (service, ttl) = (self.rng.u8(..), self.rng.u8(..));
        let mut packet = vec![0x40 | ihl, service, 0, 0, 0x12, 0x34, 0, 0, ttl, header.protocol, 0, 0];
        packet.extend(header.source.octets());
        packet.extend(header.destination.octets());
        packet.extend(options);
        put(&mut packet, 2, total);
        put(&mut packet, 6, fragment);
        let checksum = complement(sum(&packet));
        let checksum = if self.one_in(12) {
            self.critical_word()
        } else {
            checksum
        };
        put(&mut packet, 10, checksum);
        packet.extend(piece);
        packet
    }

    fn options(&mut self) -> Vec<u8> {
        if self.one_in(8) {
            let words = self.rng.usize(1..=10);
            return self.bytes(words * 4);
        }
        let mut options = self.pick(&OPTIONS).to_vec();
        if self.rng.bool() {
            options.extend(self.pick(&OPTIONS));
        }
        options
    }

    /// The fragment field, and the part of the payload that it says this is.
    fn piece(&mut self, payload: &[u8]) -> (u16, Vec<u8>) {
        let dont_fragment = if self.rng.bool() { 0x4000 } else { 0 };
        if !self.one_in(6) {
            return (dont_fragment, payload.to_vec());
        }
        let blocks = payload.len() / 8;
        let cut = self.rng.usize(..=blocks) * 8;
        match self.rng.u8(..5) {
            0..2 => (0x2000, payload[..cut].to_vec()),
            2 => (u16::try_from(cut / 8).unwrap_or(1), payload[cut..].to_vec()),
            3 => (0x2000 | self.rng.u16(1..0x2000), payload[cut..].to_vec()),
            // The reserved bit, or anything at all.
            _ => (self.pick(&[0x8000, 0xa000, 0x1fff, 1]), payload.to_vec()),
        }
    }
}

/// What makes a sum right.
pub(super) fn complement(sum: u64) -> u16 {
    u16::try_from((0xffff - sum) % 0xffff).unwrap_or(0)
}

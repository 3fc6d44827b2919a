//! ICMP queries, and errors that quote a packet which went the other way.

use std::net::Ipv4Addr;

use envnet_model::{Direction, sum};

use super::{
    Maker,
    packet::{Header, complement},
    put,
};

impl Maker<'_> {
    pub(super) fn icmp(
        &mut self,
        kind: &'static str,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> (&'static str, Vec<u8>) {
        let (kind, mut message) = match self.rng.u8(..10) {
            0..3 => (kind, self.query()),
            3 => ("icmp redirect", self.error(5, source, destination)),
            _ => {
                let error = self.pick(&[3, 3, 3, 4, 11, 11, 12]);
                ("icmp error", self.error(error, source, destination))
            }
        };
        put(&mut message, 2, 0);
        let right = complement(sum(&message));
        let checksum = if self.one_in(8) { self.critical_word() } else { right };
        put(&mut message, 2, checksum);
        if self.one_in(20) {
            let short = self.rng.usize(..message.len().min(40));
            message.truncate(short);
        }
        (kind, message)
    }

    fn query(&mut self) -> Vec<u8> {
        let any = self.rng.u8(..);
        let kind = self.pick(&[0, 8, 8, 9, 10, 13, 14, 15, 16, 17, 18, 30, 31, 37, 40, 42, 43, any]);
        let length = self.rng.usize(4..48);
        let mut message = vec![kind, 0, 0, 0];
        message.extend(self.bytes(length));
        message
    }

    /// An error about a packet that the receiver of the error sent, or about any packet.
    fn error(&mut self, kind: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let code = self.rng.u8(..16);
        let mut message = vec![kind, code, 0, 0, 0, 0, 0x05, 0x78];
        let quoted_source = if self.one_in(12) {
            self.any_address()
        } else {
            destination
        };
        let mut quoted_destination = if self.rng.bool() { source } else { self.outside() };
        if self.direction == Direction::Out {
            quoted_destination = match self.rng.u8(..12) {
                0 => self.any_address(),
                // The router reports what it could not deliver to a guest.
                1..4 => self.internal(),
                _ => source,
            };
        }
        let mut quoted = self.quotable(quoted_source, quoted_destination);
        let length = match self.rng.u8(..10) {
            0 => self.rng.usize(..=20),
            1..4 => 28,
            4..7 => self.rng.usize(20..=64),
            _ => quoted.len(),
        };
        quoted.truncate(length);
        if self.one_in(16) && quoted.len() >= 20 {
            // Some systems quote a total length that they have changed, or another version or header length.
            let at = self.pick(&[0, 2, 3]);
            quoted[at] = self.rng.u8(..);
        }
        message.extend(&quoted);
        if self.one_in(6) {
            // RFC 4884: an extension, behind 128 bytes, and how many words those are.
            message.resize(8 + 128.max(quoted.len().next_multiple_of(4)), 0);
            message[5] = u8::try_from((message.len() - 8) / 4).unwrap_or(255);
            message.extend([0x20, 0, 0, 0, 0, 8, 1, 1]);
            let words = self.rng.usize(1..4);
            message.extend(self.bytes(words * 4));
        }
        message
    }

    fn quotable(&mut self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let (_, protocol) = self.protocol();
        let payload = match protocol {
            // An error about an error, which nobody should send, one level deep.
            1 if self.one_in(4) => {
                let innermost = Header {
                    source: destination,
                    destination: source,
                    protocol: 17,
                };
                let payload = self.transport(17, destination, source);
                let innermost = self.around(&innermost, &payload);
                [&[3, 3, 0x12, 0x34, 0, 0, 0, 0][..], &innermost].concat()
            }
            1 => self.query(),
            _ => self.transport(protocol, source, destination),
        };
        let header = Header {
            source,
            destination,
            protocol,
        };
        self.around(&header, &payload)
    }
}

//! Transport headers with right, wrong, critical and absent checksums, whole and cut off.

use std::net::Ipv4Addr;

use envnet_model::sum;

use super::{Maker, packet::complement, put};

impl Maker<'_> {
    pub(super) fn transport(&mut self, protocol: u8, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let length = match self.rng.u8(..20) {
            0 => self.rng.usize(200..1300),
            1..3 => 0,
            _ => self.rng.usize(..48),
        };
        let (header_len, checksum) = match protocol {
            6 => (20, Some(16)),
            17 | 136 => (8, Some(6)),
            33 => (16, Some(6)),
            132 => (12, None),
            _ => (8, None),
        };
        let mut bytes = self.bytes(header_len + length);
        match protocol {
            6 => bytes[12] = 0x50,
            17 => {
                let claimed = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                let claimed = if self.one_in(10) { self.rng.u16(..) } else { claimed };
                put(&mut bytes, 4, claimed);
            }
            // Checksum coverage: all, the header, or anything.
            136 => {
                let coverage = self.rng.u16(..);
                let coverage = self.pick(&[0, 8, coverage]);
                put(&mut bytes, 4, coverage);
            }
            _ => {}
        }
        if let Some(at) = checksum {
            put(&mut bytes, at, 0);
            let covered = sum(&bytes) + sum(&source.octets()) + sum(&destination.octets());
            let right = complement((covered + u64::from(protocol) + bytes.len() as u64) % 0xffff);
            // RFC 768: a computed zero is sent as all ones.
            let right = if right == 0 && matches!(protocol, 17 | 136) {
                0xffff
            } else {
                right
            };
            let checksum = if self.one_in(6) { self.critical_word() } else { right };
            put(&mut bytes, at, checksum);
        }
        if self.one_in(12) {
            // Too short for its header, or just long enough.
            let short = self.rng.usize(..=header_len.min(bytes.len()));
            bytes.truncate(short);
        }
        bytes
    }
}

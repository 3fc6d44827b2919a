//! Internet checksums, always over everything they cover (RFC 1071).

use std::net::Ipv4Addr;

/// The one's complement sum of big-endian 16-bit words, modulo 0xffff; an odd last byte is padded with zero.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u64::from(low));
    bytes.chunks(2).map(word).sum::<u64>() % 0xffff
}

/// The sum of the pseudo header that TCP, UDP, UDP-Lite and DCCP share (RFC 768, RFC 9293, RFC 3828, RFC 4340).
pub(crate) fn pseudo_header(header: &[u8], protocol: u8, length: usize) -> u64 {
    (sum(&header[12..20]) + u64::from(protocol) + length as u64) % 0xffff
}

/// A checksum field that is to be brought in order after what it covers has changed.
pub(crate) struct Field {
    /// The sum of everything covered, the field included, before the change.
    pub before: u64,
    /// The same after the change, with the field still as it was.
    pub now: u64,
    /// Whether the protocol writes a computed zero as 0xffff, and nothing as 0x0000.
    pub zero_is_none: bool,
}

/// What to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// The field stays, or may be the other zero.
    Stay { either_zero: bool },
    /// This value.
    Value(u16),
}

impl Field {
    /// The value that makes the sum what it was.
    pub(crate) fn correct(&self, field: u16) -> Correction {
        if self.zero_is_none && field == 0 {
            return Correction::Stay { either_zero: false };
        }
        if self.before == self.now {
            let either_zero = !self.zero_is_none && matches!(field, 0 | 0xffff);
            return Correction::Stay { either_zero };
        }
        let value = (u64::from(field) + self.before + 0xffff - self.now) % 0xffff;
        Correction::Value(match u16::try_from(value) {
            Ok(0) if self.zero_is_none => 0xffff,
            Ok(value) => value,
            Err(_) => unreachable!("a number modulo 0xffff has 16 bits"),
        })
    }
}

/// The IPv4 address at this offset.
#[must_use]
pub fn address(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[0xff, 0xff]), 0);
        assert_eq!(sum(&[1, 2, 3]), 0x0402);
    }

    #[test]
    fn zeros() {
        let field = |before, now, zero_is_none| Field {
            before,
            now,
            zero_is_none,
        };
        assert_eq!(field(0, 5, false).correct(5), Correction::Value(0));
        assert_eq!(field(0, 5, true).correct(5), Correction::Value(0xffff));
        assert_eq!(field(0, 5, true).correct(0), Correction::Stay { either_zero: false });
        assert_eq!(field(0, 5, false).correct(0), Correction::Value(0xfffa));
        assert_eq!(
            field(7, 7, false).correct(0xffff),
            Correction::Stay { either_zero: true }
        );
        assert_eq!(
            field(7, 7, true).correct(0xffff),
            Correction::Stay { either_zero: false }
        );
    }
}

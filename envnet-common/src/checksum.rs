//! Internet checksums (RFC 1071), corrected for a change rather than computed anew (RFC 1624, equation 3).
//!
//! Nothing here swaps bytes. A one's complement sum does not depend on byte order: the sum of swapped words is the
//! swapped sum (RFC 1071, section 2 (B)), because the carry out of either byte enters the other one. So words are taken
//! as they lie in memory, and the result is stored as it comes out. A correction also needs neither the rest of the
//! packet nor a right checksum to start from: one that was wrong stays wrong by the same difference, and the receiver
//! still notices.

use crate::Address;

/// A checksum field as it stands in a header.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(pub [u8; 2]);

impl Checksum {
    /// In UDP: the sender computed no checksum (RFC 768).
    pub const NONE: Self = Self([0; 2]);
    /// The other way to write zero in one's complement; UDP sends it when the computed checksum is zero (RFC 768).
    pub const ZERO: Self = Self([0xff; 2]);

    /// Corrects for one 16-bit word that changed.
    #[must_use]
    #[inline(always)]
    pub const fn replace_word(self, old: [u8; 2], new: [u8; 2]) -> Self {
        complement(self.inverted() + inverted(old) + word(new))
    }

    /// Corrects for one address that changed.
    #[must_use]
    #[inline(always)]
    pub const fn replace_address(self, old: Address, new: Address) -> Self {
        let [a, b, c, d] = old.0;
        let [e, f, g, h] = new.0;
        complement(self.inverted() + inverted([a, b]) + inverted([c, d]) + word([e, f]) + word([g, h]))
    }

    #[inline(always)]
    const fn inverted(self) -> u32 {
        inverted(self.0)
    }
}

#[inline(always)]
const fn word(bytes: [u8; 2]) -> u32 {
    u16::from_ne_bytes(bytes) as u32
}

#[inline(always)]
const fn inverted(bytes: [u8; 2]) -> u32 {
    word(bytes) ^ 0xffff
}

/// Folds the carries of up to 65535 words back in, and inverts.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
const fn complement(sum: u32) -> Checksum {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    Checksum((!(sum as u16)).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(bytes: &[u8]) -> Checksum {
        complement(bytes.chunks_exact(2).map(|pair| word([pair[0], pair[1]])).sum())
    }

    #[test]
    fn the_example_of_rfc_1624() {
        let checksum = Checksum([0xdd, 0x2f]).replace_word([0x55, 0x55], [0x32, 0x85]);
        assert_eq!(checksum, Checksum([0x00, 0x00]));
    }

    proptest! {
        #[test]
        fn correcting_equals_recomputing(mut bytes: [u8; 20], new: [u8; 4], at in 0usize..5) {
            // An all-zero packet has no representation of its checksum that a correction could reach.
            prop_assume!(bytes[..16].iter().chain(&new).any(|&byte| byte != 0));
            bytes[19] |= 1;
            let at = at.min(3) * 4;
            let before = full(&bytes);
            let old = Address(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new);
            prop_assert_eq!(before.replace_address(old, Address(new)), full(&bytes));
        }

        #[test]
        fn a_wrong_checksum_stays_wrong_by_the_same_difference(
            right: [u8; 2], by in 1u16..0xffff, old: [u8; 4], new: [u8; 4],
        ) {
            let difference = |a: Checksum, b: Checksum| (word(a.0) + inverted(b.0)) % 0xffff;
            let wrong = Checksum(complement(inverted(right) + u32::from(by)).0);
            let (old, new) = (Address(old), Address(new));
            let corrected = Checksum(right).replace_address(old, new);
            prop_assert_eq!(
                difference(wrong, Checksum(right)),
                difference(wrong.replace_address(old, new), corrected)
            );
        }
    }
}

//! Internet checksums (RFC 1071), corrected for a change rather than computed anew (RFC 1624, equation 3).
//!
//! Nothing here swaps bytes. A one's complement sum does not depend on byte order: the sum of swapped words is the
//! swapped sum (RFC 1071, section 2 (B)), because the carry out of either byte enters the other one. So words are taken
//! as they lie in memory, and the result is stored as it comes out. A correction also needs neither the rest of the
//! packet nor a right checksum to start from: one that was wrong stays wrong by the same difference, and the receiver
//! still notices.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// A checksum field as it stands in a header.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Checksum(pub [u8; 2]);

impl Checksum {
    /// In UDP: the sender computed no checksum (RFC 768).
    pub const NONE: Self = Self([0; 2]);
    /// The other way to write zero in one's complement; UDP sends it when the computed checksum is zero (RFC 768).
    pub const ZERO: Self = Self([0xff; 2]);

    /// Corrects for a change.
    #[must_use]
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a few words' carries are gone after two folds"
    )]
    pub const fn corrected(self, change: Change) -> Self {
        // `~(~HC + change)`
        let sum = !u16::from_ne_bytes(self.0) as u32 + change.0;
        Self((!(add_halves(add_halves(sum)) as u16)).to_ne_bytes())
    }
}

impl Checksum {
    /// Corrects a field whose checksum is unfinished for a change of the pseudo header: it holds the pseudo header's sum, as it
    /// is and not its complement.
    #[must_use]
    #[inline(always)]
    pub const fn corrected_unfinished(self, change: Change) -> Self {
        let [a, b] = self.0;
        let Self([a, b]) = Self([!a, !b]).corrected(change);
        Self([!a, !b])
    }
}

/// What changes in what a checksum covers: `~m + m'`, summed over the words that change. There is room for those of a few
/// headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change(u32);

impl Change {
    /// No change.
    pub const NOTHING: Self = Self(0);

    /// Of a 16-bit field.
    #[must_use]
    #[inline(always)]
    pub const fn word(old: [u8; 2], new: [u8; 2]) -> Self {
        Self(!u16::from_ne_bytes(old) as u32 + u16::from_ne_bytes(new) as u32)
    }

    /// Of an address.
    #[must_use]
    #[inline(always)]
    pub const fn address(old: Address, new: Address) -> Self {
        Self(add_halves(!u32::from_ne_bytes(old.0)) + add_halves(u32::from_ne_bytes(new.0)))
    }

    /// As a sum that has not been folded yet, the kernel's `__wsum`.
    #[must_use]
    #[inline(always)]
    pub const fn sum(self) -> u32 {
        self.0
    }

    /// Both changes.
    #[must_use]
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// Whether a header of ten words, its checksum among them, adds up as it must (RFC 1812, section 5.2.2).
#[must_use]
#[inline(always)]
pub fn is_right(header: [[u8; 2]; 10]) -> bool {
    let sum = header
        .iter()
        .fold(0, |sum, word| sum + u32::from(u16::from_ne_bytes(*word)));
    add_halves(add_halves(sum)) == 0xffff
}

/// The two 16-bit words of an address summed up, or the carries of a sum folded in: both are the same addition.
#[inline(always)]
const fn add_halves(bits: u32) -> u32 {
    (bits & 0xffff) + (bits >> 16)
}

#[cfg(test)]
mod tests {
    use etherparse::checksum::Sum16BitWords;
    use proptest::prelude::*;

    use super::*;

    fn full(bytes: &[u8]) -> Checksum {
        Checksum(Sum16BitWords::new().add_slice(bytes).ones_complement().to_ne_bytes())
    }

    fn off_by(right: Checksum, by: u16) -> Checksum {
        let (sum, carry) = u16::from_be_bytes(right.0).overflowing_add(by);
        Checksum((sum + u16::from(carry)).to_be_bytes())
    }

    #[test]
    fn the_example_of_rfc_1624() {
        let checksum = Checksum([0xdd, 0x2f]).corrected(Change::word([0x55, 0x55], [0x32, 0x85]));
        assert_eq!(checksum, Checksum([0x00, 0x00]));
    }

    #[test]
    fn a_carry_may_carry_again() {
        let [a, b] = 2u16.to_ne_bytes();
        let corrected = Checksum([0, 0]).corrected(Change::address(Address([0; 4]), Address([0xff, 0xff, a, b])));
        assert_eq!(corrected, Checksum((!2u16).to_ne_bytes()));
    }

    proptest! {
        #[test]
        fn correcting_an_address_is_recomputing(mut bytes: [u8; 20], new: [u8; 4], at in 0usize..4) {
            // All zero is the one packet whose checksum has another representation.
            bytes[19] |= 1;
            let before = full(&bytes);
            let field = &mut bytes[at * 4..][..4];
            let old = Address(bytemuck::pod_read_unaligned(field));
            field.copy_from_slice(&new);
            prop_assert_eq!(before.corrected(Change::address(old, Address(new))), full(&bytes));
        }

        #[test]
        fn a_header_is_right_with_its_checksum_only(mut bytes: [u8; 20], by in 1u16..0xffff) {
            bytes[10..12].fill(0);
            bytes[19] |= 1;
            let right = full(&bytes);
            bytes[10..12].copy_from_slice(&right.0);
            prop_assert!(is_right(bytemuck::cast(bytes)));
            bytes[10..12].copy_from_slice(&off_by(right, by).0);
            prop_assert!(!is_right(bytemuck::cast(bytes)));
        }

        #[test]
        fn correcting_a_word_is_recomputing(mut bytes: [u8; 20], new: [u8; 2], at in 0usize..9) {
            bytes[19] |= 1;
            let before = full(&bytes);
            let field = &mut bytes[at * 2..][..2];
            let old = bytemuck::pod_read_unaligned(field);
            field.copy_from_slice(&new);
            prop_assert_eq!(before.corrected(Change::word(old, new)), full(&bytes));
        }

        #[test]
        fn wrong_stays_wrong_by_the_same_difference(mut bytes: [u8; 20], new: [u8; 4], by in 1u16..0xffff) {
            bytes[19] |= 1;
            let before = off_by(full(&bytes), by);
            let old = Address(bytemuck::pod_read_unaligned(&bytes[..4]));
            bytes[..4].copy_from_slice(&new);
            // Zero has two representations, which are equally wrong.
            let [got, expected] = [before.corrected(Change::address(old, Address(new))), off_by(full(&bytes), by)];
            prop_assert_eq!(u16::from_be_bytes(got.0) % 0xffff, u16::from_be_bytes(expected.0) % 0xffff);
        }
    }
}

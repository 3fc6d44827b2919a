//! Wire addresses: bytes in the order they have on the wire, so that no integer is ever swapped by mistake.

use core::{fmt, net::Ipv4Addr};

use bytemuck::{Pod, Zeroable};

/// An IPv4 address as it stands in a header: four bytes in network order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u8; 4]);

impl Address {
    /// 0.0.0.0, which stands for "no address" in map keys.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// Keeps the network bits of `self`, as `mask` (255.255.255.0 for a /24) selects them.
    #[must_use]
    #[inline(always)]
    pub const fn network(self, mask: Self) -> Self {
        Self((u32::from_ne_bytes(self.0) & u32::from_ne_bytes(mask.0)).to_ne_bytes())
    }

    /// Takes the network bits from `network` and the host bits from `self`.
    #[must_use]
    #[inline(always)]
    pub const fn rebase(self, network: Self, mask: Self) -> Self {
        let mask = u32::from_ne_bytes(mask.0);
        let bits = (u32::from_ne_bytes(network.0) & mask) | (u32::from_ne_bytes(self.0) & !mask);
        Self(bits.to_ne_bytes())
    }

    /// Whether one machine can have this address: not 0/8, 127/8, multicast, 240/4 or the broadcast address.
    #[must_use]
    #[inline(always)]
    pub const fn is_unicast_host(self) -> bool {
        // The whole address is loaded first: if one byte is read, the compiler for BPF keeps all of them in memory.
        !matches!(u32::from_be_bytes(self.0) >> 24, 0 | 127 | 224..)
    }
}

impl Address {
    /// Whether the address is of one link only: 169.254/16 (RFC 3927).
    #[must_use]
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        u32::from_be_bytes(self.0) >> 16 == 0xa9fe
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.octets())
    }
}

impl From<Address> for Ipv4Addr {
    fn from(address: Address) -> Self {
        Self::from(address.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

/// An Ethernet (EUI-48) address in wire order.
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "all bytes count for both")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Its first byte.
    #[must_use]
    #[inline(always)]
    pub fn first_byte(self) -> u8 {
        // A word first, for the reason in `Address::is_unicast_host`.
        let [word, ..]: [u16; 3] = bytemuck::cast(self);
        word.to_ne_bytes()[0]
    }

    /// Whether this is a multicast address or the broadcast address.
    #[must_use]
    #[inline(always)]
    pub fn is_group(self) -> bool {
        self.first_byte() & 1 == 1
    }

    /// Whether there is an address: all zero stands for "none" in maps.
    #[must_use]
    #[inline(always)]
    pub fn is_set(self) -> bool {
        self != Self([0; 6])
    }
}

impl PartialEq for Mac {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let [a, b]: [[u16; 3]; 2] = [*self, *other].map(bytemuck::cast);
        a == b
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Address = Address([255, 255, 255, 0]);

    #[test]
    fn rebase_keeps_host_bits() {
        assert_eq!(
            Address([10, 0, 0, 7]).rebase(Address([172, 16, 5, 0]), MASK),
            Address([172, 16, 5, 7])
        );
        let mask = Address([255, 255, 254, 0]);
        assert_eq!(
            Address([10, 0, 1, 7]).rebase(Address([172, 16, 4, 0]), mask),
            Address([172, 16, 5, 7])
        );
    }

    #[test]
    fn a_mac_prints_as_usual() {
        extern crate std;
        assert_eq!(std::format!("{}", Mac([2, 0, 0xab, 0, 0, 1])), "02:00:ab:00:00:01");
    }

    #[test]
    fn network_clears_host_bits() {
        assert_eq!(Address([10, 0, 0, 7]).network(MASK), Address([10, 0, 0, 0]));
    }
}

//! FNV-1a, 64 bits: a hash that is the same for ever, unlike the standard library's hashers. It tells builds apart and derives
//! Ethernet addresses; nobody's security depends on it.

/// Hashes bytes.
#[must_use]
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    bytes.into_iter().fold(OFFSET_BASIS, step)
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    /// Pins and Ethernet addresses of running hosts depend on these values.
    #[test]
    fn values_are_those_of_the_definition() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.bytes()), hash, "{text}");
        }
    }
}

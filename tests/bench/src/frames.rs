//! What the generator sends: UDP frames of a length, in a number of flows, between addresses.

use std::net::Ipv4Addr;

/// Outside machines that flows come from or go to, beside the upstream router: one outside interface has all their addresses.
pub(crate) const PEERS: u8 = 16;
/// Length of Ethernet, IPv4 and UDP header.
pub(crate) const HEADERS: usize = 42;
const ETHERNET: usize = 14;
const IP: usize = 20;

/// An outside machine. The last byte of the first ends in zero bits, as the generator counts upwards in them.
pub(crate) fn peer(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 16, 254, 16 + number)
}

/// Which address differs from flow to flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Varied {
    Neither = 0,
    Source = 1,
    Destination = 2,
}

/// Addresses of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) varied: Varied,
}

/// The headers as 16-bit words in memory's order with ports and checksums zero, and the sums of IPv4 header and of UDP
/// packet with pseudo header.
pub(crate) fn header(addresses: &Addresses, length: usize) -> ([u16; HEADERS / 2], [u32; 2]) {
    let total = u16::try_from(length - ETHERNET).unwrap_or(u16::MAX);
    let datagram = u16::try_from(length - ETHERNET - IP).unwrap_or(u16::MAX);
    let mut bytes = [0; HEADERS];
    bytes[0..6].copy_from_slice(&addresses.destination_mac);
    bytes[6..12].copy_from_slice(&addresses.source_mac);
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..16].copy_from_slice(&[0x45, 0]);
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    // No fragments; TTL 64, UDP.
    bytes[20..24].copy_from_slice(&[0x40, 0, 64, 17]);
    bytes[26..30].copy_from_slice(&addresses.source.octets());
    bytes[30..34].copy_from_slice(&addresses.destination.octets());
    bytes[38..40].copy_from_slice(&datagram.to_be_bytes());
    let words: [u16; HEADERS / 2] = std::array::from_fn(|at| u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]]));
    let sum = |words: &[u16]| words.iter().map(|word| u32::from(*word)).sum::<u32>();
    let ip = sum(&words[7..17]);
    let pseudo = sum(&words[13..17]) + u32::from(17_u16.to_be()) + u32::from(datagram.to_be());
    // The payload is zero.
    let udp = pseudo + sum(&words[17..]);
    (words, [ip, udp])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_header() {
        let addresses = Addresses {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: peer(0),
            destination: Ipv4Addr::new(172, 16, 1, 2),
            varied: Varied::Source,
        };
        let (words, [ip, udp]) = header(&addresses, 64);
        assert_eq!(words[8].to_be(), 50);
        assert_eq!(words[19].to_be(), 30);
        // In memory's order and in the network's, a sum is the same but for the order of its bytes (RFC 1071, 2B).
        let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
        let by_hand: u32 = [0x4500, 0x0032, 0x4000, 0x4011, 0xac10, 0xfe10, 0xac10, 0x0102]
            .iter()
            .sum();
        assert_eq!(
            u16::try_from(fold(fold(ip))).map(u16::to_be),
            u16::try_from(fold(fold(by_hand)))
        );
        let by_hand: u32 = [0xac10, 0xfe10, 0xac10, 0x0102, 17, 30, 30].iter().sum();
        assert_eq!(
            u16::try_from(fold(fold(udp))).map(u16::to_be),
            u16::try_from(fold(fold(by_hand)))
        );
    }
}

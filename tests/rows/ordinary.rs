//! Which packets the fast path must take, and what forwarding does to a packet: RFC 1812, section 5.2, by the bytes.

use etherparse::Ipv4Header;

const ETHERNET: usize = 14;
const HEADER: usize = 20;
const TIME_TO_LIVE: usize = ETHERNET + 8;
const ICMP: u8 = 1;
/// Errors and redirects: their payload is about another packet.
const ABOUT_OTHERS: [u8; 5] = [3, 4, 5, 11, 12];

/// Whether a router with nothing special to do would forward this well-formed packet over so many hops: a header without
/// options that adds up, time left, and nothing inside that needs translation.
pub(crate) fn is_ordinary(frame: &[u8], hops: u8) -> bool {
    let packet = &frame[ETHERNET..];
    let Ok((header, _)) = Ipv4Header::from_slice(packet) else {
        return false;
    };
    let right = header.calc_header_checksum() == header.header_checksum
        // The other way to write zero in one's complement.
        || (header.calc_header_checksum() == 0 && header.header_checksum == 0xffff);
    let about_others =
        packet[9] == ICMP && header.fragment_offset.value() == 0 && ABOUT_OTHERS.contains(&packet[HEADER]);
    header.options.is_empty() && right && header.time_to_live > hops && !about_others
}

/// The frame as it is so many routers later, with these Ethernet addresses.
pub(crate) fn forwarded(frame: &[u8], hops: u8, destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    frame[TIME_TO_LIVE] -= hops;
    let (header, _) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

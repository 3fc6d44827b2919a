//! What routers between two links do with a packet that nothing is special about: RFC 1812, section 5.2 and 5.3.1.
//!
//! The fast path takes such packets past the routers, so it owes them the same. Everything else is the routers'.

use crate::{
    ETHERNET,
    checksum::{self, Field},
    ipv4,
    verdict::Frame,
};

const HEADER: usize = 20;
const TIME_TO_LIVE: usize = ETHERNET + 8;

/// Whether a well-formed IPv4 packet needs nothing but new addresses and less time on its way over so many routers.
#[must_use]
pub fn is_ordinary(frame: &[u8], hops: u8) -> bool {
    let packet = &frame[ETHERNET..];
    let options = packet[0] != 0x45;
    let right = checksum::sum(&packet[..HEADER]) == 0;
    let fragment_offset = checksum::word(packet, 6) & 0x1fff;
    // Errors quote other packets, and redirects concern one link.
    let about_another =
        packet[9] == 1 && fragment_offset == 0 && matches!(packet.get(HEADER), Some(3 | 4 | 5 | 11 | 12));
    !options && right && packet[8] > hops && !about_another
}

/// The frame so many routers later, between these Ethernet addresses.
#[must_use]
pub fn forwarded(frame: &Frame, hops: u8, destination: [u8; 6], source: [u8; 6]) -> Frame {
    let mut after = frame.clone();
    after.bytes[..6].copy_from_slice(&destination);
    after.bytes[6..12].copy_from_slice(&source);
    let header = |frame: &Frame| checksum::sum(&frame.bytes[ETHERNET..ETHERNET + HEADER]);
    let before = header(&after);
    after.bytes[TIME_TO_LIVE] -= hops;
    let field = Field {
        before,
        now: header(&after),
        zero_is_none: false,
    };
    ipv4::write(&mut after, ETHERNET + 10, &field);
    after
}

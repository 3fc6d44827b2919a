//! ICMP errors quote a packet that went the other way: RFC 5508, REQ-3 to REQ-5.

use std::net::Ipv4Addr;

use crate::{
    Direction, Reason, World, checksum,
    checksum::{Field, address},
    ipv4::{self, DESTINATION, Fragment, SOURCE},
    verdict::Frame,
};

/// ICMP header of an error: type, code, checksum, and four bytes that depend on the type.
const HEADER: usize = 8;

/// How the packet around the quote is translated.
pub(crate) struct Quote<'a> {
    pub world: &'a World,
    pub direction: Direction,
    pub outer_new: Ipv4Addr,
}

impl Quote<'_> {
    /// Translates what the ICMP message at `payload` quotes. `Err(None)` when it quotes no IPv4 header.
    ///
    /// The quoted total length is not judged, because it is that of a packet of which only the start is here, and some
    /// systems quote it changed. But what lies behind it is no part of the packet (RFC 4884: extensions, for one).
    pub(crate) fn translate(&self, after: &mut Frame, before: &[u8], payload: usize) -> Result<(), Option<Reason>> {
        let start = payload + HEADER;
        if before.len() < start + 20 {
            return Err(None);
        }
        let (version, header_len, total) = ipv4::lengths(&before[start..]);
        if version != 4 || header_len < 20 {
            return Err(Some(Reason::EmbeddedMalformed));
        }
        // An error goes to the source of the packet that it is about (RFC 792, RFC 1122 section 3.2.2); who sends it elsewhere
        // may want to show an address where it must not be seen.
        if address(&before[start..], SOURCE) != address(before, DESTINATION) {
            return Err(Some(Reason::EmbeddedUnmapped));
        }
        let (side, new) = self
            .other_side(&before[start..])
            .ok_or(Some(Reason::EmbeddedUnmapped))?;

        ipv4::replace_address(after, start, start + header_len, side, new);
        if !matches!(ipv4::fragment(&before[start..]), Fragment::Later) {
            let end = before.len().min(start + total);
            ipv4::correct_transport(after, before, start, start + header_len, end);
        }
        // The message's own checksum covers all of it (RFC 792).
        let field = Field {
            before: checksum::sum(&before[payload..]),
            now: checksum::sum(&after.bytes[payload..]),
            zero_is_none: false,
        };
        ipv4::write(after, payload + 2, &field);
        Ok(())
    }

    /// Which address of the quoted header is ours, and what it becomes.
    fn other_side(&self, quoted: &[u8]) -> Option<(usize, Ipv4Addr)> {
        match self.direction {
            // The guest that the error comes to has sent the quoted packet, so its source was translated (REQ-4).
            Direction::In => Some((SOURCE, self.outer_new)),
            // The quoted packet was on its way to a guest; a router on the way reports it, too (REQ-5).
            Direction::Out => {
                let external = self.world.external_of(address(quoted, DESTINATION))?;
                Some((DESTINATION, external))
            }
        }
    }
}

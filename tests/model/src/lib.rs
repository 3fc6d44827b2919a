//! What must become of a frame, written from the RFCs: slow, obvious, and without any of envnet's own code.
//!
//! [`judge`] takes a frame at `gwE` and says what is due to it; [`due()`] says from that what each program owes, those of the
//! fast path too. Three rules make the answer exact where the RFCs leave room:
//!
//! **Checksums.** A checksum is *right* when the one's complement sum of everything it covers, itself and the pseudo header
//! included, is 0 modulo 0xffff (RFC 1071: all ones). What the translation owes is that this sum is **the same number
//! before and after**: then right stays right, and wrong stays wrong by the same difference. The sum is taken over the
//! covered bytes that are there (of a first fragment, or of a quoted packet, only some are): the rest does not change.
//! The sum fixes the field except for the two zeros 0x0000 and 0xffff. A field that becomes zero is 0x0000, as any
//! computed checksum is, and in UDP and UDP-Lite 0xffff; in those, 0x0000 means "none" and stays. A field whose value need
//! not change, but which is a zero already, may be either ([`Frame::either_zero`]).
//!
//! **Reasons.** A packet can have several defects, and no RFC says which one to report. The model collects all that it
//! finds without relying on a broken part; a program may report any of them, but must not let the packet pass.
//!
//! **What is not judged.** The link layer (padding, addresses) stays as it is unless a frame is turned round. What the
//! kernel's own IPv4 code refuses (a wrong header checksum, a malformed option, TTL) is the kernel's to refuse.

mod arp;
mod checksum;
mod due;
mod forward;
mod icmp;
mod ipv4;
mod verdict;
mod world;

pub use checksum::{address, sum};
pub use due::{Counts, Due, Program, as_guest_sends, due};
pub use forward::{forwarded, is_ordinary};
pub use verdict::{Drop, Frame, Reason, Verdict};
pub use world::{Host, Mapping, Prefix, World};

/// Which of the two programs sees the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// `router_ingress`: from outside to the router.
    In,
    /// `router_egress`: from the router to the outside.
    Out,
}

const ETHERNET: usize = 14;

/// What must become of `frame`; without a `world` the interface belongs to no environment.
#[must_use]
pub fn judge(world: Option<&World>, direction: Direction, frame: &[u8]) -> Verdict {
    let Some(world) = world else {
        return Verdict::drop(Reason::UnknownInterface);
    };
    if frame.len() < ETHERNET {
        return Verdict::drop(Reason::Truncated);
    }
    let mut defects = Vec::new();
    let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
    let tagged = matches!(ethertype, 0x8100 | 0x88a8);
    if tagged {
        defects.push(Drop::of(Reason::VlanTagged));
    }
    // What leaves is addressed to somebody else, so only what comes in can be for another machine.
    if direction == Direction::In && frame[0] & 1 == 0 && frame[..6] != world.router_wan {
        defects.push(Drop::of(Reason::OtherHost));
    }
    let verdict = match ethertype {
        0x0800 => ipv4::judge(world, direction, frame),
        0x0806 => arp::judge(world, direction, frame),
        _ => Verdict::drop(Reason::NotIpv4),
    };
    verdict.and(defects)
}

//! What the model answers.

use std::net::Ipv4Addr;

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, as this frame.
    Pass(Frame),
    /// It is turned round, as this frame: sent back, or received again.
    Redirect(Frame),
    /// It is left to whoever is next, as it is. Only programs of the fast path do that.
    Next,
    /// It goes nowhere, for any of these reasons.
    Drop(Vec<Drop>),
}

/// A frame as it must be afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Offsets of 16-bit fields that may be 0x0000 or 0xffff, which are the same number in one's complement.
    pub either_zero: Vec<usize>,
}

/// A reason to drop a packet, and whose mapping it counts under, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Drop {
    /// Why.
    pub reason: Reason,
    /// The guest concerned, when the address that is to be translated was found.
    pub internal: Option<Ipv4Addr>,
}

/// Why a packet must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The interface is no environment's.
    UnknownInterface,
    /// A header that must be there is not.
    Truncated,
    /// A VLAN tag.
    VlanTagged,
    /// Neither IPv4 nor ARP.
    NotIpv4,
    /// RFC 1812, section 5.2.2: version, header length, total length.
    MalformedIpv4,
    /// Not an ARP request or reply for IPv4 on Ethernet (RFC 826).
    MalformedArp,
    /// ARP about addresses that are nobody's here, or from addresses that cannot be there.
    ArpUnmapped,
    /// Multicast and broadcast, of the link or of the network layer.
    DestinationNotUnicast,
    /// Nobody has this external address.
    DestinationUnmapped,
    /// RFC 1812, section 5.3.7, and internal addresses outside.
    SourceMartian,
    /// Internal, but nobody's.
    SourceUnmapped,
    /// Not even internal.
    SourceForeign,
    /// RFC 1858: a first fragment without what must be corrected.
    TinyFragment,
    /// An ICMP error that quotes no IPv4 header.
    EmbeddedMalformed,
    /// RFC 5508, REQ-4 and REQ-5: an ICMP error about somebody else's packet.
    EmbeddedUnmapped,
    /// RFC 5508, REQ-11, and RFC 1812, section 5.2.7.2.
    IcmpRedirect,
    /// RFC 1812, section 3.3: for another machine on the link.
    OtherHost,
    /// RFC 2827: a guest that calls itself by an address that is not its own.
    SourceSpoofed,
    /// A guest that uses another's Ethernet address, or tells two of them.
    MacSpoofed,
    /// RFC 3927, section 2.6.2: an address of one link only.
    LinkLocal,
}

impl Reason {
    /// Every reason that there is to refuse a packet.
    pub const ALL: [Self; 20] = [
        Self::UnknownInterface,
        Self::Truncated,
        Self::VlanTagged,
        Self::NotIpv4,
        Self::MalformedIpv4,
        Self::MalformedArp,
        Self::ArpUnmapped,
        Self::DestinationNotUnicast,
        Self::DestinationUnmapped,
        Self::SourceMartian,
        Self::SourceUnmapped,
        Self::SourceForeign,
        Self::TinyFragment,
        Self::EmbeddedMalformed,
        Self::EmbeddedUnmapped,
        Self::IcmpRedirect,
        Self::OtherHost,
        Self::SourceSpoofed,
        Self::MacSpoofed,
        Self::LinkLocal,
    ];

    /// The name under which the programs count it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownInterface => "unknown-interface",
            Self::Truncated => "truncated",
            Self::VlanTagged => "vlan-tagged",
            Self::NotIpv4 => "not-ipv4",
            Self::MalformedIpv4 => "malformed-ipv4",
            Self::MalformedArp => "malformed-arp",
            Self::ArpUnmapped => "arp-unmapped",
            Self::DestinationNotUnicast => "destination-not-unicast",
            Self::DestinationUnmapped => "destination-unmapped",
            Self::SourceMartian => "source-martian",
            Self::SourceUnmapped => "source-unmapped",
            Self::SourceForeign => "source-foreign",
            Self::TinyFragment => "tiny-fragment",
            Self::EmbeddedMalformed => "embedded-malformed",
            Self::EmbeddedUnmapped => "embedded-unmapped",
            Self::IcmpRedirect => "icmp-redirect",
            Self::OtherHost => "other-host",
            Self::SourceSpoofed => "source-spoofed",
            Self::MacSpoofed => "mac-spoofed",
            Self::LinkLocal => "link-local",
        }
    }
}

impl Drop {
    /// For this reason, and under nobody's mapping.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        Self { reason, internal: None }
    }
}

impl Verdict {
    pub(crate) fn drop(reason: Reason) -> Self {
        Self::Drop(vec![Drop::of(reason)])
    }

    /// The same verdict for a packet that has these defects, too.
    pub(crate) fn and(self, mut defects: Vec<Drop>) -> Self {
        match self {
            Self::Drop(own) => {
                defects.extend(own);
                Self::Drop(defects)
            }
            verdict if defects.is_empty() => verdict,
            _ => Self::Drop(defects),
        }
    }
}

impl Frame {
    /// A frame in which every byte is fixed.
    #[must_use]
    pub const fn exact(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            either_zero: Vec::new(),
        }
    }

    /// Whether this is the frame that must come out.
    #[must_use]
    pub fn is(&self, other: &[u8]) -> bool {
        if self.bytes == other {
            return true;
        }
        let mut other = other.to_vec();
        for &at in &self.either_zero {
            if let Some(field @ ([0, 0] | [0xff, 0xff])) = other.get_mut(at..at + 2) {
                field.copy_from_slice(&self.bytes[at..at + 2]);
            }
        }
        self.bytes == other
    }
}

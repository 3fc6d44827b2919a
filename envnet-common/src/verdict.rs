//! What becomes of a packet, and why when it is dropped.

/// The decision about one packet. The programs turn it into a kernel code in exactly one place.
#[must_use = "a verdict that is not returned lets the packet through"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let the kernel go on with the packet as it now is.
    Pass,
    /// Send the packet out of the interface the program runs on.
    Reply,
    /// Receive the packet on the interface the program runs on: a hairpin.
    Hairpin,
    /// Nothing to say about the packet: other programs on the interface, and then the kernel, go on with it.
    Next,
    /// Send the packet out of this interface.
    Send(u32),
    /// Receive the packet on this interface.
    Receive(u32),
    /// Receive the packet on the other end, in another namespace, of this interface.
    Cross(u32),
    /// Drop the packet and count it.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// Why a packet was dropped. The numbers are stable: they are map keys and metric labels.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl DropReason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable name used in output.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }

            /// The reason with this number, if there is one.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

drop_reasons! {
    /// The interface has no entry in the environments map: it is being taken down, or was never envnet's.
    UnknownInterface = 1, "unknown-interface";
    /// The frame ends inside a header that must be there.
    Truncated = 2, "truncated";
    /// The frame carries a VLAN tag; environments are untagged.
    VlanTagged = 3, "vlan-tagged";
    /// Neither IPv4 nor ARP.
    NotIpv4 = 4, "not-ipv4";
    /// Wrong version, header length or total length (RFC 1812, section 5.2.2).
    MalformedIpv4 = 5, "malformed-ipv4";
    /// Not an Ethernet/IPv4 ARP request or reply (RFC 826).
    MalformedArp = 6, "malformed-arp";
    /// ARP for or from an address that envnet does not map here.
    ArpUnmapped = 7, "arp-unmapped";
    /// The destination is a broadcast or multicast address, which a router does not forward.
    DestinationNotUnicast = 8, "destination-not-unicast";
    /// No mapping for the external destination.
    DestinationUnmapped = 9, "destination-unmapped";
    /// From outside, with a source address that cannot be there: internal, loopback, multicast, broadcast or zero, or the
    /// environment's own external ones (RFC 1812, sections 5.3.7 and 5.3.8).
    SourceMartian = 10, "source-martian";
    /// Leaving with an internal source that has no mapping.
    SourceUnmapped = 11, "source-unmapped";
    /// Leaving with a source that is not internal at all: a guest pretending to be someone else.
    SourceForeign = 12, "source-foreign";
    /// The first fragment is too short to hold the checksum that the translation must correct (RFC 1858).
    TinyFragment = 13, "tiny-fragment";
    /// The packet inside an ICMP error is malformed or too short to hold addresses.
    EmbeddedMalformed = 14, "embedded-malformed";
    /// The packet inside an ICMP error is about an address without mapping (RFC 5508, REQ-4 and REQ-5).
    EmbeddedUnmapped = 15, "embedded-unmapped";
    /// A kernel helper refused; the packet may be half written and must not go on.
    HelperFailed = 16, "helper-failed";
    /// An ICMP redirect, which concerns one link and means nothing behind a router (RFC 5508, REQ-11).
    IcmpRedirect = 17, "icmp-redirect";
    /// A frame for another machine's Ethernet address, seen because the interface is promiscuous or the bridge floods.
    OtherHost = 18, "other-host";
    /// The host's copy of what a guest sent to everybody, or to the bridge itself. The host takes no part in an
    /// environment, whatever its sysctls say.
    HostBound = 19, "host-bound";
    /// From a guest, with an address that is not the one mapped for it.
    SourceSpoofed = 20, "source-spoofed";
    /// From a guest, with an Ethernet address that is configured for another, or that another one uses.
    MacSpoofed = 21, "mac-spoofed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::from_number(reason as u32), Some(reason));
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}

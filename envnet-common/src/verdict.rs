//! The decision about a packet, and the reasons to drop one.

/// The decision about one packet. `envnet-ebpf/src/kernel_code.rs` turns it into a kernel code, for TC and for XDP.
#[must_use = "a verdict that is not returned lets the packet through"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accept the packet as it now is: the kernel continues with it.
    Pass,
    /// No decision: other programs on the interface, and then the kernel, continue with the packet.
    Next,
    /// Send the packet out of the interface that the program runs on.
    RedirectSelf,
    /// Receive the packet on the interface that the program runs on, as in a hairpin.
    RedirectSelfIngress,
    /// Send the packet out of this interface.
    RedirectEgress(u32),
    /// Receive the packet on this interface.
    RedirectIngress(u32),
    /// Receive the packet on the peer of this veth interface, in another namespace.
    RedirectPeer(u32),
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
    /// The interface has no entry in the environments map: it is being removed, or was never envnet's.
    UnknownInterface = 1, "unknown-interface";
    /// The frame ends inside a header that must be there.
    Truncated = 2, "truncated";
    /// The frame carries a VLAN tag, and environments are untagged; or, from a guest, a second one.
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
    /// From outside, with a source address that cannot be outside: internal, loopback, multicast, broadcast or zero, or the
    /// environment's own external ones (RFC 1812, sections 5.3.7 and 5.3.8).
    SourceMartian = 10, "source-martian";
    /// Leaving with an internal source that has no mapping.
    SourceUnmapped = 11, "source-unmapped";
    /// Leaving with a source that is not internal: a guest uses a foreign address.
    SourceForeign = 12, "source-foreign";
    /// The first fragment is too short to hold the checksum that the translation must correct (RFC 1858).
    TinyFragment = 13, "tiny-fragment";
    /// The packet inside an ICMP error is malformed or too short to hold addresses.
    EmbeddedMalformed = 14, "embedded-malformed";
    /// The packet inside an ICMP error is about an address without mapping (RFC 5508, REQ-4 and REQ-5).
    EmbeddedUnmapped = 15, "embedded-unmapped";
    /// A kernel helper failed. The packet may be half written and must not continue.
    HelperFailed = 16, "helper-failed";
    /// An ICMP redirect, which concerns one link and has no meaning behind a router (RFC 5508, REQ-11).
    IcmpRedirect = 17, "icmp-redirect";
    /// A frame for another machine's Ethernet address: the interface is promiscuous, or the bridge floods.
    OtherHost = 18, "other-host";
    /// The host's copy of a broadcast or multicast of a guest, or a guest's frame to the bridge itself. The host takes no
    /// part in an environment, whatever its sysctls say.
    HostBound = 19, "host-bound";
    /// From a guest, with an IP address that is not mapped for it.
    SourceSpoofed = 20, "source-spoofed";
    /// From a guest, with an Ethernet address that is configured for another guest, or that another port uses.
    MacSpoofed = 21, "mac-spoofed";
    /// From a guest, with an unfinished checksum that would be written outside a transport header.
    ChecksumMisplaced = 22, "checksum-misplaced";
    /// From a guest, longer than the MTU of its port.
    TooLong = 23, "too-long";
    /// From or to 169.254/16, which no router forwards (RFC 3927, section 2.6.2).
    LinkLocal = 24, "link-local";
    /// From a guest that has others asked for more addresses than it may.
    RateLimited = 25, "rate-limited";
    /// Between a guest and the host, which `uplink.host = false` forbids.
    HostBarred = 26, "host-barred";
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

//! Which frames a guest may send, whatever becomes of them: the checks that need no map. They come first, on every path.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use crate::{
    Address, DropReason,
    arp::Arp,
    parse::{
        ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet, Fragment, Ipv4, Read,
    },
    sk_buff::Unfinished,
    translate::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP},
};

/// The tag that the kernel has taken out of a frame before a program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// There was none.
    None,
    /// One with VLAN 0, which only gives a priority (IEEE 802.1Q, 9.6): the frame counts as untagged.
    Priority,
    /// One of a VLAN of the guests, which has addresses of its own.
    Vlan,
}

/// Checks a frame and returns the IPv4 address that it gives as its source, in IPv4 or in ARP; `None` when it gives none,
/// or when its sender has none yet.
#[inline(always)]
pub fn source(
    packet: &(impl Read + ?Sized),
    ethernet: &Ethernet,
    tag: Tag,
    unfinished: Option<Unfinished>,
) -> Result<Option<Address>, DropReason> {
    if matches!(ethernet.ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ) {
        // A second tag. Whoever receives the frame takes it off, too, and would see what nobody has checked.
        return Err(DropReason::VlanTagged);
    }
    let ip = match ethernet.ethertype {
        ETHERTYPE_IPV4 => Some(Ipv4::parse(packet)?),
        _ => None,
    };
    if let Some(unfinished) = unfinished {
        checksum_may_be_at(unfinished, ip.as_ref(), ethernet)?;
    }
    if tag == Tag::Vlan {
        return Ok(None);
    }
    let source = match (ip, ethernet.ethertype) {
        (Some(ip), _) => ip.tail.source,
        (None, ETHERTYPE_ARP) => {
            let arp = Arp::parse(packet)?;
            if arp.sender_mac() != ethernet.source {
                return Err(DropReason::MacSpoofed);
            }
            arp.sender()
        }
        _ => return Ok(None),
    };
    // A guest that asks for an address by DHCP (RFC 2131, section 4.1) or probes one (RFC 5227, section 2.1.1) has none yet,
    // and sends a broadcast.
    let has_none = source == Address::UNSPECIFIED && ethernet.destination.is_group();
    Ok((!has_none).then_some(source))
}

/// An unfinished checksum is written after all checks. So it must lie where no check looks: in the transport header of an IP
/// packet, or behind that, where a guest's own tunnel has another one.
#[inline(always)]
fn checksum_may_be_at(unfinished: Unfinished, ip: Option<&Ipv4>, ethernet: &Ethernet) -> Result<(), DropReason> {
    const IPV6_HEADER: usize = 40;
    const TCP_CHECKSUM: usize = offset_of!(TcpHdr, check);
    const UDP_CHECKSUM: usize = offset_of!(UdpHdr, check);
    const UDP_LEN: usize = size_of::<UdpHdr>();
    let Unfinished { start, field } = unfinished;
    let right = match ip {
        Some(ip) => {
            let payload = ip.payload;
            let whole = ip.fragment == Fragment::Whole && start >= payload && field >= start;
            let own = start == payload;
            whole
                && match ip.protocol {
                    PROTOCOL_TCP => own && field == payload + TCP_CHECKSUM,
                    // VXLAN and its like: the outer checksum is finished, the inner one is not.
                    PROTOCOL_UDP => (own && field == payload + UDP_CHECKSUM) || start >= payload + UDP_LEN,
                    // Its quotes are translated, and nobody offloads its checksum.
                    PROTOCOL_ICMP => false,
                    _ => true,
                }
        }
        None => ethernet.ethertype == ETHERTYPE_IPV6 && start >= Ethernet::LEN + IPV6_HEADER && field >= start,
    };
    if right {
        Ok(())
    } else {
        Err(DropReason::ChecksumMisplaced)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use etherparse::PacketBuilder;

    use super::*;

    const GUEST: Address = Address([10, 0, 0, 2]);
    const IPV4: usize = 20;
    const PAYLOAD: usize = Ethernet::LEN + IPV4;

    fn checked(frame: &[u8], tag: Tag, unfinished: Option<Unfinished>) -> Result<Option<Address>, DropReason> {
        let ethernet = Ethernet::parse(frame).expect("a header");
        source(frame, &ethernet, tag, unfinished)
    }

    fn frames() -> [(u8, usize, Vec<u8>); 3] {
        let builder = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(GUEST.0, [10, 0, 0, 3], 64);
        let mut frames = [Vec::new(), Vec::new(), Vec::new()];
        builder().tcp(1, 2, 3, 4).write(&mut frames[0], &[0; 40]).expect("fits");
        builder().udp(1, 2).write(&mut frames[1], &[0; 40]).expect("fits");
        builder()
            .icmpv4_echo_request(1, 2)
            .write(&mut frames[2], &[0; 40])
            .expect("fits");
        let [tcp, udp, icmp] = frames;
        [
            (PROTOCOL_TCP, 16, tcp),
            (PROTOCOL_UDP, 6, udp),
            (PROTOCOL_ICMP, 2, icmp),
        ]
    }

    #[test]
    fn a_checksum_lies_in_a_transport_header() {
        for (protocol, own, frame) in frames() {
            for start in 0..frame.len() {
                for field in 0..frame.len() + 40 {
                    let answer = checked(&frame, Tag::None, Some(Unfinished { start, field }));
                    let transport = start == PAYLOAD && field == PAYLOAD + own && protocol != PROTOCOL_ICMP;
                    let tunnel = protocol == PROTOCOL_UDP && start >= PAYLOAD + 8 && field >= start;
                    let expected = if transport || tunnel {
                        Ok(Some(GUEST))
                    } else {
                        Err(DropReason::ChecksumMisplaced)
                    };
                    assert_eq!(answer, expected, "protocol {protocol}: from {start} to {field}");
                }
            }
        }
    }

    #[test]
    fn a_checksum_is_in_a_whole_ip_packet() {
        let unfinished = Some(Unfinished {
            start: PAYLOAD,
            field: PAYLOAD + 16,
        });
        let [(_, _, mut frame), ..] = frames();
        frame[20] = 0x20;
        let refused = Err(DropReason::ChecksumMisplaced);
        assert_eq!(checked(&frame, Tag::None, unfinished), refused, "a first fragment");
        frame[20] = 0;
        assert_eq!(checked(&frame, Tag::Vlan, unfinished), Ok(None));
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV6);
        assert_eq!(checked(&frame, Tag::None, unfinished), refused, "in an IPv6 header");
        let behind = Some(Unfinished { start: 54, field: 70 });
        assert_eq!(checked(&frame, Tag::None, behind), Ok(None));
        frame[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert_eq!(checked(&frame, Tag::None, behind), refused, "LLDP has none");
    }

    #[test]
    fn no_second_tag() {
        let [(_, _, mut frame), ..] = frames();
        for ethertype in [ETHERTYPE_VLAN, ETHERTYPE_QINQ] {
            frame[12..14].copy_from_slice(&ethertype);
            for tag in [Tag::None, Tag::Priority, Tag::Vlan] {
                assert_eq!(checked(&frame, tag, None), Err(DropReason::VlanTagged));
            }
        }
    }
}

//! Properties of the whole translation, on packets of every shape; etherparse computes what the checksums must be.

use envnet_common::{
    Address, DropReason, Mac,
    apply::apply,
    lookup::{Lookup, Mappings},
    maps::{Environment, Mapping, MappingKey},
    parse::Ipv4,
    translate::{Direction, translate},
};
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, checksum::Sum16BitWords};
use proptest::{prelude::*, sample::Index};

const INTERNAL: Address = Address([10, 0, 0, 7]);
const EXTERNAL: Address = Address([172, 16, 5, 7]);
const ENVIRONMENT: Environment = Environment {
    number: 5,
    internal: Address([10, 0, 0, 0]),
    external: Address([172, 16, 5, 0]),
    mask: Address([255, 255, 255, 0]),
    mac: Mac([2, 0, 0, 0, 0, 5]),
    reserved: [0; 2],
};

struct OneMapping;

impl Mappings for OneMapping {
    fn find(&self, key: MappingKey) -> Option<Mapping> {
        (key == MappingKey {
            environment: 5,
            internal: INTERNAL,
        })
        .then_some(Mapping { external: EXTERNAL })
    }
}

/// Translates a whole frame in place, as a program does.
fn pass(frame: &mut [u8], direction: Direction) -> Result<(), DropReason> {
    let lookup = Lookup {
        environment: &ENVIRONMENT,
        mappings: &OneMapping,
    };
    let ip = Ipv4::parse(frame)?;
    let new = match direction {
        Direction::Inbound => lookup
            .internal(ip.tail.destination)
            .ok_or(DropReason::DestinationUnmapped)?,
        Direction::Outbound => lookup.external(ip.tail.source).ok_or(DropReason::SourceUnmapped)?,
    };
    let rewrite = translate(frame, &ip, direction, new, |internal| lookup.external(internal))?;
    apply(frame, &rewrite)
}

/// A packet to be given addresses.
#[derive(Clone, Debug)]
struct Shape {
    protocol: u8,
    options: Vec<u8>,
    /// Transport header and data; the checksum in it is computed.
    payload: Vec<u8>,
    no_udp_checksum: bool,
    /// Where to cut the payload for a first fragment.
    cut: Option<usize>,
}

/// Offset of the transport checksum, and whether it covers a pseudo header.
fn checksum(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        1 => Some((2, false)),
        6 => Some((16, true)),
        17 | 33 | 136 => Some((6, true)),
        _ => None,
    }
}

impl Shape {
    /// The IPv4 packet with all checksums right.
    fn packet(&self, source: Address, destination: Address) -> Vec<u8> {
        let mut payload = self.payload.clone();
        if let Some((at, pseudo)) = checksum(self.protocol) {
            payload[at..at + 2].fill(0);
            let mut sum = Sum16BitWords::new().add_slice(&payload);
            if pseudo {
                let length = u16::try_from(payload.len()).expect("small").to_be_bytes();
                sum = sum.add_4bytes(source.0).add_4bytes(destination.0);
                sum = sum.add_2bytes([0, self.protocol]).add_2bytes(length);
            }
            let value = match self.protocol {
                17 if self.no_udp_checksum => 0,
                17 | 136 => sum.to_ones_complement_with_no_zero(),
                _ => sum.ones_complement(),
            };
            payload[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        let cut = self.cut.unwrap_or(payload.len()).min(payload.len());
        let mut header = Ipv4Header {
            more_fragments: cut < payload.len(),
            fragment_offset: IpFragOffset::ZERO,
            time_to_live: 64,
            protocol: IpNumber(self.protocol),
            source: source.0,
            destination: destination.0,
            options: Ipv4Options::try_from(self.options.as_slice()).expect("whole words"),
            ..Ipv4Header::default()
        };
        header.set_payload_len(cut).expect("small");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &payload[..cut]].concat()
    }

    fn frame(&self, source: Address, destination: Address) -> Vec<u8> {
        frame(&self.packet(source, destination))
    }

    /// A port-unreachable message that quotes `quoted` bytes of this packet.
    fn error(&self, quoted: usize, source: Address, destination: Address) -> Self {
        let packet = self.packet(source, destination);
        let payload = [&[3, 3, 0, 0, 0, 0, 0, 0], &packet[..quoted.min(packet.len())]].concat();
        Self {
            protocol: 1,
            payload,
            cut: None,
            ..self.clone()
        }
    }
}

fn frame(packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 9, 8, 0], packet].concat()
}

/// Exchanges source and destination, which leaves every checksum right.
fn swap_addresses(frame: &mut [u8]) {
    let (source, destination) = frame[26..34].split_at_mut(4);
    source.swap_with_slice(destination);
}

prop_compose! {
    fn shape()(
        protocol in prop::sample::select(vec![1u8, 6, 17, 33, 136, 132, 47, 50, 99]),
        options in (0usize..=10).prop_map(|words| [1, 1, 1, 1].repeat(words)),
        payload in prop::collection::vec(any::<u8>(), 24..200),
        no_udp_checksum in prop::bool::weighted(0.2),
        cut in prop::option::weighted(0.2, (3usize..10).prop_map(|eights| eights * 8)),
    ) -> Shape {
        let mut shape = Shape { protocol, options, payload, no_udp_checksum, cut };
        if protocol == 1 {
            // Errors are made of other shapes.
            shape.payload[0] = 8;
        }
        shape
    }
}

prop_compose! {
    fn outside()(bytes in any::<[u8; 4]>()) -> Address {
        // Anything but an address that is itself translated.
        Address([bytes[0] % 127, bytes[1] | 1, bytes[2], bytes[3]])
    }
}

proptest! {
    #[test]
    fn inbound_equals_building_anew(shape in shape(), peer in outside()) {
        let mut frame = shape.frame(peer, EXTERNAL);
        prop_assert_eq!(pass(&mut frame, Direction::Inbound), Ok(()));
        prop_assert_eq!(frame, shape.frame(peer, INTERNAL));
    }

    #[test]
    fn outbound_equals_building_anew(shape in shape(), peer in outside()) {
        let mut frame = shape.frame(INTERNAL, peer);
        prop_assert_eq!(pass(&mut frame, Direction::Outbound), Ok(()));
        prop_assert_eq!(frame, shape.frame(EXTERNAL, peer));
    }

    #[test]
    fn out_and_in_again_is_no_change(shape in shape(), peer in outside()) {
        let mut frame = shape.frame(INTERNAL, peer);
        let before = frame.clone();
        prop_assert_eq!(pass(&mut frame, Direction::Outbound), Ok(()));
        swap_addresses(&mut frame);
        prop_assert_eq!(pass(&mut frame, Direction::Inbound), Ok(()));
        swap_addresses(&mut frame);
        prop_assert_eq!(frame, before);
    }

    #[test]
    fn errors_equal_building_anew(shape in shape(), peer in outside(), router in outside(), quoted in 44usize..250) {
        // With the longest header, 20 + 40 bytes, the quote may end before the transport header; it must not end within
        // its checksum, of which only a half could be right.
        let header = 20 + shape.options.len();
        let at = checksum(shape.protocol).map_or(0, |(at, _)| header + at);
        prop_assume!(quoted != at + 1);
        let quoted = quoted.max(20);
        let mut frame = shape.error(quoted, EXTERNAL, peer).frame(router, EXTERNAL);
        prop_assert_eq!(pass(&mut frame, Direction::Inbound), Ok(()));
        prop_assert_eq!(frame, shape.error(quoted, INTERNAL, peer).frame(router, INTERNAL));

        // An error goes to whoever sent what it quotes.
        let mut frame = shape.error(quoted, peer, INTERNAL).frame(INTERNAL, peer);
        prop_assert_eq!(pass(&mut frame, Direction::Outbound), Ok(()));
        prop_assert_eq!(frame, shape.error(quoted, peer, EXTERNAL).frame(EXTERNAL, peer));
    }

    /// What looks like a transport header, or like an ICMP error, is data there.
    #[test]
    fn of_a_later_fragment_only_the_header_changes(shape in shape(), peer in outside(), offset in 1u16..0x2000) {
        let later = |source, destination| {
            let mut frame = shape.error(60, EXTERNAL, INTERNAL).frame(source, destination);
            frame[23] = shape.protocol;
            frame[20..22].copy_from_slice(&offset.to_be_bytes());
            let header = Ipv4Header::from_slice(&frame[14..]).expect("a header").0;
            frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
            frame
        };
        let mut frame = later(peer, EXTERNAL);
        let data = frame[34..].to_vec();
        prop_assert_eq!(pass(&mut frame, Direction::Inbound), Ok(()));
        prop_assert_eq!(&frame[34..], &data);
        prop_assert_eq!(&frame[..34], &later(peer, INTERNAL)[..34]);
    }

    /// Whatever the bytes: nothing panics, a refusal changes nothing, and a translation changes addresses and checksums.
    #[test]
    fn any_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..160),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        shape in shape(),
        built in any::<bool>(),
        error in any::<bool>(),
    ) {
        if built {
            let shape = if error { shape.error(60, EXTERNAL, INTERNAL) } else { shape };
            bytes = shape.frame(INTERNAL, EXTERNAL);
            for (index, value) in flips {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
        }
        for direction in [Direction::Inbound, Direction::Outbound] {
            let mut after = bytes.clone();
            if pass(&mut after, direction).is_err() {
                prop_assert_eq!(&after, &bytes);
                continue;
            }
            let changed = bytes.iter().zip(&after).filter(|(before, after)| before != after).count();
            // Twice header checksum, address and transport checksum, the last one being that of ICMP outside.
            prop_assert!(changed <= 2 * (2 + 4 + 2), "{} bytes changed", changed);
            prop_assert_eq!(after.len(), bytes.len());
            prop_assert_eq!(&after[..24], &bytes[..24]);
        }
    }
}

//! Several packets that belong together, for routers that remember: whole datagrams in fragments, in any order, and
//! errors about a packet that was sent before.

use std::net::Ipv4Addr;

use envnet_model::{Direction, World, sum};
use fastrand::Rng;

use super::{
    Maker,
    packet::{Header, complement},
    put,
};

/// Packets in the order in which they are sent.
pub type Packets = Vec<(Direction, Vec<u8>)>;

/// A whole datagram between a guest and the outside, in fragments.
pub fn fragments(rng: &mut Rng, world: &World) -> (&'static str, Packets) {
    let direction = if rng.bool() { Direction::In } else { Direction::Out };
    let mut maker = Maker { rng, world, direction };
    let (header, payload) = maker.plain(200);
    let cut = maker.rng.usize(3..12) * 8;
    let mut pieces: Vec<_> = payload.chunks(cut).enumerate().collect();
    let last = pieces.len() - 1;
    let in_order = maker.rng.bool();
    if !in_order {
        maker.rng.shuffle(&mut pieces);
    }
    let packets = pieces.into_iter().map(|(at, piece)| {
        let offset = u16::try_from(at * cut / 8).unwrap_or(0);
        let more = if at == last { 0 } else { 0x2000 };
        (direction, plain_packet(&header, offset | more, &[], piece))
    });
    let kind = match (header.protocol, in_order) {
        (33, _) => "fragments of DCCP",
        (136, _) => "fragments of UDP-Lite",
        (_, true) => "fragments in order",
        (_, false) => "fragments out of order",
    };
    (kind, packets.collect())
}

/// A whole packet that asks routers to record their addresses (RFC 791).
pub fn recorded(rng: &mut Rng, world: &World) -> (&'static str, Packets) {
    let direction = if rng.bool() { Direction::In } else { Direction::Out };
    let mut maker = Maker { rng, world, direction };
    let (header, payload) = maker.plain(24);
    let kind = match direction {
        _ if matches!(header.protocol, 33 | 136) => "record route with DCCP or UDP-Lite",
        Direction::In => "record route, in",
        Direction::Out => "record route, out",
    };
    let options = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    (kind, vec![(direction, plain_packet(&header, 0, &options, &payload))])
}

/// A TCP or UDP packet whose sender has left the checksum, and maybe the segmentation, to its device.
pub struct Unfinished {
    /// What it is.
    pub kind: &'static str,
    /// Which way it goes.
    pub direction: Direction,
    /// From the IPv4 header on; the checksum field holds the sum of the pseudo header.
    pub packet: Vec<u8>,
    /// Length of the transport header.
    pub header: u16,
    /// Where in that the checksum is.
    pub field: u16,
    /// Length of the segments to make; zero when it is one packet.
    pub segment: u16,
}

/// A packet as a guest with offloads sends it, to the outside or to a sibling's external address.
pub fn unfinished(rng: &mut Rng, world: &World) -> Unfinished {
    let direction = if rng.bool() { Direction::In } else { Direction::Out };
    let mut maker = Maker { rng, world, direction };
    let (mut header, _) = maker.plain(0);
    if direction == Direction::Out && maker.one_in(4) {
        header.destination = maker.guest().external;
    }
    let (kind, protocol, length, field, segment) = match maker.rng.u8(..3) {
        0 => ("UDP with an unfinished checksum", 17, 8, 6, 0),
        1 => ("TCP with an unfinished checksum", 6, 20, 16, 0),
        _ => ("TCP that is to be split", 6, 20, 16, 1000),
    };
    header.protocol = protocol;
    let data = if segment == 0 {
        maker.rng.usize(..100)
    } else {
        maker.rng.usize(1001..9000)
    };
    let mut payload = maker.bytes(usize::from(length) + data);
    let claimed = u16::try_from(payload.len()).unwrap_or(0);
    if protocol == 17 {
        put(&mut payload, 4, claimed);
    } else {
        // An acknowledgement: connection tracking takes up connections that it has not seen begin.
        payload[12..14].copy_from_slice(&[0x50, 0x10]);
    }
    let pseudo = sum(&header.source.octets()) + sum(&header.destination.octets());
    let pseudo = (pseudo + u64::from(protocol) + u64::from(claimed)) % 0xffff;
    put(&mut payload, field, u16::try_from(pseudo).unwrap_or(0));
    Unfinished {
        kind,
        direction,
        packet: plain_packet(&header, 0, &[], &payload),
        header: length,
        field: u16::try_from(field).unwrap_or(0),
        segment,
    }
}

/// A packet between a guest and the outside, and an error about it, which quotes it as its sender of the error saw it.
pub fn error(rng: &mut Rng, world: &World) -> (&'static str, Packets) {
    let direction = if rng.bool() { Direction::In } else { Direction::Out };
    let mut maker = Maker { rng, world, direction };
    let (header, payload) = maker.plain(24);
    let first = plain_packet(&header, 0, &[], &payload);
    // What the other side sees: the translation as the model has it, one hop on.
    let frame = [&world.router_wan[..], &world.router_wan, &[8, 0], &first].concat();
    let (envnet_model::Verdict::Pass(seen) | envnet_model::Verdict::Redirect(seen)) =
        envnet_model::judge(Some(world), direction, &frame)
    else {
        return ("a packet nobody sees", vec![(direction, first)]);
    };
    let mut seen = seen.bytes[14..].to_vec();
    let back = Ipv4Addr::new(seen[12], seen[13], seen[14], seen[15]);
    let reporter = Ipv4Addr::new(seen[16], seen[17], seen[18], seen[19]);
    let length = maker.pick(&[28, 28, 36, 48, 64, usize::MAX]);
    seen.truncate(length);

    let kind = maker.pick(&[3, 3, 3, 4, 11, 12]);
    let code = if kind == 3 { maker.pick(&[0, 1, 3, 4, 13]) } else { 0 };
    let mut message = [&[kind, code, 0, 0, 0, 0, 5, 0x78][..], &seen].concat();
    let checksum = complement(sum(&message));
    let wrong = maker.one_in(10);
    put(&mut message, 2, if wrong { checksum ^ 0x0101 } else { checksum });
    let (other, label) = match direction {
        Direction::In => (Direction::Out, "error about a packet, out"),
        Direction::Out => (Direction::In, "error about a packet, in"),
    };
    let label = match header.protocol {
        33 => "error about DCCP",
        136 => "error about UDP-Lite",
        _ if wrong => "error with a wrong checksum",
        _ => label,
    };
    let answer = Header {
        source: reporter,
        destination: back,
        protocol: 1,
    };
    (
        label,
        vec![(direction, first), (other, plain_packet(&answer, 0, &[], &message))],
    )
}

impl Maker<'_> {
    /// A header between a guest and the outside, and a payload of a protocol with a right checksum.
    fn plain(&mut self, data: usize) -> (Header, Vec<u8>) {
        let (source, destination) = match self.direction {
            Direction::In => (self.outside(), self.guest().external),
            Direction::Out => (self.guest().internal, self.outside()),
        };
        let protocol = self.pick(&[6, 17, 17, 136, 33, 132, 47, 1]);
        let mut payload = self.bytes(20 + data);
        match protocol {
            // A SYN: what begins a connection.
            6 => payload[12..14].copy_from_slice(&[0x50, 0x02]),
            17 => {
                let length = u16::try_from(payload.len()).unwrap_or(0);
                put(&mut payload, 4, length);
            }
            136 => put(&mut payload, 4, 0),
            // A DCCP request, 48-bit sequence numbers: data offset 5, type 0.
            33 => payload[4..9].copy_from_slice(&[5, 0, 0, 0, 1]),
            // An SCTP INIT chunk of the rest; the tag is zero in an INIT.
            132 => {
                payload[4..8].fill(0);
                payload[12..14].copy_from_slice(&[1, 0]);
                let chunk = u16::try_from(payload.len() - 12).unwrap_or(0);
                put(&mut payload, 14, chunk);
            }
            47 => payload[..4].copy_from_slice(&[0, 0, 8, 0]),
            _ => payload[..2].copy_from_slice(&[8, 0]),
        }
        let checksum = match protocol {
            6 => Some((16, true)),
            17 | 136 | 33 => Some((6, true)),
            1 => Some((2, false)),
            _ => None,
        };
        if let Some((at, pseudo)) = checksum {
            put(&mut payload, at, 0);
            let mut covered = sum(&payload);
            if pseudo {
                covered += sum(&source.octets()) + sum(&destination.octets());
                covered += u64::from(protocol) + payload.len() as u64;
            }
            put(&mut payload, at, complement(covered % 0xffff));
        }
        if protocol == 132 {
            payload[8..12].fill(0);
            let crc = crc32c(&payload);
            payload[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        let header = Header {
            source,
            destination,
            protocol,
        };
        (header, payload)
    }

    /// A guest's mapping: any but the first, which is the router's.
    fn guest(&mut self) -> envnet_model::Mapping {
        let guests: Vec<_> = self.world.own().skip(1).copied().collect();
        self.pick(&guests)
    }
}

/// SCTP's checksum (RFC 9260, appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

fn plain_packet(header: &Header, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = u16::try_from(header_len + payload.len()).unwrap_or(u16::MAX);
    let ihl = u8::try_from(header_len / 4).unwrap_or(15);
    let mut packet = vec![0x40 | ihl, 0, 0, 0, 0, 0, 0, 0, 61, header.protocol, 0, 0];
    packet.extend(header.source.octets());
    packet.extend(header.destination.octets());
    packet.extend(options);
    put(&mut packet, 2, total);
    put(&mut packet, 6, fragment);
    let checksum = complement(sum(&packet));
    put(&mut packet, 10, checksum);
    packet.extend(payload);
    packet
}

//! Packets whose checksum or segmentation is left to a device, as guests send them: `struct virtio_net_hdr` goes before each
//! frame on a packet socket with `PACKET_VNET_HDR`.

use anyhow::Result;
use envnet_lab::socket;
use std::net::UdpSocket;

/// From `linux/if_packet.h` and `linux/socket.h`.
const PACKET_VNET_HDR: i32 = 15;
const SOL_PACKET: i32 = 263;
/// From `linux/virtio_net.h`.
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_OF_TCP: u8 = 1;

/// What is left to a device: flags, kind of segments, length of all headers, length of a segment, where the checksum begins
/// and where in what it covers the field is. All words in the machine's own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offload([u8; Offload::LEN]);

impl Offload {
    pub(super) const LEN: usize = 10;

    /// A transport checksum whose field holds the sum of the pseudo header only; and when `segment` is not zero, TCP data
    /// that are to be cut into pieces of that length.
    pub(super) fn new(ip_header: u16, transport_header: u16, field: u16, segment: u16) -> Self {
        let start = 14 + ip_header;
        let kind = if segment == 0 { 0 } else { SEGMENTS_OF_TCP };
        let mut header = [0; Self::LEN];
        header[..2].copy_from_slice(&[NEEDS_CHECKSUM, kind]);
        let words = [start + transport_header, segment, start, field];
        for (field, word) in header[2..].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        Self(header)
    }

    /// Takes the header off a received frame. Whether a checksum was found right is of no interest here.
    pub(super) fn take(received: &[u8]) -> Option<(Self, &[u8])> {
        let (header, frame) = received.split_first_chunk()?;
        let mut header = *header;
        if header[0] & NEEDS_CHECKSUM == 0 {
            header = [0; Self::LEN];
        }
        Some((Self(header), frame))
    }

    pub(super) fn before(self, frame: &[u8]) -> Vec<u8> {
        [&self.0[..], frame].concat()
    }
}

/// Makes a packet socket say and be told what is left to do.
pub(super) fn enable(socket: &UdpSocket) -> Result<()> {
    socket::set_option(socket, SOL_PACKET, PACKET_VNET_HDR, &1i32)
}

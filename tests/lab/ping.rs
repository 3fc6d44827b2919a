//! ICMP echo from inside a namespace, answered or not, with the time it took.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{interrupt, namespace::Namespace, socket};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Length of the ICMP header.
const HEADER: usize = 8;
/// How often a wait looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// One echo request with `length` bytes of data; the round-trip time, or nothing when no right answer came in `patience`.
pub fn ping(namespace: &Namespace, target: Ipv4Addr, length: usize, patience: Duration) -> Result<Option<Duration>> {
    let request = request(length);
    namespace.run(|| {
        let socket = open()?;
        socket.set_read_timeout(Some(SLICE.min(patience)))?;
        let start = Instant::now();
        socket
            .send_to(&request, (target, 0))
            .with_context(|| format!("echo request to {target} cannot be sent"))?;
        let mut packet = vec![0; 65_536];
        while start.elapsed() < patience {
            interrupt::check()?;
            if let Some(reply) = receive(&socket, target, &mut packet)?
                && is_answer(reply, &request)
            {
                return Ok(Some(start.elapsed()));
            }
        }
        Ok(None)
    })
}

/// A socket in the thread's namespace that receives echo replies only: requests of others would fill its queue.
pub(crate) fn open() -> Result<UdpSocket> {
    // From linux/icmp.h; libc has no name for it.
    const ICMP_FILTER: libc::c_int = 1;
    const BLOCKED: u32 = !(1 << ECHO_REPLY);
    let socket = socket::open(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    socket::set_option(&socket, libc::SOL_RAW, ICMP_FILTER, &BLOCKED)?;
    Ok(socket)
}

/// A new echo request, of whatever nobody else has asked yet.
#[must_use]
pub fn request(length: usize) -> Vec<u8> {
    // An identifier per request tells late answers to earlier ones apart.
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut request = vec![ECHO_REQUEST, 0, 0, 0, high, low, 0, 1];
    request.extend((0..length).map(|index| index.to_le_bytes()[0]));
    let sum = checksum(&request).to_be_bytes();
    request[2..4].copy_from_slice(&sum);
    request
}

/// Whether an ICMP message answers the request.
#[must_use]
pub fn is_answer(reply: &[u8], request: &[u8]) -> bool {
    reply[0] == ECHO_REPLY && reply[4..] == request[4..]
}

/// The ICMP message of the next packet, if one comes and is from `source`.
pub(crate) fn receive<'a>(socket: &UdpSocket, source: Ipv4Addr, packet: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    let length = match socket.recv(packet) {
        Ok(length) => length,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
        Err(error) => return Err(error).context("echo reply cannot be received"),
    };
    // A raw socket receives the IPv4 header, too.
    let header = usize::from(packet[0] & 0x0f) * 4;
    let ours = length >= header + HEADER && packet[12..16] == source.octets();
    Ok(ours.then(|| &packet[header..length]))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

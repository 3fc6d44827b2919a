//! What passes an interface, judged by an independent eye: a packet socket on the far side of the uplink.

use std::{
    mem,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{interrupt, namespace::Namespace, socket};

/// What is kept of a frame: all headers of an ICMP error with the packet inside.
const KEPT: usize = 192;
/// Frames kept; the capture fails rather than to forget one.
const MOST_FRAMES: usize = 200_000;
const RECEIVE_BUFFER: libc::c_int = 64 << 20;
/// Width of the IPv4 fragment offset.
const FRAGMENT_OFFSET_BITS: u32 = 13;
/// A pause as the capture means it.
const SLICE: Duration = Duration::from_millis(20);
/// How long traffic may go on while the frames are wanted.
const PATIENCE: Duration = Duration::from_secs(10);

/// One captured frame, cut off after its headers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Whether the namespace sent it; otherwise it came in from the other side of the cable.
    pub outgoing: bool,
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// A running capture of everything an interface sends and receives; ends when dropped.
#[derive(Debug)]
pub struct Capture {
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    frames: Mutex<Vec<Frame>>,
    /// How often the thread found nothing to receive.
    pauses: AtomicU64,
    stop: AtomicBool,
}

impl Capture {
    /// Starts to capture on `interface` of the namespace.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = Arc::new(namespace.run(|| open(interface))?);
        let shared = Arc::new(Shared::default());
        let (source, sink) = (Arc::clone(&socket), Arc::clone(&shared));
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(move || {
            while !sink.stop.load(Ordering::Relaxed) {
                receive(&source, &sink);
            }
        })?;
        Ok(Self {
            socket,
            shared,
            thread: Some(thread),
        })
    }

    /// The frames so far. Fails when the kernel or this capture had to drop one, because then nothing can be said.
    pub fn frames(&self) -> Result<Vec<Frame>> {
        // The pause that is under way may have begun before the last frame came; the next one has not.
        let wanted = self.shared.pauses.load(Ordering::Relaxed) + 2;
        interrupt::wait_for("a pause on the uplink", PATIENCE, || {
            Ok((self.shared.pauses.load(Ordering::Relaxed) >= wanted).then_some(()))
        })?;
        self.check_complete()?;
        let frames = self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner);
        ensure_room(&frames)?;
        Ok(frames.clone())
    }

    /// How many frames passed so far in either direction, IPv6 left out: any interface speaks it unasked.
    pub fn count(&self) -> Result<usize> {
        Ok(self
            .frames()?
            .iter()
            .filter(|frame| frame.bytes.get(12..14) != Some(&[0x86, 0xdd]))
            .count())
    }

    /// Fails when a frame came in that shows an address of the internal prefix, in whatever header, or that is neither
    /// ARP nor IPv4. From the Ethernet address `own` only the latter is accepted. Returns how many frames were looked at.
    pub fn check_no_leak(&self, internal: Ipv4Addr, prefix: u8, own: &str) -> Result<usize> {
        judge(&self.frames()?, internal, prefix, own)
    }

    /// The same about the frames so far, which are then forgotten. For traffic that never pauses: what is on its way now is
    /// looked at the next time.
    pub fn check_no_leak_so_far(&self, internal: Ipv4Addr, prefix: u8, own: &str) -> Result<usize> {
        self.check_complete()?;
        let mut kept = self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner);
        ensure_room(&kept)?;
        let frames = mem::take(&mut *kept);
        drop(kept);
        judge(&frames, internal, prefix, own)
    }

    /// Fails when the kernel had to drop a frame.
    fn check_complete(&self) -> Result<()> {
        // SAFETY: the structure is made of numbers.
        let statistics: libc::tpacket_stats =
            unsafe { socket::option(&*self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS) }?;
        ensure!(
            statistics.tp_drops == 0,
            "the capture lost {} frames",
            statistics.tp_drops
        );
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn open(interface: &str) -> Result<UdpSocket> {
    let socket = socket::frames(interface)?;
    socket.set_read_timeout(Some(SLICE))?;
    socket::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)?;
    Ok(socket)
}

/// Takes one frame from the socket, or finds after a while that there is none.
fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut bytes = [0; KEPT];
    let Ok((length, address)) = socket::receive_frame(socket, &mut bytes) else {
        shared.pauses.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let mut frames = shared.frames.lock().unwrap_or_else(PoisonError::into_inner);
    if frames.len() < MOST_FRAMES {
        let outgoing = address.sll_pkttype == libc::PACKET_OUTGOING;
        frames.push(Frame {
            outgoing,
            bytes: bytes[..length].to_vec(),
        });
    }
}

fn ensure_room(frames: &[Frame]) -> Result<()> {
    ensure!(
        frames.len() < MOST_FRAMES,
        "the capture is full: more than {MOST_FRAMES} frames"
    );
    Ok(())
}

/// Whether all frames that came in are what may leave an uplink; how many there are.
fn judge(frames: &[Frame], internal: Ipv4Addr, prefix: u8, own: &str) -> Result<usize> {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let inside = |octets: &[u8]| {
        <[u8; 4]>::try_from(octets).is_ok_and(|octets| (u32::from_be_bytes(octets) ^ internal.to_bits()) & mask == 0)
    };
    let mut count = 0;
    for Frame { bytes, .. } in frames.iter().filter(|frame| !frame.outgoing) {
        count += 1;
        match addresses(bytes) {
            Some(addresses) => ensure!(!addresses.into_iter().any(inside), "this left the uplink: {bytes:02x?}"),
            None => ensure!(
                source_is(bytes, own),
                "not IPv4 or ARP, but it left the uplink: {bytes:02x?}"
            ),
        }
    }
    Ok(count)
}

fn source_is(frame: &[u8], mac: &str) -> bool {
    frame
        .get(6..12)
        .is_some_and(|source| source.iter().map(|byte| format!("{byte:02x}")).eq(mac.split(':')))
}

/// The IPv4 addresses that a frame shows: of its ARP or IPv4 header and of the packet inside an ICMP error. None when it
/// is something else or too short.
fn addresses(frame: &[u8]) -> Option<Vec<&[u8]>> {
    match frame.get(12..14)? {
        [0x08, 0x06] => Some(vec![frame.get(28..32)?, frame.get(38..42)?]),
        [0x08, 0x00] => ipv4_addresses(frame.get(14..)?),
        _ => None,
    }
}

fn ipv4_addresses(packet: &[u8]) -> Option<Vec<&[u8]>> {
    let mut addresses = vec![packet.get(12..16)?, packet.get(16..20)?];
    let payload = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
    let first_fragment = u16::from_be_bytes([packet[6], packet[7]]).trailing_zeros() >= FRAGMENT_OFFSET_BITS;
    // RFC 792: destination unreachable, source quench, redirect, time exceeded and parameter problem carry a packet.
    if packet[9] == 1 && first_fragment && matches!(payload.first()?, 3 | 4 | 5 | 11 | 12) {
        addresses.extend(ipv4_addresses(payload.get(8..)?)?);
    }
    Some(addresses)
}

//! A guest at its tap, as far as a benchmark needs one: a thread that reads every frame, counts the generator's, and
//! answers ARP and echo requests, because routers ask again and again whether a neighbour is still there.

use std::{
    fs::File,
    hint,
    io::{ErrorKind, Read, Write},
    net::Ipv4Addr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use envnet_lab::{
    interrupt,
    namespace::Namespace,
    tap::{self, LARGEST_READ, Offload},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::processor::{self, Processor};

/// A tap's frames begin with a header for offloads (`virtio_net_hdr`).
const PREFIX: usize = 10;

/// When no frame has been counted for so long, no more comes.
const QUIET: Duration = Duration::from_millis(10);
/// How long it may take to hear that it is to hold, and to read a first frame.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the reader saw.
#[derive(Debug)]
struct Seen {
    started: Instant,
    frames: AtomicU64,
    /// Nanoseconds after the start when the first and the last of a burst came.
    first: AtomicU64,
    last: AtomicU64,
    /// Whether the next frame is the first.
    begins: AtomicBool,
    /// Whether it is to leave frames in the queue, and whether it does.
    hold: AtomicBool,
    holds: AtomicBool,
    stop: AtomicBool,
}

/// The running guest; gone when dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens the tap and starts to read, on the processor that the generator leaves free.
    pub(crate) fn start(
        host: &Namespace,
        tap: &str,
        mac: [u8; 6],
        address: Ipv4Addr,
        router: Ipv4Addr,
    ) -> Result<Self> {
        let file = tap::open(host, tap, Offload::None)?;
        let seen = Arc::new(Seen {
            started: Instant::now(),
            frames: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            begins: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&seen);
        let guest = Endpoint { mac, address };
        let thread = thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || {
                processor::pin(Processor::Reader);
                read_all(&file, &guest, router, &shared);
            })
            .context("a thread for the reader")?;
        Ok(Self {
            seen,
            thread: Some(thread),
        })
    }

    /// A burst is about to begin; returns the frames counted so far.
    pub(crate) fn begin(&self) -> u64 {
        self.seen.begins.store(true, Ordering::Release);
        self.seen.frames.load(Ordering::Acquire)
    }

    /// Makes it leave frames in the queue, after the next one that comes, until the value returned is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.seen.holds.store(false, Ordering::Release);
        self.seen.hold.store(true, Ordering::Release);
        Held(&self.seen)
    }

    /// How many frames have come since there were `before`, once that many have or no more comes.
    pub(crate) fn drained(&self, before: u64, most: u32) -> Result<u64> {
        let (mut last, mut since) = (before, Instant::now());
        // A busy machine may let it wait before it reads the first.
        let is_waiting = |last, since: Instant| since.elapsed() < if last == before { PATIENCE } else { QUIET };
        while last < before + u64::from(most) && is_waiting(last, since) {
            interrupt::sleep(Duration::from_micros(500))?;
            let now = self.seen.frames.load(Ordering::Acquire);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last - before)
    }

    /// How long the burst took from its first to its last frame.
    pub(crate) fn duration(&self) -> Duration {
        let [first, last] = [&self.seen.first, &self.seen.last].map(|value| value.load(Ordering::Acquire));
        Duration::from_nanos(last.saturating_sub(first))
    }
}

/// A reader that does not read.
#[derive(Debug)]
pub(crate) struct Held<'r>(&'r Seen);

impl Held<'_> {
    /// Until it does not, with its count up to date.
    pub(crate) fn wait(&self) -> Result<()> {
        interrupt::wait_for("the guest at the tap", PATIENCE, || {
            Ok(self.0.holds.load(Ordering::Acquire).then_some(()))
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.hold.store(false, Ordering::Release);
    }
}

impl Seen {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Only between bursts: a shared counter for each frame would cost what is measured.
    fn publish(&self, frames: u64) {
        if frames != self.frames.load(Ordering::Relaxed) {
            self.last.store(self.now(), Ordering::Release);
            self.frames.store(frames, Ordering::Release);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

/// The guest's addresses.
struct Endpoint {
    mac: [u8; 6],
    address: Ipv4Addr,
}

fn read_all(mut tap: &File, guest: &Endpoint, router: Ipv4Addr, seen: &Seen) {
    let mut buffer = vec![0; LARGEST_READ];
    let mut frames = 0;
    let mut announced = false;
    while !seen.stop.load(Ordering::Relaxed) {
        // Until somebody hears it: a bridge forwards only a while after a tap is opened.
        if !announced {
            let _ = tap.write(&guest.ask(router));
        }
        match tap.read(&mut buffer) {
            Ok(length) => {
                let frame = &mut buffer[..length];
                if is_generated(frame) {
                    frames += 1;
                    if seen.begins.load(Ordering::Relaxed) {
                        seen.begins.store(false, Ordering::Relaxed);
                        seen.first.store(seen.now(), Ordering::Release);
                    }
                } else if let Some(answer) = guest.answer(frame) {
                    announced = true;
                    let _ = tap.write(answer);
                } else if is_arp(frame) {
                    announced = true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                seen.publish(frames);
                while seen.hold.load(Ordering::Acquire) && !seen.stop.load(Ordering::Relaxed) {
                    seen.holds.store(true, Ordering::Release);
                    // Awake, but off the queue: whoever fills it would have to wake a sleeper up.
                    hint::spin_loop();
                }
                let mut ends = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
                // 50 ms, so that it stops in time.
                let _ = poll(&mut ends, PollTimeout::from(50_u8));
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// UDP to one of the generator's ports.
fn is_generated(frame: &[u8]) -> bool {
    frame.len() >= PREFIX + 42
        && frame[PREFIX + 12..PREFIX + 14] == [0x08, 0x00]
        && frame[PREFIX + 23] == 17
        && (9..25).contains(&u16::from_be_bytes([frame[PREFIX + 36], frame[PREFIX + 37]]))
}

fn is_arp(frame: &[u8]) -> bool {
    frame.len() >= PREFIX + 42 && frame[PREFIX + 12..PREFIX + 14] == [0x08, 0x06]
}

impl Endpoint {
    /// An ARP request for the router, by which everybody learns of the guest.
    fn ask(&self, router: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0; PREFIX];
        frame.extend([0xff; 6]);
        frame.extend(self.mac);
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(self.mac);
        frame.extend(self.address.octets());
        frame.extend([0; 6]);
        frame.extend(router.octets());
        frame
    }

    /// Turns a request into its answer, if it is an ARP request for this guest or an echo request to it.
    fn answer<'a>(&self, frame: &'a mut [u8]) -> Option<&'a [u8]> {
        let address = self.address.octets();
        if is_arp(frame) {
            let arp = &mut frame[PREFIX + 14..PREFIX + 42];
            if arp[6..8] != [0, 1] || arp[24..28] != address {
                return None;
            }
            arp[7] = 2;
            arp.copy_within(8..18, 18);
            arp[8..14].copy_from_slice(&self.mac);
            arp[14..18].copy_from_slice(&address);
        } else {
            let ip = frame.get_mut(PREFIX + 14..).filter(|ip| ip.len() >= 28)?;
            if ip[0] != 0x45 || ip[9] != 1 || ip[16..20] != address || ip[20] != 8 {
                return None;
            }
            let (source, destination) = ip[12..20].split_at_mut(4);
            source.swap_with_slice(destination);
            // A reply is the request with another type; the checksum changes by the difference.
            ip[20] = 0;
            let sum = u32::from(u16::from_be_bytes([ip[22], ip[23]])) + 0x0800;
            let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
            ip[22..24].copy_from_slice(&sum.to_be_bytes());
        }
        frame[..PREFIX].fill(0);
        let ethernet = &mut frame[PREFIX..PREFIX + 12];
        ethernet.copy_within(6..12, 0);
        ethernet[6..12].copy_from_slice(&self.mac);
        Some(frame)
    }
}

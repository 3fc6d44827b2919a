//! Datagrams in one direction, to a receiver that never answers.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{interrupt, namespace::Namespace};

const SLICE: Duration = Duration::from_millis(5);
/// How long the last datagrams may be on their way.
const GRACE: Duration = Duration::from_millis(200);
const DATA: [u8; 64] = [0x5a; 64];

/// A stream that flows until it is dropped or ended.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    stop_sending: AtomicBool,
    stop: AtomicBool,
}

impl Stream {
    /// Starts to send a datagram every `interval` to `target`, which is the receiver's address.
    pub fn start(sender: &Namespace, receiver: &Namespace, target: Ipv4Addr, interval: Duration) -> Result<Self> {
        let open = || -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(SLICE))?;
            Ok(socket)
        };
        let (from, to) = (sender.run(open)?, receiver.run(open)?);
        let port = to.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let mut stream = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        let counted = Arc::clone(&shared);
        stream.spawn("receiver", move || receive(&to, &counted))?;
        stream.spawn("sender", move || send(&from, target, port, interval, &shared))?;
        Ok(stream)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads
            .push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        Ok(())
    }

    /// Datagrams received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Stops; how many datagrams were sent and received.
    pub fn end(self) -> Result<(u64, u64)> {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        interrupt::sleep(GRACE)?;
        Ok((self.shared.sent.load(Ordering::Relaxed), self.received()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn send(socket: &UdpSocket, target: Ipv4Addr, port: u16, interval: Duration, shared: &Shared) {
    let mut next = Instant::now();
    while !shared.stop_sending.load(Ordering::Relaxed) {
        // An ICMP error about an earlier datagram is reported here, once.
        if socket.send_to(&DATA, (target, port)).is_ok() {
            shared.sent.fetch_add(1, Ordering::Relaxed);
        }
        next += interval;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 2048];
    while !shared.stop.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            shared.received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

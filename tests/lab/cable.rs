//! A virtual cable: copies frames between two taps, one the network's and one the guest's.
//!
//! The network's end is what a hypervisor would hold open: while no cable is plugged in, the kernel reports no carrier on
//! the tap, just as when the guest is off.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::tap::LARGEST_READ;

/// Frames copied before the other direction has its turn.
const BATCH: usize = 64;

/// What a cable carried.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Frames towards the guest.
    pub to_guest: AtomicU64,
    /// Frames from the guest.
    pub from_guest: AtomicU64,
    /// Frames lost because an end did not take them: its interface is down or its queue full.
    pub lost: AtomicU64,
}

/// Two connected taps; unplugged when dropped.
#[derive(Debug)]
pub struct Cable {
    traffic: Arc<Traffic>,
    ends: Arc<[File; 2]>,
    /// Closed to stop the thread.
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Plugs the cable into both taps, which must not block.
    pub fn plug(network: File, guest: File) -> Result<Self> {
        let traffic = Arc::new(Traffic::default());
        let (stopped, stop) = std::io::pipe().context("a pipe to stop the cable with")?;
        let counters = Arc::clone(&traffic);
        let ends = Arc::new([network, guest]);
        let carried = Arc::clone(&ends);
        let thread = thread::Builder::new()
            .name("cable".to_owned())
            .spawn(move || carry(&carried, &stopped, &counters))
            .context("a thread for the cable")?;
        Ok(Self {
            traffic,
            ends,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Whether an end is gone: its tap was deleted. The thread that carries the frames may not have noticed yet.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let mut ends = self
            .ends
            .each_ref()
            .map(|end| PollFd::new(end.as_fd(), PollFlags::empty()));
        // An error is reported without being asked for.
        poll(&mut ends, PollTimeout::ZERO).is_ok() && ends.iter().any(is_gone)
    }

    /// What the cable carried so far.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

/// A deleted tap reports an error for ever.
fn is_gone(end: &PollFd<'_>) -> bool {
    let events = end.revents().unwrap_or(PollFlags::empty());
    events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL)
}

fn carry([network, guest]: &[File; 2], stopped: &std::io::PipeReader, traffic: &Traffic) {
    let mut buffer = vec![0; LARGEST_READ];
    loop {
        let mut ends = [network.as_fd(), guest.as_fd(), stopped.as_fd()].map(|end| PollFd::new(end, PollFlags::POLLIN));
        if poll(&mut ends, PollTimeout::NONE).is_err() {
            continue;
        }
        let [network_end, guest_end, stop] = &ends;
        if is_gone(network_end) || is_gone(guest_end) || stop.any() != Some(false) {
            return;
        }
        copy(network, guest, &mut buffer, &traffic.to_guest, &traffic.lost);
        copy(guest, network, &mut buffer, &traffic.from_guest, &traffic.lost);
    }
}

fn copy(mut from: &File, mut to: &File, buffer: &mut [u8], copied: &AtomicU64, lost: &AtomicU64) {
    for _ in 0..BATCH {
        let length = match from.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        // A tap takes a whole frame or none.
        match to.write_all(&buffer[..length]) {
            Ok(()) => copied.fetch_add(1, Ordering::Relaxed),
            Err(_) => lost.fetch_add(1, Ordering::Relaxed),
        };
    }
}

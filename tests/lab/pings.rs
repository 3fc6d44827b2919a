//! Echo requests without pause, to see when they are answered and when not.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{namespace::Namespace, ping};

/// How long answers to the last requests are waited for.
const GRACE: Duration = Duration::from_millis(100);
/// How often the socket is looked at between two requests.
const SLICE: Duration = Duration::from_millis(1);
const DATA: usize = 56;

/// Echo requests that go on until [`Pings::end`].
#[derive(Debug)]
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Course>>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// When each request was sent.
    pub sent: Vec<Instant>,
    /// When each answer came, in the order in which they came.
    pub answered: Vec<Instant>,
    end: Option<Instant>,
}

impl Pings {
    /// Starts to ping `target` from the namespace, every `interval`.
    pub fn start(namespace: &Namespace, target: Ipv4Addr, interval: Duration) -> Result<Self> {
        let socket = namespace.run(ping::open)?;
        socket.set_read_timeout(Some(SLICE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("pings".to_owned())
            .spawn(move || run(&socket, target, interval, &stopped))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops, and says how it went.
    pub fn end(mut self) -> Result<Course> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the pings have ended")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

impl Course {
    /// The longest time without an answer, beginning at `since`.
    #[must_use]
    pub fn silence(&self, since: Instant) -> Duration {
        let mut last = since;
        let mut longest = Duration::ZERO;
        for moment in self.answered.iter().chain(&self.end).filter(|moment| **moment > since) {
            longest = longest.max(moment.duration_since(last));
            last = *moment;
        }
        longest
    }

    /// How many requests were not answered.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.sent.len().saturating_sub(self.answered.len())
    }
}

fn run(socket: &UdpSocket, target: Ipv4Addr, interval: Duration, stop: &AtomicBool) -> Result<Course> {
    let request = ping::request(DATA);
    let mut course = Course::default();
    let mut packet = vec![0; 65_536];
    let mut listen = |course: &mut Course| -> Result<()> {
        if let Some(reply) = ping::receive(socket, target, &mut packet)?
            && ping::is_answer(reply, &request)
        {
            course.answered.push(Instant::now());
        }
        Ok(())
    };
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            course.sent.push(Instant::now());
            // Without a route, as while its interface is down, a request is as good as lost.
            drop(socket.send_to(&request, (target, 0)));
            // What a busy machine has missed is not made up for: a burst would be another test.
            next = Instant::now() + interval;
        }
        listen(&mut course)?;
    }
    course.end = Some(Instant::now());
    let end = Instant::now() + GRACE;
    while Instant::now() < end && course.lost() > 0 {
        listen(&mut course)?;
    }
    Ok(course)
}

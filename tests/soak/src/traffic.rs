//! Requests on every way there is, all the time, and their answers, from one thread; each request that is not answered is
//! known.
//!
//! They are datagrams over UDP, answered from here. The kernel's own answers to pings all share one socket per processor: as
//! soon as some 150 of them wait for a neighbour anywhere on the machine, in whichever namespace, no others are given.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::model::Seat;
use envnet_lab::{interrupt, namespace::Namespace};

/// How often the thread looks at its sockets, and how often it sends on a busy way.
const TICK: Duration = Duration::from_millis(4);
/// Requests on an ordinary way: one in that many ticks.
const SELDOM: u64 = 10;
/// A request that is not answered after this time is lost. Far longer than any answer takes, because the machine may be
/// busy with other things.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the first answer on a way may take.
const FIRST_ANSWER: Duration = Duration::from_secs(8);
/// A request and its answer: the number, and something more.
const LENGTH: usize = 64;

/// One way through the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The guest that asks; otherwise the outside does.
    pub(crate) from: Option<Seat>,
    pub(crate) target: Ipv4Addr,
    /// The guest that answers; otherwise the outside does.
    pub(crate) to: Option<Seat>,
    /// Whether there are many requests.
    pub(crate) busy: bool,
}

impl Way {
    /// The guests that it needs.
    pub(crate) fn seats(&self) -> impl Iterator<Item = Seat> {
        self.from.into_iter().chain(self.to)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(seat) => write!(formatter, "{} → {}", seat.tap(), self.target),
            None => write!(formatter, "outside → {}", self.target),
        }
    }
}

/// Requests that were not answered.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    way: Way,
    requests: usize,
    /// When the traffic on this way began.
    began: Instant,
    first: Instant,
    last: Instant,
}

impl Loss {
    /// In words, with times since that moment.
    pub(crate) fn since(&self, moment: Instant) -> String {
        let time = |time: Instant| {
            let before = moment.saturating_duration_since(time).as_millis();
            match time.saturating_duration_since(moment).as_millis() {
                0 if before > 0 => format!("{before} ms before"),
                after => format!("{after} ms after"),
            }
        };
        let (began, first, last) = (time(self.began), time(self.first), time(self.last));
        format!(
            "{} on {} (from {first} to {last} the step's begin; the traffic began {began})",
            self.requests, self.way
        )
    }
}

/// What was sent and answered on all ways.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

/// The running traffic; ends when dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    flows: Mutex<(Vec<Flow>, Count)>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Flow {
    way: Way,
    /// The ends of those who ask and who answer.
    asks: UdpSocket,
    answers: UdpSocket,
    began: Instant,
    /// Whether there was an answer since this way was last allowed to lose something. Requests before that do not count:
    /// whoever asks has to learn where the other is.
    works: bool,
    /// The number of the next request.
    next: u64,
    /// The numbers of requests without an answer, the oldest first.
    open: VecDeque<(u64, Instant)>,
}

impl Flow {
    fn new(way: Way, from: &Namespace, to: &Namespace) -> Result<Self> {
        let open = || -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let (asks, answers) = (from.run(open)?, to.run(open)?);
        // The kernel then takes answers from there only.
        asks.connect((way.target, answers.local_addr()?.port()))?;
        Ok(Self {
            way,
            asks,
            answers,
            began: Instant::now(),
            works: false,
            next: 0,
            open: VecDeque::new(),
        })
    }

    /// Answers the requests that have come.
    fn answer(&self) {
        let mut request = [0; LENGTH];
        while let Ok((length, from)) = self.answers.recv_from(&mut request) {
            drop(self.answers.send_to(&request[..length], from));
        }
    }

    /// Takes the answers that have come, and says how many there were.
    fn listen(&mut self) -> u64 {
        let mut answer = [0; LENGTH];
        let mut count = 0;
        // An error is about an earlier request, or about an interface that is gone: as good as lost.
        while self.asks.recv(&mut answer).is_ok() {
            let number = answer.first_chunk().copied().map(u64::from_be_bytes);
            if let Some(index) = self.open.iter().position(|(open, _)| Some(*open) == number) {
                self.open.remove(index);
                count += 1;
                if !self.works {
                    self.works = true;
                    self.open.clear();
                }
            }
        }
        count
    }

    fn ask(&mut self) {
        let mut request = [0x5a; LENGTH];
        request[..size_of::<u64>()].copy_from_slice(&self.next.to_be_bytes());
        drop(self.asks.send(&request));
        self.open.push_back((self.next, Instant::now()));
        self.next += 1;
    }

    /// Begins anew, as if there had been nothing on this way.
    fn restart(&mut self) {
        self.began = Instant::now();
        self.works = false;
        self.open.clear();
    }
}

impl Traffic {
    pub(crate) fn start() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || run(&of_thread))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Goes on with these ways only; `namespace` says where a guest is, or the outside. Waits until there was an answer on
    /// each, and says how long that took.
    pub(crate) fn keep<'a>(
        &self,
        ways: Vec<Way>,
        namespace: impl Fn(Option<Seat>) -> Result<&'a Namespace>,
    ) -> Result<Duration> {
        self.flows().0.retain(|flow| ways.contains(&flow.way));
        for way in ways {
            if self.flows().0.iter().any(|flow| flow.way == way) {
                continue;
            }
            let flow =
                Flow::new(way.clone(), namespace(way.from)?, namespace(way.to)?).with_context(|| way.to_string())?;
            self.flows().0.push(flow);
        }
        let start = Instant::now();
        loop {
            let silent: Vec<_> = self
                .flows()
                .0
                .iter()
                .filter(|flow| !flow.works)
                .map(|flow| flow.way.to_string())
                .collect();
            if silent.is_empty() {
                return Ok(start.elapsed());
            }
            ensure!(
                start.elapsed() < FIRST_ANSWER,
                "no answer within {} s: {}",
                FIRST_ANSWER.as_secs(),
                silent.join(", ")
            );
            interrupt::sleep(TICK)?;
        }
    }

    /// Ends the ways that need a guest, whose namespace they would keep.
    pub(crate) fn forget(&self, seat: Seat) {
        self.flows()
            .0
            .retain(|flow| flow.way.seats().all(|other| other != seat));
    }

    /// Waits for the answers to all requests so far on the ways that count, and says what is lost on each. The next
    /// question is about later requests. All other ways have to show again that they work.
    pub(crate) fn losses(&self, counts: impl Fn(&Way) -> bool) -> Result<Vec<Loss>> {
        let now = Instant::now();
        let asked = |flow: &Flow| flow.open.iter().take_while(|(_, sent)| *sent <= now).count();
        while now.elapsed() < PATIENCE && self.flows().0.iter().any(|flow| counts(&flow.way) && asked(flow) > 0) {
            interrupt::sleep(TICK)?;
        }
        let mut losses = Vec::new();
        for flow in &mut self.flows().0 {
            if !counts(&flow.way) {
                flow.restart();
                continue;
            }
            let lost: Vec<_> = flow.open.drain(..asked(flow)).map(|(_, sent)| sent).collect();
            if let [first, .., last] | [first @ last] = lost[..] {
                losses.push(Loss {
                    way: flow.way.clone(),
                    requests: lost.len(),
                    began: flow.began,
                    first,
                    last,
                });
            }
        }
        Ok(losses)
    }

    /// Everything so far.
    pub(crate) fn count(&self) -> Count {
        self.flows().1
    }

    fn flows(&self) -> MutexGuard<'_, (Vec<Flow>, Count)> {
        self.shared.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn run(shared: &Shared) {
    let mut tick = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut guard = shared.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let (flows, count) = &mut *guard;
        for flow in flows {
            flow.answer();
            count.answered += flow.listen();
            if flow.way.busy || tick % SELDOM == 0 {
                flow.ask();
                count.sent += 1;
            }
        }
        drop(guard);
        tick += 1;
        thread::sleep(TICK);
    }
}

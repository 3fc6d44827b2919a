//! Datagrams with sequence numbers, some thousand a second: which were lost, which came twice.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration, Lab, addresses, addresses::ROLES, fixture::attached_with, guest::Guest, interrupt,
    namespace::Namespace, socket,
};

/// How often a datagram is sent.
const BEAT: Duration = Duration::from_millis(1);
/// How long the last datagrams may be on their way.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a receiver without anything to receive looks whether it is to end.
const SLICE: Duration = Duration::from_millis(5);
const RECEIVE_BUFFER: libc::c_int = 16 << 20;

/// A stream of datagrams that flows until it is dropped.
pub(crate) struct Flood {
    name: &'static str,
    shared: Arc<Shared>,
    checked: Cell<Checked>,
    threads: Vec<JoinHandle<()>>,
}

/// Up to where it was looked at what became of the datagrams.
#[derive(Clone, Copy, Default)]
struct Checked {
    sent: usize,
    twice: usize,
}

#[derive(Default)]
struct Shared {
    sent: AtomicUsize,
    /// How often each number was received.
    received: Mutex<Vec<u8>>,
    stop_sending: AtomicBool,
    stop: AtomicBool,
}

impl Flood {
    /// Starts to send to `target`, which is the receiver's address.
    pub(crate) fn start(name: &'static str, from: &Namespace, to: &Namespace, target: Ipv4Addr) -> Result<Self> {
        let open = || -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(SLICE))?;
            socket::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)?;
            Ok(socket)
        };
        let (sender, receiver) = (from.run(open)?, to.run(open)?);
        let port = receiver.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let (counted, own) = (Arc::clone(&shared), Arc::clone(&shared));
        let spawn = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.to_owned()).spawn(work);
        Ok(Self {
            name,
            threads: vec![
                spawn(Box::new(move || receive(&receiver, &counted)))?,
                spawn(Box::new(move || send(&sender, (target, port), &own)))?,
            ],
            checked: Cell::default(),
            shared,
        })
    }

    /// Fails if one of the datagrams sent since the last time does not arrive, or one has arrived more than once since then.
    pub(crate) fn check(&self) -> Result<()> {
        let sent = self.shared.sent.load(Ordering::Acquire);
        ensure!(sent > 0, "{}: nothing was sent", self.name);
        let before = self.checked.get();
        let waited = interrupt::wait_for("the datagrams on their way", PATIENCE, || {
            Ok(self.missing(before.sent, sent).is_empty().then_some(()))
        });
        let missing = self.missing(before.sent, sent);
        let twice = self.twice();
        self.checked.set(Checked { sent, twice });
        let twice = twice - before.twice;
        ensure!(
            waited.is_ok() && twice == 0,
            "{}: of datagrams {} to {sent} {} were lost ({:?} to {:?}), and {twice} came more than once",
            self.name,
            before.sent,
            missing.len(),
            missing.first(),
            missing.last()
        );
        Ok(())
    }

    /// Forgives everything so far.
    fn forgive(&self) {
        let sent = self.shared.sent.load(Ordering::Acquire);
        let twice = self.twice();
        self.checked.set(Checked { sent, twice });
    }

    /// The datagrams of these that have not been received.
    fn missing(&self, first: usize, end: usize) -> Vec<usize> {
        let received = self.received();
        let is_missing = |number: &usize| received.get(*number).is_none_or(|times| *times == 0);
        (first..end).filter(is_missing).collect()
    }

    /// How many datagrams have been received more than once.
    fn twice(&self) -> usize {
        self.received().iter().filter(|times| **times > 1).count()
    }

    /// Stops sending.
    pub(crate) fn stop(&self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        // Until what was begun is counted.
        thread::sleep(10 * BEAT);
    }

    /// How many datagrams have been sent.
    fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Acquire) as u64
    }

    /// How many different datagrams have been received.
    pub(crate) fn count(&self) -> usize {
        self.received().iter().filter(|times| **times > 0).count()
    }

    fn received(&self) -> MutexGuard<'_, Vec<u8>> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in the thread has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

fn send(socket: &UdpSocket, target: (Ipv4Addr, u16), shared: &Shared) {
    let mut next = Instant::now();
    let mut number = 0_usize;
    while !shared.stop_sending.load(Ordering::Relaxed) {
        // What cannot be sent is as good as lost, and counted so.
        drop(socket.send_to(&number.to_be_bytes(), target));
        number += 1;
        shared.sent.store(number, Ordering::Release);
        next += BEAT;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 64];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let Ok(number) = buffer[..length].try_into().map(usize::from_be_bytes) else {
            continue;
        };
        let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() <= number {
            received.resize(number + 1, 0);
        }
        received[number] = received[number].saturating_add(1);
    }
}

/// Runs a test in an attached laboratory with that fast path.
pub(crate) fn with(accelerate: &'static str, test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    attached_with(Configuration::default().accelerate(accelerate), test)
}

/// Environment 1 at work: in, out, and between its two guests.
pub(crate) struct Busy<'a> {
    lab: &'a Lab,
    floods: Vec<Flood>,
    guests: RefCell<[Guest; 2]>,
    /// What the cables had lost when it was looked at last: an interface may not have been up.
    lost: Cell<u64>,
    /// Packets counted in and out of the first guest before.
    counted: [u64; 2],
}

impl<'a> Busy<'a> {
    /// Starts the guests, waits until they are reached, and lets the datagrams flow.
    pub(crate) fn start(lab: &'a Lab) -> Result<Self> {
        let [dc, member] = ROLES;
        let guests = [lab.guest(1, dc)?, lab.guest(1, member)?];
        reach(lab, &guests)?;
        let [first, second] = &guests;
        let counted = counted(lab)?;
        let (outside, first, second) = (lab.outside(), first.namespace(), second.namespace());
        let floods = vec![
            Flood::start("in", outside, first, dc.external(1))?,
            Flood::start("out", first, outside, addresses::UPSTREAM)?,
            Flood::start("within", first, second, member.internal())?,
        ];
        let busy = Self {
            lab,
            floods,
            lost: Cell::new(lost(&guests)),
            guests: RefCell::new(guests),
            counted,
        };
        interrupt::sleep(Duration::from_millis(100))?;
        busy.check()?;
        Ok(busy)
    }

    /// Fails if anything was lost or came twice since the last time.
    pub(crate) fn check(&self) -> Result<()> {
        let lost = lost(self.guests.borrow().as_slice());
        let lost = lost - self.lost.replace(lost);
        // Every one is asked, so that the next time is about later datagrams in all of them.
        let checked: Vec<_> = self.floods.iter().map(Flood::check).collect();
        ensure!(lost == 0, "the laboratory's own cables lost {lost} frames");
        checked.into_iter().collect()
    }

    /// Plugs the guests in again if everything was detached meanwhile, and forgives what was lost by that.
    pub(crate) fn resume(&self) -> Result<()> {
        let guests = &mut *self.guests.borrow_mut();
        let is_plugged_in = |guest: &Guest| guest.cable().is_some_and(|cable| !cable.is_broken());
        if guests.iter().all(is_plugged_in) {
            return Ok(());
        }
        guests.iter_mut().try_for_each(|guest| guest.plug(self.lab.host()))?;
        reach(self.lab, guests)?;
        self.lost.set(lost(guests));
        self.floods.iter().for_each(Flood::forgive);
        Ok(())
    }

    /// Ends the datagrams. How many packets must be counted in and out of the first guest by now.
    pub(crate) fn end(self) -> Result<[u64; 2]> {
        self.floods.iter().for_each(Flood::stop);
        self.check()?;
        let sent = |name: &str| {
            self.floods
                .iter()
                .find(|flood| flood.name == name)
                .map_or(0, Flood::sent)
        };
        let [inbound, outbound] = self.counted;
        Ok([inbound + sent("in"), outbound + sent("out")])
    }

    /// Does something that is to disturb nobody, and sees to it that it has not.
    pub(crate) fn during(&self, what: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
        body().with_context(|| what.to_owned())?;
        // What a change has made wrong may show a little later, when something that was known is forgotten.
        interrupt::sleep(Duration::from_millis(200))?;
        self.lab.check_no_leak_so_far().with_context(|| what.to_owned())?;
        self.check().with_context(|| what.to_owned())
    }
}

/// Waits until both guests are reached, and know each other.
fn reach(lab: &Lab, guests: &[Guest; 2]) -> Result<()> {
    for (role, guest) in ROLES.iter().zip(guests) {
        // Not to lose what comes while the cable's thread waits for a processor.
        lab.host().ip(&format!("link set {} txqueuelen 20000", role.tap(1)))?;
        guest.namespace().ip("link set eth0 txqueuelen 20000")?;
        ensure!(lab.ping(role.external(1))?.is_some(), "{} is not up", role.name);
    }
    let ([first, _], [_, member]) = (guests, ROLES);
    ensure!(
        first.ping(member.internal())?.is_some(),
        "the guests do not reach each other"
    );
    Ok(())
}

fn lost(guests: &[Guest]) -> u64 {
    let cables = guests.iter().filter_map(Guest::cable);
    cables.map(|cable| cable.traffic().lost.load(Ordering::Relaxed)).sum()
}

/// Packets counted in and out of the first guest of environment 1.
pub(crate) fn counted(lab: &Lab) -> Result<[u64; 2]> {
    let [dc, _] = ROLES;
    let status = lab.status()?;
    let guests = status["environments"][0]["guests"].as_array().context("no guests")?;
    let guest = guests.iter().find(|guest| guest["name"] == dc.name);
    let guest = guest.with_context(|| format!("no {} in the status", dc.name))?;
    let number = |key: &str| guest[key].as_u64().context("no number");
    Ok([number("packets_in")?, number("packets_out")?])
}

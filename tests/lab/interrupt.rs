//! Ctrl-C and SIGTERM end the laboratory in order.
//!
//! The handler only sets a flag, every wait looks at it and fails, and the values on the way out undo what they did when
//! they are dropped. A handler rather than a blocked mask, because test threads cannot change the mask of the main thread.

use std::{
    env,
    sync::{
        LazyLock, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How many times longer than usual everything may take: in a guest whose instructions are translated, for example.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let factor = env::var("ENVNET_LAB_PATIENCE").ok();
    factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
});

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Makes SIGINT, SIGTERM and SIGHUP set the flag instead of ending the process. May be called any number of times.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(remember), SaFlags::empty(), SigSet::empty());
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
            let installed = unsafe { sigaction(signal, &action) };
            debug_assert!(installed.is_ok(), "the signals are valid ones");
        }
    });
}

/// Whether a signal asked the laboratory to end.
#[must_use]
pub fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails once a signal asked the laboratory to end.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, but not longer than until the next signal.
pub fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Asks `probe` again and again until it has an answer; fails after `patience`, or a multiple of it where the variable
/// `ENVNET_LAB_PATIENCE` asks for that, with a message that names `what`.
pub fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let patience = patience * *PATIENCE;
    let end = Instant::now() + patience;
    loop {
        check()?;
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("{what}: nothing after {} s", patience.as_secs_f32());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

//! Which processor does what: everything a frame causes in the kernel runs on the generator's, because interrupts are
//! handled where they are raised. The other one is for readers and servers.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// A part in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    Generator,
    Reader,
}

/// Keeps the calling thread on the part's processor: the first or the last that this process may use.
pub(crate) fn pin(part: Processor) {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return };
    let mut numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false));
    let number = match part {
        Processor::Generator => numbers.next(),
        Processor::Reader => numbers.next_back(),
    };
    let mut set = CpuSet::new();
    if number.is_some_and(|number| set.set(number).is_ok()) {
        // Where it is refused, samples only vary more.
        let _ = sched_setaffinity(this, &set);
    }
}

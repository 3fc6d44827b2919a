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
    let (first, last) = outermost();
    let number = match part {
        Processor::Generator => first,
        Processor::Reader => last,
    };
    let mut set = CpuSet::new();
    if set.set(number).is_ok() {
        // Where it is refused, samples only vary more.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// The numbers of the first and the last processor that this process may use, whatever its threads are kept on.
pub(crate) fn outermost() -> (usize, usize) {
    let Ok(allowed) = sched_getaffinity(Pid::this()) else {
        return (0, 0);
    };
    let is_allowed = |number: &usize| allowed.is_set(*number).unwrap_or(false);
    let mut numbers = (0..CpuSet::count()).filter(is_allowed);
    let first = numbers.next().unwrap_or(0);
    (first, numbers.next_back().unwrap_or(first))
}

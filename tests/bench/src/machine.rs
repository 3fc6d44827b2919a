//! Where and with what it was measured.

use std::{
    fmt, fs, io,
    os::fd::{FromRawFd, OwnedFd},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The header of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    /// Processes that were running on average in the last minute.
    pub(crate) load: String,
    /// Seconds since 1970.
    pub(crate) time: u64,
    pub(crate) tools: Vec<String>,
    /// Why instructions are not counted, if so.
    pub(crate) instructions: String,
}

impl Machine {
    /// Looks around.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = memory.split(' ').next().and_then(|number| number.parse().ok());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kibibytes.unwrap_or(0_u64) / 1024,
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            tools: ["iptables-nft --version", "nft --version", "iperf3 --version", "ip -V"]
                .into_iter()
                .filter_map(version)
                .collect(),
            instructions: instructions(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel,
            processors,
            processor,
            memory_mib,
            ..
        } = self;
        write!(f, "Linux {kernel}, {processors} × {processor}, {memory_mib} MiB")
    }
}

/// The day of a time in seconds since 1970, in UTC.
pub(crate) fn date(time: u64) -> String {
    // Years begin in March here, so that a leap day ends one; eras of 400 years are alike.
    let days = time / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

/// The first line that a program says about itself.
fn version(command: &str) -> Option<String> {
    let (program, argument) = command.split_once(' ')?;
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.trim().to_owned())
}

/// Whether the processor counts instructions for this process: tried, not guessed.
fn instructions() -> String {
    /// The first fields of `perf_event_attr` (linux/perf_event.h), as its first version had them.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        size: u32,
        config: u64,
        rest: [u64; 6],
    }
    const _: () = assert!(size_of::<Attributes>() == 64);
    let attributes = Attributes {
        kind: 0, // PERF_TYPE_HARDWARE
        size: 64,
        config: 1, // PERF_COUNT_HW_INSTRUCTIONS
        rest: [0; 6],
    };
    // SAFETY: the attributes outlive the call and are as long as they say; the rest are numbers: this process, any
    // processor, no group, no flags.
    let descriptor = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, -1, -1, 0) };
    match i32::try_from(descriptor) {
        Ok(descriptor @ 0..) => {
            // SAFETY: it was opened just now and is nobody else's.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            "the processor counts instructions, but of programs in the kernel only nanoseconds are reported".to_owned()
        }
        _ => format!(
            "the processor counts no instructions here (perf_event_open: {})",
            io::Error::last_os_error()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_722, "2023-12-31"),
            (20_785, "2026-11-28"),
        ] {
            assert_eq!(date(days * 86_400 + 86_399), expected);
        }
    }
}

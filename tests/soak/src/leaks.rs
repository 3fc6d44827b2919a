//! What could grow: counted whenever nothing is attached and no guest is on, and compared with the start.
//!
//! What belongs to the laboratory must be back exactly. What only the whole machine can tell, where others work meanwhile,
//! is judged by its lowest values: they do not rise unless something is kept.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, ErrorKind},
    os::unix::fs::OpenOptionsExt,
};

use anyhow::{Context, Result, bail};
use aya::programs::loaded_links;

use crate::world::World;
use envnet_lab::{
    Mode,
    namespace::{self, Namespace},
};

/// Fewer samples say nothing about a trend.
const FEWEST_SAMPLES: usize = 9;
/// Threads that are started once and stay: the one that starts processes.
const LASTING_THREADS: u64 = 1;
/// What the machine as a whole may have more of at the end than at the start.
const BOUNDS: [(&str, u64); 4] = [
    ("network namespaces in the kernel", 16),
    ("kernel memory that stays, KiB", 24 << 10),
    ("memory per processor, KiB", 2 << 10),
    ("neighbour entries", 200),
];
/// Messages of the kernel that no laboratory may be the reason of.
const ALARMS: [&str; 5] = ["unregister_netdevice: waiting", "WARNING:", "BUG:", "refcount", "Oops"];

/// Everything that is counted, by what it is.
type Sample = BTreeMap<&'static str, u64>;

#[derive(Debug)]
pub(crate) struct Leaks {
    exact: Sample,
    samples: Vec<Sample>,
    /// Objects in every slab cache.
    caches: Vec<BTreeMap<String, u64>>,
    /// Nothing else happens in this process, so that its files and threads can be counted.
    alone: bool,
    messages: Option<BufReader<fs::File>>,
}

impl Leaks {
    /// Counts what is there at the start.
    pub(crate) fn start(world: &World, alone: bool) -> Result<Self> {
        let messages = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .ok();
        let mut leaks = Self {
            exact: Sample::new(),
            samples: Vec::new(),
            caches: Vec::new(),
            alone,
            messages: messages.map(|file| BufReader::with_capacity(16 << 10, file)),
        };
        // What was said before is somebody else's.
        let _ = leaks.alarms();
        leaks.exact = leaks.exact(world)?;
        Ok(leaks)
    }

    /// Counts again; fails when something is left.
    pub(crate) fn look(&mut self, world: &World) -> Result<()> {
        let now = self.exact(world)?;
        for (what, &count) in &now {
            let before = self.exact.get(what).copied().unwrap_or(0);
            let lasting = if *what == "threads" { LASTING_THREADS } else { 0 };
            if count > before + lasting {
                bail!("{what}: {count}, but {before} at the start");
            }
        }
        let alarms = self.alarms();
        if !alarms.is_empty() {
            bail!("the kernel says: {}", alarms.join("; "));
        }
        self.samples.push(machine()?);
        self.caches.push(caches());
        Ok(())
    }

    /// Fails when the machine keeps more and more of something.
    pub(crate) fn judge(&self) -> Result<()> {
        if self.samples.len() < FEWEST_SAMPLES {
            return Ok(());
        }
        for (what, bound) in BOUNDS {
            let (first, last) = self.ends(what);
            if last > first + bound {
                bail!("{what}: from {first} to {last}, and only {bound} more are nothing unusual");
            }
        }
        Ok(())
    }

    /// The table of the report.
    pub(crate) fn table(&self) -> String {
        let mut lines: Vec<_> = self
            .exact
            .iter()
            .map(|(what, count)| format!("  {what:<36} {count:>9}  the same whenever nothing was attached\n"))
            .collect();
        for (what, bound) in BOUNDS {
            let (first, last) = self.ends(what);
            lines.push(format!(
                "  {what:<36} {first:>9}  {last:>9} at the end; at most {bound} more\n"
            ));
        }
        let mut grown: Vec<_> = self.grown_caches();
        grown.sort_by_key(|(_, first, last)| first.saturating_sub(*last));
        grown.sort_by_key(|(_, first, last)| std::cmp::Reverse(last.saturating_sub(*first)));
        for (cache, first, last) in grown.into_iter().take(3) {
            lines.push(format!(
                "  slab cache {cache:<25} {first:>9}  {last:>9} at the end (whole machine)\n"
            ));
        }
        format!("counted {} times\n{}", self.samples.len(), lines.concat())
    }

    /// The lowest values of the first and of the last third.
    fn ends(&self, what: &str) -> (u64, u64) {
        let values: Vec<_> = self
            .samples
            .iter()
            .filter_map(|sample| sample.get(what).copied())
            .collect();
        lowest_ends(&values)
    }

    fn grown_caches(&self) -> Vec<(String, u64, u64)> {
        let names = self.caches.first().into_iter().flat_map(BTreeMap::keys);
        names
            .map(|name| {
                let values: Vec<_> = self
                    .caches
                    .iter()
                    .filter_map(|caches| caches.get(name).copied())
                    .collect();
                let (first, last) = lowest_ends(&values);
                (name.clone(), first, last)
            })
            .collect()
    }

    fn exact(&self, world: &World) -> Result<Sample> {
        let lab = &world.lab;
        // In bridge mode the laboratory's own bridge is one more.
        let bridges = u64::from(world.model.file.mode == Mode::Bridge);
        let mut sample = Sample::from([
            ("links in the host", links(lab.host())? - bridges),
            ("links outside", links(lab.outside())?),
            ("namespaces", world.namespaces()? as u64),
            ("folders of pins", u64::from(world.pins().exists())),
        ]);
        let (programs, maps) = world.loaded.left();
        sample.insert("BPF programs", programs as u64);
        sample.insert("BPF maps", maps as u64);
        if self.alone {
            sample.insert("files", fs::read_dir("/proc/self/fd")?.count() as u64);
            sample.insert("threads", fs::read_dir("/proc/self/task")?.count() as u64);
        }
        Ok(sample)
    }

    /// What the kernel has complained about since the last time.
    fn alarms(&mut self) -> Vec<String> {
        let mut alarms = Vec::new();
        let Some(messages) = &mut self.messages else {
            return alarms;
        };
        loop {
            let mut line = Vec::new();
            match messages.read_until(b'\n', &mut line) {
                Ok(0) => return alarms,
                Ok(_) => {}
                // Overwritten before it was read.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return alarms,
            }
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if ALARMS.iter().any(|alarm| line.contains(alarm)) {
                alarms.push(line);
            }
        }
    }
}

fn lowest_ends(values: &[u64]) -> (u64, u64) {
    let third = values.len().div_ceil(3);
    let lowest = |values: &[u64]| values.iter().min().copied().unwrap_or(0);
    (lowest(&values[..third]), lowest(&values[values.len() - third..]))
}

fn links(namespace: &Namespace) -> Result<u64> {
    Ok(namespace.ip("-oneline link show")?.lines().count() as u64)
}

/// What only the whole machine can tell.
fn machine() -> Result<Sample> {
    let memory = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let kib = |key: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    let neighbours = fs::read_to_string("/proc/net/stat/arp_cache").unwrap_or_default();
    // A line per processor, each with the same number of entries.
    let neighbours = neighbours
        .lines()
        .nth(1)
        .and_then(|line| line.split_ascii_whitespace().next());
    let neighbours = neighbours.and_then(|entries| u64::from_str_radix(entries, 16).ok());
    let namespaces = caches().get("net_namespace").copied().unwrap_or(0);
    Ok(Sample::from([
        (
            "network namespaces in the kernel",
            // Those with names are known, or somebody else's.
            namespaces.saturating_sub(namespace::names()?.len() as u64),
        ),
        ("kernel memory that stays, KiB", kib("SUnreclaim")),
        ("memory per processor, KiB", kib("Percpu")),
        ("neighbour entries", neighbours.unwrap_or(0)),
        ("BPF links", loaded_links().flatten().count() as u64),
    ]))
}

/// Objects in use in every slab cache; nothing where it cannot be read.
fn caches() -> BTreeMap<String, u64> {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    });
    lines.collect()
}

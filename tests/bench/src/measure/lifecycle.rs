//! Making, looking again, removing: milliseconds for each environment, and the kernel's memory that one takes.
//!
//! envnet beside the classic script, beside nothing but a namespace and a bridge, and beside what the kernel alone takes
//! to let an environment's ports go.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    Configuration,
    addresses::ROUTER,
    directory::Directory,
    envnet::Envnet,
    interrupt,
    namespace::{self, Namespace},
    process::output,
};

use super::Effort;
use crate::{
    methods::REFERENCE,
    record::Row,
    rounds::{self, Cell, Name, Progress, Sample},
    testbed::{Testbed, UPLINK, batch},
};

/// The classic script, which uses the reference's rules: compared with it, and so under its name.
const SCRIPT: &str = include_str!("note.sh");
pub(crate) const MEASUREMENT: &str = "environments";
pub(crate) const ENVNET: &str = "envnet";
pub(crate) const BARE: &str = "empty namespace and bridge";
/// What the kernel alone takes: for all interfaces that an environment has in the host, deleted by one request for all
/// environments; for bridges without ports; and for the ports to leave their bridges, one after the other.
pub(crate) const LINKS: &str = "kernel: bridges with three ports";
pub(crate) const BRIDGES: &str = "kernel: bridges alone";
pub(crate) const PORTS: &str = "kernel: three ports leave a bridge";
pub(crate) const SET_UP: &str = "set-up";
pub(crate) const NO_CHANGE: &str = "no change";
pub(crate) const STATUS: &str = "status";
pub(crate) const TEARDOWN: &str = "teardown";
pub(crate) const MEMORY: &str = "memory";
/// In the order of the page.
const ALL: [&str; 5] = [SET_UP, NO_CHANGE, STATUS, TEARDOWN, MEMORY];

/// What is made on demand, and how long it may be made and removed again and again: of as many as one wants, for some 25 ms
/// each in a round, twice or three times.
const SCALE: [(u16, Duration); 2] = [(10, Duration::from_secs(50)), (100, Duration::from_secs(75))];
const LARGEST: Duration = Duration::from_mins(1);
const LARGEST_EACH: Duration = Duration::from_millis(90);
/// The others need the same time for each one however many there are, and too long for many.
const MOST_BY_SCRIPT: u16 = 20;
const MOST_BARE: u16 = 50;
const MOST_BY_KERNEL: u16 = 30;
const TAKING_APART: Duration = Duration::from_millis(5);
/// Of interfaces that are deleted together; any number but zero, which all others have.
const GROUP: u32 = 7;
/// With fewer, what else happens on the machine is more than their memory.
const FEWEST_FOR_MEMORY: u16 = 10;

/// One size after the other: what is compared stands at no time beside the other.
pub(crate) fn rows(effort: &Effort, scale: Option<u16>, progress: &Progress) -> Result<Vec<Row>> {
    let mut sizes = effort.environments.to_vec();
    if let Some(most) = scale {
        sizes.retain(|(environments, _)| *environments == 1);
        sizes.extend(SCALE.iter().filter(|(environments, _)| *environments < most));
        sizes.push((most, LARGEST + LARGEST_EACH * u32::from(most)));
    }
    let mut rows = Vec::new();
    for (environments, time) in sizes {
        let methods = [ENVNET, REFERENCE, BARE, LINKS, BRIDGES, PORTS];
        let cells = methods.map(|method| cell(method, environments));
        rows.extend(rounds::repeat(cells.into(), effort.rounds, time, progress)?);
        progress.step(&format!("{environments} environments made and removed"));
    }
    // In the order of what is measured rather than of sizes and methods.
    rows.sort_by_key(|row| ALL.iter().position(|what| row.variant.starts_with(what)));
    Ok(rows)
}

/// What is measured of so many.
pub(crate) fn variant(what: &str, environments: u16) -> String {
    format!("{what}, {environments} at once")
}

fn cell(method: &'static str, environments: u16) -> Cell<'static> {
    let name = |what: &&str| Name {
        measurement: MEASUREMENT,
        variant: variant(what, environments),
        unit: if *what == MEMORY { "KiB each" } else { "ms each" },
        less_is_better: true,
    };
    let is_kernel = [LINKS, BRIDGES, PORTS].contains(&method);
    let is_measured = |what: &&&str| match **what {
        MEMORY => !is_kernel && environments >= FEWEST_FOR_MEMORY,
        NO_CHANGE | STATUS => method == ENVNET,
        SET_UP => !is_kernel,
        _ => true,
    };
    let made = environments.min(match method {
        ENVNET => u16::MAX,
        BARE => MOST_BARE,
        _ if is_kernel => MOST_BY_KERNEL,
        _ => MOST_BY_SCRIPT,
    });
    Cell {
        method: method.to_owned(),
        names: ALL.iter().filter(is_measured).map(name).collect(),
        measure: Box::new(move || {
            let testbed = Testbed::new(&format!("l{environments}"))?;
            let mut values = match method {
                ENVNET => with_envnet(&testbed, made),
                BARE => with_nothing(&testbed, made),
                LINKS | BRIDGES | PORTS => with_links(&testbed, made, method),
                _ => with_script(&testbed, made),
            }?;
            drop(testbed);
            // The kernel takes namespaces apart in its own time, which must not be the next one's.
            interrupt::sleep(Duration::from_millis(200) + TAKING_APART * u32::from(made))?;
            if environments < FEWEST_FOR_MEMORY && !is_kernel {
                values.pop();
            }
            Ok(Sample {
                values,
                note: (made < environments).then(|| format!("measured with {made} at once")),
                ..Sample::default()
            })
        }),
    }
}

fn with_envnet(testbed: &Testbed, environments: u16) -> Result<Vec<f64>> {
    let directory = Directory::create(testbed.host.name())?;
    let file = directory.path().join("envnet.toml");
    let configuration = Configuration::of(environments)
        .addresses("10.0.0.0/24", ROUTER, "172.16.0.0/12")
        .uplink(UPLINK)
        .without_macs();
    fs::write(&file, configuration.to_string())?;
    let envnet = Guard(Some(Envnet::find(testbed.host.name(), &file, None)?));
    let run = |verb: &str| {
        let envnet = envnet.0.as_ref().context("it is detached already")?;
        envnet.succeed(verb)
    };
    let (up, memory) = measured(environments, || run("attach").map(drop))?;
    let again = timed(environments, || {
        let said = run("attach")?;
        ensure!(said.contains("no change"), "a second attach changes something: {said}");
        Ok(())
    })?;
    let status = timed(environments, || run("status").map(drop))?;
    let down = timed(environments, || run("detach").map(drop))?;
    Ok(vec![up, again, status, down, memory])
}

/// Detaches whatever happens.
struct Guard(Option<Envnet>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|envnet| envnet.succeed("detach")) {
            eprintln!("{error:#}");
        }
    }
}

fn with_script(testbed: &Testbed, environments: u16) -> Result<Vec<f64>> {
    let _guard = Routers(testbed.host.name());
    let run = |verb: &str| {
        let mut sh = testbed.host.command("sh");
        sh.args([
            "-c",
            SCRIPT,
            "note.sh",
            verb,
            testbed.host.name(),
            &environments.to_string(),
        ]);
        output(&mut sh).map(drop)
    };
    let (up, memory) = measured(environments, || run("up"))?;
    let down = timed(environments, || run("down"))?;
    Ok(vec![up, down, memory])
}

/// Removes what the script has left, whatever happens.
struct Routers<'a>(&'a str);

impl Drop for Routers<'_> {
    fn drop(&mut self) {
        let routers = format!("{}-ns", self.0);
        for name in namespace::names().unwrap_or_default() {
            if name.starts_with(&routers) {
                namespace::remove(&name);
            }
        }
    }
}

fn with_nothing(testbed: &Testbed, environments: u16) -> Result<Vec<f64>> {
    let mut made = Vec::new();
    let (up, memory) = measured(environments, || {
        for number in 1..=environments {
            interrupt::check()?;
            made.push(Namespace::create(&format!("{}-ns{number}", testbed.host.name()))?);
            batch(
                &testbed.host,
                &format!("link add br{number} type bridge\nlink set br{number} up"),
            )?;
        }
        Ok(())
    })?;
    let down = timed(environments, || {
        made.clear();
        for number in 1..=environments {
            batch(&testbed.host, &format!("link del br{number}"))?;
        }
        Ok(())
    })?;
    Ok(vec![up, down, memory])
}

/// The bridges of so many environments, with their ports but for the one that asks for none, made to be removed.
fn with_links(testbed: &Testbed, environments: u16, method: &str) -> Result<Vec<f64>> {
    let ports = |number| {
        [
            format!("peer1-br{number}"),
            format!("vm{number}.2"),
            format!("vm{number}.3"),
        ]
    };
    let (mut make, mut remove) = (String::new(), String::new());
    for number in 1..=environments {
        // Writing to a string does not fail.
        let _ = writeln!(
            make,
            "link add br{number} type bridge\nlink set br{number} group {GROUP} up"
        );
        if method == BRIDGES {
            continue;
        }
        let _ = writeln!(make, "link add peer1-br{number} type veth peer name peer1-gw{number}");
        let _ = writeln!(
            make,
            "tuntap add dev vm{number}.2 mode tap\ntuntap add dev vm{number}.3 mode tap"
        );
        for port in ports(number) {
            let _ = writeln!(make, "link set {port} master br{number} group {GROUP} up");
            if method == PORTS {
                let _ = writeln!(remove, "link set {port} nomaster");
            }
        }
    }
    if method != PORTS {
        let _ = writeln!(remove, "link del group {GROUP}");
    }
    batch(&testbed.host, &make)?;
    Ok(vec![timed(environments, || batch(&testbed.host, &remove))?])
}

/// Milliseconds that it took for each environment.
fn timed(environments: u16, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3 / f64::from(environments))
}

/// Milliseconds and kibibytes that it took for each environment.
fn measured(environments: u16, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let before = memory()?;
    let time = timed(environments, work)?;
    Ok((time, (memory()? - before) / f64::from(environments)))
}

/// Kibibytes that the kernel has taken for itself and cannot give back, as soon as it takes no more: what it frees, it
/// frees after a while.
fn memory() -> Result<f64> {
    const STEP: Duration = Duration::from_millis(100);
    /// Less than this happens all the time.
    const STEADY: f64 = 64.0;
    const PATIENCE: u32 = 20;
    let mut last = kernel_memory()?;
    for _ in 0..PATIENCE {
        interrupt::sleep(STEP)?;
        let now = kernel_memory()?;
        if (now - last).abs() < STEADY {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Objects, what each processor has of its own, and large pieces (maps and programs).
fn kernel_memory() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    ["SUnreclaim:", "Percpu:", "VmallocUsed:"]
        .iter()
        .map(|kind| {
            let line = text.lines().find_map(|line| line.strip_prefix(kind));
            let number = line.and_then(|line| line.split_ascii_whitespace().next());
            let number = number.and_then(|number| number.parse::<f64>().ok());
            number.with_context(|| format!("/proc/meminfo does not say {kind}"))
        })
        .sum()
}

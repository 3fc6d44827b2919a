//! Making, looking again, removing: milliseconds for each environment, and the memory that one takes.
//!
//! envnet against the classic script, and for the memory against nothing but a namespace and a bridge.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    directory::Directory,
    envnet::Envnet,
    interrupt,
    namespace::{self, Namespace},
    plan::GATEWAY,
    process::output,
};

use super::Effort;
use crate::{
    methods::REFERENCE,
    record::Row,
    rounds::{self, Cell, Name, Progress, Sample},
    site::{Site, UPLINK, batch},
};

/// The classic script, which uses the reference's rules: compared with it, and so under its name.
const SCRIPT: &str = include_str!("note.sh");
const BARE: &str = "empty namespace and bridge";
const ENVNET: &str = "envnet";
/// On demand only, and how often: the script alone takes minutes each time.
const MOST: (u16, usize) = (1000, 3);
/// With fewer, what else happens on the machine is more than their memory.
const FEWEST_FOR_MEMORY: u16 = 100;

/// One size after the other: what is compared stands at no time beside the other.
pub(crate) fn rows(effort: &Effort, scale: bool, progress: &Progress) -> Result<Vec<Row>> {
    let most = scale.then_some(MOST);
    let mut rows = Vec::new();
    for &(environments, rounds) in effort.environments.iter().chain(&most) {
        let cells = [ENVNET, REFERENCE, BARE].map(|method| cell(method, environments));
        rows.extend(rounds::run(cells.into(), rounds, progress)?);
    }
    // In the order of what is measured rather than of sizes and methods.
    let order = |row: &Row| {
        ["set-up", "no change", "teardown", "memory"]
            .iter()
            .position(|what| row.variant.starts_with(what))
    };
    rows.sort_by_key(order);
    Ok(rows)
}

fn cell(method: &'static str, environments: u16) -> Cell<'static> {
    let name = |what: &str, unit| Name {
        measurement: "environments",
        variant: format!("{what}, {environments} at once"),
        unit,
        less_is_better: true,
    };
    let mut names = vec![name("set-up", "ms each")];
    if method == ENVNET {
        names.push(name("no change", "ms each"));
    }
    names.push(name("teardown", "ms each"));
    if environments >= FEWEST_FOR_MEMORY {
        names.push(name("memory", "KiB each"));
    }
    Cell {
        method: method.to_owned(),
        names,
        measure: Box::new(move || {
            let site = Site::new(&format!("l{environments}"))?;
            let values = match method {
                ENVNET => with_envnet(&site, environments),
                BARE => with_nothing(&site, environments),
                _ => with_script(&site, environments),
            }?;
            drop(site);
            // The kernel takes namespaces apart in its own time, which must not be the next one's.
            interrupt::sleep(Duration::from_millis(200 + 10 * u64::from(environments)))?;
            Ok(Sample {
                values,
                ..Sample::default()
            })
        }),
    }
}

fn with_envnet(site: &Site, environments: u16) -> Result<Vec<f64>> {
    let directory = Directory::create(site.host.name())?;
    let file = directory.path().join("envnet.toml");
    let configuration = format!(
        "environments = \"1-{environments}\"\n\
         [uplink]\ninterface = \"{UPLINK}\"\nmode = \"macvlan\"\ngateway = \"{GATEWAY}\"\n\
         [addresses]\ninternal = \"10.0.0.0/24\"\nrouter = \"10.0.0.1\"\nexternal = \"172.16.0.0/12\"\n\
         [[vm]]\nname = \"dc\"\naddress = \"10.0.0.2\"\n\
         [[vm]]\nname = \"member\"\naddress = \"10.0.0.3\"\n"
    );
    fs::write(&file, configuration)?;
    let envnet = Guard(Some(Envnet::find(site.host.name(), &file, None)?));
    let run = |verb: &str| {
        let envnet = envnet.0.as_ref().context("it is detached already")?;
        envnet.succeed(verb)
    };
    let (up, memory) = measured(environments, || run("attach").map(drop))?;
    let (again, _) = measured(environments, || {
        let said = run("attach")?;
        ensure!(said.contains("no change"), "a second attach changes something: {said}");
        Ok(())
    })?;
    let (down, _) = measured(environments, || run("detach").map(drop))?;
    Ok(values(environments, [up, again, down], memory))
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

fn with_script(site: &Site, environments: u16) -> Result<Vec<f64>> {
    let _guard = Routers(site.host.name());
    let run = |verb: &str| {
        let mut sh = site.host.command("sh");
        sh.args([
            "-c",
            SCRIPT,
            "note.sh",
            verb,
            site.host.name(),
            &environments.to_string(),
        ]);
        output(&mut sh).map(drop)
    };
    let (up, memory) = measured(environments, || run("up"))?;
    let (down, _) = measured(environments, || run("down"))?;
    Ok(values(environments, [up, down], memory))
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

fn with_nothing(site: &Site, environments: u16) -> Result<Vec<f64>> {
    let mut made = Vec::new();
    let (up, memory) = measured(environments, || {
        for number in 1..=environments {
            interrupt::check()?;
            made.push(Namespace::create(&format!("{}-ns{number}", site.host.name()))?);
            batch(
                &site.host,
                &format!("link add br{number} type bridge\nlink set br{number} up"),
            )?;
        }
        Ok(())
    })?;
    let (down, _) = measured(environments, || {
        made.clear();
        for number in 1..=environments {
            batch(&site.host, &format!("link del br{number}"))?;
        }
        Ok(())
    })?;
    Ok(values(environments, [up, down], memory))
}

/// In the order of the cell's names.
fn values<const N: usize>(environments: u16, times: [f64; N], memory: f64) -> Vec<f64> {
    let memory = (environments >= FEWEST_FOR_MEMORY).then_some(memory);
    times.into_iter().chain(memory).collect()
}

/// Milliseconds and kibibytes that it took for each environment.
fn measured(environments: u16, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let before = available()?;
    let start = Instant::now();
    work()?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    let after = available()?;
    let each = f64::from(environments);
    Ok((time / each, (before - after) / each))
}

/// Kibibytes that the kernel could give to programs: kernel memory is what is missing there.
fn available() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .context("/proc/meminfo does not say what is available")
}

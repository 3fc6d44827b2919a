//! The frame around every test.

use std::{
    fs,
    io::{self, Write as _},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    Configuration, Lab, Mode,
    addresses::{ROLES, UPSTREAM},
    envnet::Outcome,
    interrupt, snapshot,
};

/// The ways packets can take: how programs are attached, the first kernel that can, and which fast path there is.
const WAYS: [(&str, (u32, u32), &str); 5] = [
    ("tcx", (6, 6), "tc"),
    ("tcx", (6, 6), "xdp"),
    ("tcx", (6, 6), "off"),
    ("clsact", (4, 5), "tc"),
    ("clsact", (4, 5), "off"),
];

/// How long the kernel may take to remove a namespace, and a guest to be reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to say that a link is up. That has to wait for a lock which every change of a link on the machine
/// takes.
const LINK_WATCH: Duration = Duration::from_secs(20);

/// Runs a test in a laboratory with two attached environments, then asks the questions of every test.
pub fn attached(test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    attached_with(Configuration::default(), test)
}

/// Like [`attached`], with another configuration.
pub fn attached_with(configuration: Configuration, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    detached_with(configuration, |lab| {
        lab.attach()?;
        test(lab)
    })
}

/// The same once for each of these configurations.
pub fn attached_each(
    configurations: impl IntoIterator<Item = Configuration>,
    test: impl Fn(&Lab) -> Result<()>,
) -> Result<()> {
    configurations
        .into_iter()
        .try_for_each(|configuration| attached_with(configuration, &test))
}

/// Runs a test once for each way that packets can take on this kernel, and says which it has not.
pub fn attached_each_way(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    attached_where(|_| true, test)
}

/// Runs a test once for each way through the routers.
pub fn attached_slowly(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    attached_where(|accelerate| accelerate == "off", test)
}

/// Runs a test once for each fast path.
pub fn attached_fast(test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    attached_where(|accelerate| accelerate != "off", test)
}

fn attached_where(which: impl Fn(&str) -> bool, test: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    let kernel = kernel_version()?;
    for (hook, needed, accelerate) in WAYS.into_iter().filter(|(.., accelerate)| which(accelerate)) {
        if kernel < needed {
            let current = thread::current();
            let (test, (major, minor)) = (current.name().unwrap_or("?"), needed);
            // Not by `println`, whose output is shown for failed tests only.
            writeln!(
                io::stderr(),
                "skipped: {test} with {hook} and {accelerate}, which needs Linux {major}.{minor}"
            )?;
            continue;
        }
        attached_with(Configuration::default().hook(hook).accelerate(accelerate), &test)?;
    }
    Ok(())
}

/// The running kernel's major and minor version.
fn kernel_version() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .with_context(|| format!("the kernel's release is {release}"))
}

/// Runs a test in a laboratory where nothing is attached yet.
pub fn detached(test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    detached_with(Configuration::default(), test)
}

/// Like [`detached`], with another configuration.
pub fn detached_with(configuration: Configuration, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let summary = configuration.summary();
    in_lab(configuration, test).context(summary)
}

/// The same once for each of these configurations.
pub fn detached_each(
    configurations: impl IntoIterator<Item = Configuration>,
    test: impl Fn(&Lab) -> Result<()>,
) -> Result<()> {
    configurations
        .into_iter()
        .try_for_each(|configuration| detached_with(configuration, &test))
}

fn in_lab(configuration: Configuration, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::new(configuration)?;
    wait_for_uplink(&lab)?;
    let host = snapshot::of_host(&lab)?;
    let sysctls = snapshot::sysctls(lab.host())?;
    test(&lab)?;
    lab.check_no_leak()?;
    let changed = snapshot::sysctls(lab.host())?;
    let changed = snapshot::changed(&sysctls, &changed);
    ensure!(changed.is_empty(), "envnet changed the host's {changed:?}");
    lab.detach()?;
    restored(&lab, &host)
}

/// Runs a test once for each uplink mode, in a laboratory with room for one environment and a fast path; the test is also
/// told what the host looks like before anything is attached.
pub fn detached_each_mode(test: impl Fn(&Lab, Mode, &str) -> Result<()>) -> Result<()> {
    for mode in [Mode::Macvlan, Mode::Bridge] {
        let configuration = Configuration::of(1).mode(mode).accelerate("tc");
        detached_with(configuration, |lab| test(lab, mode, &snapshot::of_host(lab)?))?;
    }
    Ok(())
}

/// Waits until all links of the host are up.
pub fn wait_for_uplink(lab: &Lab) -> Result<()> {
    // The kernel's link watch takes up to a second to say that a link is up, even on an idle machine.
    interrupt::wait_for("the uplink", LINK_WATCH, || {
        let links = lab.host().ip("-brief link show up")?;
        let state = |link: &str| link.split_ascii_whitespace().nth(1).map(str::to_owned);
        let mut states = links.lines().filter(|link| !link.starts_with("lo ")).map(state);
        Ok(states.all(|state| state.as_deref() == Some("UP")).then_some(()))
    })
}

/// Fails unless the host is what it was, given a snapshot, and nothing is left of the BPF filesystem that nobody uses.
pub fn restored(lab: &Lab, host: &str) -> Result<()> {
    // What was in a removed namespace, and its other end in the host, goes a little later.
    let gone = interrupt::wait_for("the host as it was", PATIENCE, || {
        Ok((snapshot::of_host(lab)? == host && !is_mounted_for_nothing()?).then_some(()))
    });
    gone.with_context(|| {
        let now = snapshot::of_host(lab).unwrap_or_default();
        let mounted = is_mounted_for_nothing().unwrap_or_default();
        let mounted = if mounted {
            "\n+ an empty BPF filesystem of envnet's"
        } else {
            ""
        };
        format!("what differs:\n{}{mounted}", snapshot::difference(host, &now))
    })
}

/// Whether envnet has mounted the BPF filesystem, or has made its folder there, and left it empty.
fn is_mounted_for_nothing() -> Result<bool> {
    const OWN: &str = "/sys/fs/bpf/envnet";
    match fs::read_dir(OWN) {
        Ok(mut instances) => Ok(instances.next().is_none()),
        Err(_) => Ok(fs::read_to_string("/proc/self/mounts")?.contains("envnet /sys/fs/bpf bpf ")),
    }
}

/// Attaches, and fails unless everything is as it should be then: a second attach finds nothing to change, and the guests of
/// environment 1 reach each other and the outside.
pub fn converged(lab: &Lab) -> Result<()> {
    lab.attach()?;
    let changes = lab.envnet().changes("attach")?;
    ensure!(changes == 0, "a second attach made {changes} changes");
    let [dc, member] = ROLES;
    let (guest, _sibling) = (lab.guest(1, dc)?, lab.guest(1, member)?);
    // Not only once: a busy machine may take longer to let the guests' ports forward than the router asks for them, and the
    // kernel gives no answers to pings while too many of them wait for a neighbour somewhere else.
    interrupt::wait_for("an answer to the outside", PATIENCE, || lab.ping(dc.external(1)))?;
    interrupt::wait_for("an answer from the sibling", PATIENCE, || guest.ping(member.internal()))?;
    interrupt::wait_for("an answer from the outside", PATIENCE, || guest.ping(UPSTREAM))?;
    Ok(())
}

/// Fails unless the run ended with this status and one line that holds all the words, and the host is as it was.
pub fn refused(lab: &Lab, status: i32, words: &[&str], attempt: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let before = snapshot::of_host(lab)?;
    let outcome = attempt()?;
    ensure!(outcome.status == Some(status), "expected status {status}: {outcome:?}");
    ensure!(
        outcome.stderr.lines().count() == 1,
        "expected one line: {}",
        outcome.stderr
    );
    for word in words {
        ensure!(outcome.stderr.contains(word), "`{word}` is not in: {}", outcome.stderr);
    }
    let after = snapshot::of_host(lab)?;
    ensure!(
        before == after,
        "the host was changed:\n{}",
        snapshot::difference(&before, &after)
    );
    Ok(())
}

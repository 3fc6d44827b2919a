//! One host with its uplink and an outside, for one method alone: methods stand side by side, so that a round can measure
//! one after the other without building anything anew.

use std::{
    io::Write as _,
    iter,
    process::{self, Stdio},
};

use anyhow::{Context, Result, ensure};
use envnet_lab::{
    addresses::UPSTREAM,
    namespace::Namespace,
    process::{Process, output},
    remains::PREFIX,
};

use crate::frames::{PEERS, peer};

/// The uplink, on either side.
pub(crate) const UPLINK: &str = "eth0";

/// A host and what is outside.
#[derive(Debug)]
pub(crate) struct Testbed {
    pub(crate) outside: Namespace,
    pub(crate) host: Namespace,
}

impl Testbed {
    /// Builds both, connected by a cable. `label` tells the testbeds of this process apart.
    pub(crate) fn new(label: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{label}", process::id());
        let host = Namespace::create(&name)?;
        let outside = Namespace::create(&format!("{name}-out"))?;
        for namespace in [&host, &outside] {
            namespace.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
            namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        }
        batch(
            &host,
            &format!(
                "link add {UPLINK} type veth peer name {UPLINK} netns {}",
                outside.name()
            ),
        )?;
        // A network card coalesces and polls; a veth does so only when asked, and takes redirected frames only then.
        coalesce(&host, UPLINK)?;
        coalesce(&outside, UPLINK)?;
        // What comes over a wire is complete, with finished checksums; a veth would leave that to whoever receives it.
        run(&outside, &format!("ethtool --features {UPLINK} tx off"))?;
        let addresses: Vec<_> = iter::once(UPSTREAM)
            .chain((0..PEERS).map(peer))
            .map(|address| format!("address add {address}/16 dev {UPLINK}\n"))
            .collect();
        batch(&outside, &format!("{}link set {UPLINK} up", addresses.concat()))?;
        batch(&host, &format!("link set {UPLINK} up"))?;
        Ok(Self { outside, host })
    }
}

/// Runs many `ip` commands by one process.
pub(crate) fn batch(namespace: &Namespace, commands: &str) -> Result<()> {
    feed(namespace, "ip", &["-batch", "-"], commands)
}

/// Runs a program inside the namespace with `input` as its standard input.
pub(crate) fn feed(namespace: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<()> {
    let mut command = namespace.command(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::start(command).with_context(|| format!("{program} is not installed"))?;
    let child = process.child();
    let mut stdin = child.stdin.take().context("a pipe to the program")?;
    // Whether it was read to its end shows in the status.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let errors = std::io::read_to_string(child.stderr.take().context("a pipe from the program")?)?;
    let status = child.wait()?;
    ensure!(
        status.success() && written.is_ok(),
        "{program} {}: {status}: {}",
        arguments.join(" "),
        errors.trim()
    );
    Ok(())
}

/// Runs a program inside the namespace, which must succeed.
pub(crate) fn run(namespace: &Namespace, command: &str) -> Result<()> {
    let mut words = command.split_ascii_whitespace();
    let program = words.next().context("an empty command")?;
    output(namespace.command(program).args(words)).map(drop)
}

/// Makes an interface receive by polling (NAPI), with coalescing.
pub(crate) fn coalesce(namespace: &Namespace, interface: &str) -> Result<()> {
    run(namespace, &format!("ethtool --features {interface} gro on"))
}

//! Finds what the other verbs need and installs what is not there: only what is missing, each with its reason.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use xtask::{
    linker::{VERSION as BPF_LINKER_VERSION, find_linker},
    process::{cargo, check, find, output},
    toolchain::{Kind, Toolchain, VARIABLE},
};

use crate::{apt, assets};

/// The compiler that Debian and its kin ship, newest first: the packages of compiler, cargo, source and lints.
const SYSTEM_COMPILERS: [&[&str]; 2] = [
    &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
    &["rustc", "cargo", "rust-src", "rust-clippy"],
];

/// The version of cargo-deny that is installed where there is none.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Programs that the tests run, and the packages they are in.
const NETWORK_TOOLS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("iptables", "iptables"),
    ("ethtool", "ethtool"),
    ("systemd-analyze", "systemd"),
];

/// Programs that envnet is compared with or measured by, and the packages they are in.
const COMPARISON_TOOLS: [(&str, &str); 3] = [
    ("iptables-legacy-restore", "iptables"),
    ("nft", "nftables"),
    ("iperf3", "iperf3"),
];

/// The verb `setup`: goes on past what cannot be had, so that one run names all of it.
pub(crate) fn everything() -> Result<()> {
    let parts = [toolchain(), linker(), lints(), comparisons(), guests().map(drop)];
    let failures: Vec<_> = parts
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("\n  {error:#}"))
        .collect();
    if failures.is_empty() {
        println!("everything is there: eBPF compiler, lints, network tools and guest assets");
        Ok(())
    } else {
        bail!("not everything could be set up:{}", failures.concat())
    }
}

/// What compiling the eBPF programs needs.
pub(crate) fn compiler() -> Result<()> {
    toolchain()?;
    linker()
}

fn linker() -> Result<()> {
    if let Err(reason) = find_linker() {
        println!("installing bpf-linker {BPF_LINKER_VERSION}, about two minutes ({reason:#})");
        cargo_install("bpf-linker", BPF_LINKER_VERSION)?;
        find_linker()?;
    }
    Ok(())
}

/// Adds the source to rustup's nightly, or else installs the distribution's compiler.
fn toolchain() -> Result<()> {
    let Err(reason) = Toolchain::choose() else {
        return Ok(());
    };
    println!("{reason:#}");
    let forced = env::var(VARIABLE).ok();
    let mut failures = Vec::new();
    for kind in Kind::candidates(forced.as_deref())? {
        let installed = match kind {
            Kind::Nightly => add_component("rust-src", Some("nightly")),
            Kind::System => install_system_compiler(),
        };
        if Toolchain::choose().is_ok() {
            return Ok(());
        }
        failures.extend(installed.err().map(|error| format!("{}: {error:#}", kind.name())));
    }
    bail!(
        "no compiler for the BPF target could be installed ({}); by hand, one of: \
         `rustup toolchain install nightly --component rust-src`, \
         or your distribution's rustc, cargo and Rust source of one version",
        failures.join("; ")
    )
}

fn install_system_compiler() -> Result<()> {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let packages = SYSTEM_COMPILERS
        .into_iter()
        .find(|packages| apt::offers_rust(packages[0], needed));
    let packages = packages.with_context(|| format!("apt offers no Rust {needed} or newer"))?;
    apt::install(
        packages,
        "a compiler and core's source for the BPF target; rustup's stays first in PATH",
    )
}

/// rustfmt, clippy for both targets, and cargo-deny.
pub(crate) fn lints() -> Result<()> {
    for (verb, component, package) in [("fmt", "rustfmt", "rustfmt"), ("clippy", "clippy", "rust-clippy")] {
        // Asked by running it: rustup has a proxy of its name even where the component is not installed.
        if output(cargo().args([verb, "--version"])).is_ok() {
            continue;
        }
        if find("rustup").is_some() {
            add_component(component, None)?;
        } else {
            apt::install(&[package], "cargo xtask lint")?;
        }
    }
    // That there is no such toolchain at all is for `compiler` to say.
    if let Ok(toolchain) = Toolchain::choose()
        && !toolchain.clippy().exists()
    {
        match toolchain.kind {
            Kind::Nightly => add_component("clippy", Some("nightly"))?,
            Kind::System => install_system_compiler()?,
        }
    }
    if find("cargo-deny").is_none() {
        println!("installing cargo-deny {CARGO_DENY_VERSION}, about three minutes (it checks licences and sources)");
        cargo_install("cargo-deny", CARGO_DENY_VERSION)?;
    }
    Ok(())
}

/// The programs that the network tests run.
pub(crate) fn network() -> Result<()> {
    tools(&NETWORK_TOOLS, "the tests run them")
}

/// The programs that the benchmark runs.
pub(crate) fn comparisons() -> Result<()> {
    network()?;
    tools(&COMPARISON_TOOLS, "envnet is compared with them or measured by them")
}

fn tools(tools: &[(&str, &'static str)], why: &str) -> Result<()> {
    let missing = tools.iter().filter(|(program, _)| find(program).is_none());
    let mut missing: Vec<_> = missing.map(|&(_, package)| package).collect();
    missing.dedup();
    if missing.is_empty() {
        Ok(())
    } else {
        apt::install(&missing, why)
    }
}

/// QEMU and what it boots; returns the folder of the latter.
pub(crate) fn guests() -> Result<PathBuf> {
    qemu()?;
    assets::prepare()
}

/// QEMU alone.
pub(crate) fn qemu() -> Result<()> {
    if find("qemu-system-x86_64").is_none() {
        apt::install(&["qemu-system-x86"], "the guests run in it")?;
    }
    Ok(())
}

fn add_component(component: &str, toolchain: Option<&str>) -> Result<()> {
    let rustup = find("rustup").context("rustup is not installed")?;
    let mut command = Command::new(rustup);
    command
        .args(["component", "add", component])
        .env("RUSTUP_AUTO_INSTALL", "0");
    if let Some(toolchain) = toolchain {
        command.args(["--toolchain", toolchain]);
    }
    println!(
        "adding {component} to rustup's {} toolchain",
        toolchain.unwrap_or("default")
    );
    check(&mut command)
}

fn cargo_install(package: &str, version: &str) -> Result<()> {
    check(cargo().args(["install", "--quiet", "--locked", "--version", version, package]))
}

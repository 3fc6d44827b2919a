//! Finds what the other verbs need and installs what is not there: only what is missing, each with its reason.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::toolchain::{BPF_LINKER_VERSION, Kind, Toolchain, VARIABLE, bpf_linker, find_program};

use crate::{
    apt, assets,
    process::{cargo, check, find},
};

/// The compiler that Debian and its kin ship, newest first: the packages of compiler, cargo, source and lints.
const SYSTEM_COMPILERS: [&[&str]; 2] = [
    &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
    &["rustc", "cargo", "rust-src", "rust-clippy"],
];

/// Programs that the tests run, and the packages they are in.
const NETWORK_TOOLS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("iptables", "iptables"),
    ("traceroute", "traceroute"),
    ("tcpdump", "tcpdump"),
    ("iperf3", "iperf3"),
    ("bpftool", "bpftool"),
];

/// The verb `setup`.
pub(crate) fn everything() -> Result<()> {
    compiler()?;
    lints()?;
    network()?;
    let assets = guests()?;
    println!(
        "everything is there: eBPF compiler, lints, network tools and guest assets ({})",
        assets.display()
    );
    Ok(())
}

/// What compiling the eBPF programs needs.
pub(crate) fn compiler() -> Result<()> {
    if let Err(reason) = Toolchain::choose() {
        println!("{reason:#}");
        install_compiler()?;
    }
    if let Err(reason) = bpf_linker() {
        println!("installing bpf-linker {BPF_LINKER_VERSION}, about two minutes ({reason:#})");
        cargo_install("bpf-linker", BPF_LINKER_VERSION)?;
        bpf_linker()?;
    }
    Ok(())
}

/// Adds the source to rustup's nightly, or else installs the distribution's compiler.
fn install_compiler() -> Result<()> {
    let forced = std::env::var(VARIABLE).ok();
    let kinds = Kind::candidates(forced.as_deref())?;
    if kinds.contains(&Kind::Nightly)
        && add_component("rust-src", Some("nightly")).is_ok()
        && Toolchain::choose().is_ok()
    {
        return Ok(());
    }
    if kinds.contains(&Kind::System) {
        let installed = install_system_compiler();
        if installed.is_ok() && Toolchain::choose().is_ok() {
            return Ok(());
        }
        installed?;
    }
    Toolchain::choose().map(drop).context(
        "install one by hand: `rustup toolchain install nightly --component rust-src`, \
         or your distribution's rustc, cargo and Rust source of one version under /usr",
    )
}

fn install_system_compiler() -> Result<()> {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let packages = SYSTEM_COMPILERS.into_iter().find(|packages| apt::offers_rust(packages[0], needed)).with_context(|| {
        format!("apt offers no Rust {needed} or newer; install one by hand: `rustup toolchain install nightly --component rust-src`")
    })?;
    apt::install(
        packages,
        "a compiler and core's source for the BPF target; rustup's stays first in PATH",
    )
}

/// rustfmt, clippy for both targets, and cargo-deny.
pub(crate) fn lints() -> Result<()> {
    compiler()?;
    for (program, component, package) in [
        ("cargo-fmt", "rustfmt", "rustfmt"),
        ("cargo-clippy", "clippy", "rust-clippy"),
    ] {
        // Under rustup the program is a proxy that is there before the component is.
        if cargo()
            .args([program.trim_start_matches("cargo-"), "--version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            continue;
        }
        if find_program("rustup").is_some() {
            add_component(component, None)?;
        } else {
            apt::install(&[package], "cargo xtask lint")?;
        }
    }
    let toolchain = Toolchain::choose()?;
    if !toolchain.clippy().exists() {
        match toolchain.kind {
            Kind::Nightly => add_component("clippy", Some("nightly"))?,
            Kind::System => install_system_compiler()?,
        }
    }
    if find_program("cargo-deny").is_none() {
        println!("installing cargo-deny {CARGO_DENY_VERSION}, about three minutes (it checks licences and sources)");
        cargo_install("cargo-deny", CARGO_DENY_VERSION)?;
    }
    Ok(())
}

/// The version of cargo-deny that is installed where there is none.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// The programs that the network tests run.
pub(crate) fn network() -> Result<()> {
    let missing: Vec<_> = NETWORK_TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|&(_, package)| package)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        apt::install(&missing, "the tests run them")
    }
}

/// QEMU and what it boots; returns the folder of the latter.
pub(crate) fn guests() -> Result<PathBuf> {
    if find("qemu-system-x86_64").is_none() {
        apt::install(&["qemu-system-x86"], "the guests run in it")?;
    }
    assets::prepare()
}

fn add_component(component: &str, toolchain: Option<&str>) -> Result<()> {
    let rustup = find_program("rustup").context("rustup is not installed")?;
    let mut command = std::process::Command::new(rustup);
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

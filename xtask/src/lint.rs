//! The verb `lint`: every check runs, and all that failed are named at the end.
//!
//! Advisories are not among them: their database is not in a package registry, and a lint must not depend on the day.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use xtask::{
    ebpf::{Compiler, PACKAGE},
    toolchain::find_program,
};

use crate::{
    process::{cargo, check},
    setup, target_dir,
};

/// The verb `lint`.
pub(crate) fn lint() -> Result<()> {
    setup::lints()?;
    let checks = [
        ("format", format as fn() -> Result<()>),
        ("lints", clippy),
        ("lints of the eBPF programs", clippy_ebpf),
        ("documentation", documentation),
        ("licences, sources and versions", dependencies),
    ];
    let mut failed = Vec::new();
    for (name, run) in checks {
        println!("=== {name} ===");
        if let Err(error) = run() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("all {} checks passed", checks.len());
        Ok(())
    } else {
        bail!("these checks failed: {}", failed.join(", "))
    }
}

fn format() -> Result<()> {
    check(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    let arguments = [
        "clippy",
        "--locked",
        "--workspace",
        "--exclude",
        PACKAGE,
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    check(cargo().args(arguments))
}

fn clippy_ebpf() -> Result<()> {
    let compiler = Compiler::find(&target_dir()?)?;
    check(
        compiler
            .clippy()?
            .args(["--locked", "--no-deps", "--", "--deny", "warnings"]),
    )
}

fn documentation() -> Result<()> {
    let arguments = [
        "doc",
        "--locked",
        "--workspace",
        "--exclude",
        PACKAGE,
        "--no-deps",
        "--document-private-items",
    ];
    check(cargo().args(arguments).env("RUSTDOCFLAGS", "--deny warnings"))
}

fn dependencies() -> Result<()> {
    let deny = find_program("cargo-deny").unwrap_or_else(|| Path::new("cargo-deny").to_owned());
    let arguments = [
        "--offline",
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ];
    check(Command::new(deny).args(arguments).current_dir(xtask::workspace()))
}

//! The verb `lint`: every check runs, and all that failed are named at the end.
//!
//! Advisories are not among them: their database is not in a package registry, and a lint must not depend on the day.

use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::{
    ebpf::{Compiler, PACKAGES},
    process::{cargo, check},
    workspace,
};

use crate::{compliance, setup, target_dir};

/// The verb `lint`.
pub(crate) fn lint() -> Result<()> {
    setup::compiler()?;
    setup::lints()?;
    let checks = [
        ("format", format as fn() -> Result<()>),
        ("lints", clippy),
        ("lints of the eBPF programs", clippy_ebpf),
        ("documentation", documentation),
        ("compliance and security pages", compliance::check),
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
    check(cargo().args(words("fmt --all --check")))
}

fn clippy() -> Result<()> {
    let arguments = "clippy --locked --workspace --exclude envnet-ebpf --exclude envnet-bench-ebpf --all-targets -- --deny warnings";
    check(cargo().args(words(arguments)))
}

fn clippy_ebpf() -> Result<()> {
    let compiler = Compiler::find_with_clippy(&target_dir()?)?;
    PACKAGES.iter().try_for_each(|package| {
        let arguments = words("--locked --no-deps -- --deny warnings");
        check(compiler.clippy(package)?.args(arguments))
    })
}

fn documentation() -> Result<()> {
    let arguments =
        "doc --locked --workspace --exclude envnet-ebpf --exclude envnet-bench-ebpf --no-deps --document-private-items";
    // These pages are for who works on the code, and show what is private, too.
    let flags = "--deny warnings --allow rustdoc::private_intra_doc_links";
    check(cargo().args(words(arguments)).env("RUSTDOCFLAGS", flags))
}

fn dependencies() -> Result<()> {
    let deny = setup::cargo_deny()?.context("there is no cargo-deny")?;
    let arguments = "--locked check --hide-inclusion-graph licenses bans sources";
    check(Command::new(deny).args(words(arguments)).current_dir(workspace()))
}

fn words(arguments: &str) -> impl Iterator<Item = &str> {
    arguments.split(' ')
}

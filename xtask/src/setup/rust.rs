//! What building and linting need of Rust: a compiler for the BPF target, bpf-linker, clippy, rustfmt and cargo-deny.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use xtask::{
    linker::{VERSION as BPF_LINKER_VERSION, find_linker},
    process::{cargo, check, find, output},
    toolchain::{Kind, Toolchain, VARIABLE},
    tools::{self, Preference},
};

use super::{private, system::Distribution, table::Set};

/// The version of cargo-deny that is built where there is none.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// What compiling the eBPF programs needs.
pub(crate) fn compiler() -> Result<()> {
    toolchain(Toolchain::choose)?;
    linker()
}

/// What linting the eBPF programs needs.
fn compiler_with_clippy() -> Result<()> {
    toolchain(Toolchain::choose_with_clippy)?;
    linker()
}

fn toolchain(choose: fn() -> Result<Toolchain>) -> Result<()> {
    let Err(reason) = choose() else {
        return Ok(());
    };
    let forced = std::env::var(VARIABLE).ok();
    let by_hand = || {
        format!(
            "no compiler for the BPF target can be had: {reason:#}. One way out: `{}`",
            Distribution::here().compiler()
        )
    };
    if !Kind::candidates(forced.as_deref(), Preference::get()?)?.contains(&Kind::Private) {
        bail!("{}", by_hand());
    }
    private::fetch(Set::Compiler).with_context(by_hand)?;
    choose().map(drop).with_context(by_hand)
}

fn linker() -> Result<()> {
    if let Err(reason) = find_linker() {
        println!("building bpf-linker {BPF_LINKER_VERSION}, about two minutes ({reason:#})");
        cargo_install("bpf-linker", BPF_LINKER_VERSION)?;
        find_linker()?;
    }
    Ok(())
}

/// rustfmt, clippy for both targets, and cargo-deny.
pub(crate) fn lints() -> Result<()> {
    for (verb, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        // Asked by running it: rustup has a proxy of its name even where the component is not installed.
        output(cargo().args([verb, "--version"])).with_context(|| {
            format!("`cargo {verb}` must come with the compiler that builds the workspace: `rustup component add {component}`")
        })?;
    }
    compiler_with_clippy()?;
    if cargo_deny()?.is_none() {
        println!("building cargo-deny {CARGO_DENY_VERSION}, about three minutes (it checks licences and sources)");
        cargo_install("cargo-deny", CARGO_DENY_VERSION)?;
    }
    Ok(())
}

/// The cargo-deny in use.
pub(crate) fn cargo_deny() -> Result<Option<PathBuf>> {
    let private = tools::cargo_root().join("bin/cargo-deny");
    let system = match Preference::get()? {
        Preference::System => find("cargo-deny"),
        Preference::Private => None,
    };
    Ok(system.or_else(|| private.is_file().then_some(private)))
}

/// Builds a program into the folder of private copies.
fn cargo_install(package: &str, version: &str) -> Result<()> {
    let mut install = cargo();
    install.args([
        "install",
        "--quiet",
        "--locked",
        "--version",
        version,
        package,
        "--root",
    ]);
    check(install.arg(tools::cargo_root()).env_remove("CARGO_TARGET_DIR"))
}

/// For `--system`: the same into the user's own toolchains.
pub(super) fn install_for_user() -> Result<()> {
    if Toolchain::choose().is_err() && find("rustup").is_some() {
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
        check(rustup.env("RUSTUP_AUTO_INSTALL", "0"))?;
    }
    for (package, version, missing) in [
        ("bpf-linker", BPF_LINKER_VERSION, find_linker().is_err()),
        ("cargo-deny", CARGO_DENY_VERSION, cargo_deny()?.is_none()),
    ] {
        if missing {
            println!("cargo install --locked --version {version} {package}");
            check(cargo().args(["install", "--quiet", "--locked", "--version", version, package]))?;
        }
    }
    Toolchain::choose().map(drop)
}

/// Whether a package with a compiler or its source is as new as the workspace asks; other packages always are.
pub(super) fn is_new_enough(package: &str, version: &str) -> bool {
    !package.starts_with("rust") || minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION"))
}

fn minor(version: &str) -> Option<u32> {
    version
        .strip_prefix("1.")?
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_versions_compare_as_numbers() {
        assert!(is_new_enough("rustc-web", "1.96.0+dfsg1-1~deb12u2"));
        assert!(!is_new_enough("rustc", "1.63.0+dfsg1-2"));
        assert!(!is_new_enough("rustc", "0.66.0"));
        assert!(is_new_enough("libllvm22", "1:22.1.8-1~deb12u1"));
    }
}

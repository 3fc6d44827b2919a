//! Set-up: finds what the verbs need, and makes private copies of what is missing. Nothing on the system is changed.

mod debian;
mod private;
mod rust;
mod show;
mod system;
mod table;

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use xtask::{
    process::{find, output},
    tools::Preference,
};

use self::table::{TOOLS, Tool};
pub(crate) use self::{
    debian::Apt,
    rust::{cargo_deny, compiler, lints},
    system::Distribution,
};
use crate::kernels;

/// Options of the verb `setup`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only print a table: each tool, where it is, its version, who needs it, and how it would be got.
    #[arg(long, conflicts_with = "system")]
    check: bool,
    /// Install system packages instead of private copies; prints the command where there is no apt.
    #[arg(long)]
    system: bool,
}

/// What a laboratory runs.
const LABORATORY: [&str; 3] = ["ip", "tc", "ethtool"];
/// What network tests run besides.
const NETWORK_TESTS: [&str; 1] = ["iptables"];
/// What envnet is compared with or measured by.
const COMPARISONS: [&str; 4] = ["iptables-nft-restore", "iptables-legacy-restore", "nft", "iperf3"];

/// The verb `setup`.
pub(crate) fn setup(options: &Options) -> Result<()> {
    if options.check {
        show::table()
    } else if options.system {
        let missing: Vec<_> = TOOLS
            .iter()
            .filter(|tool| !matches!(on_system(tool), Found::Good { .. }))
            .collect();
        system::install(&missing)?;
        rust::install_for_user()
    } else {
        everything()
    }
}

/// Goes on past what cannot be had, so that one run names all of it.
fn everything() -> Result<()> {
    let parts = [compiler(), lints(), comparisons(), service(), machines().map(drop)];
    let failures: Vec<_> = parts
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("\n  {error:#}"))
        .collect();
    if failures.is_empty() {
        println!("everything is there; `cargo xtask setup --check` shows where");
        Ok(())
    } else {
        bail!("not everything can be had:{}", failures.concat())
    }
}

/// The programs that a laboratory runs.
pub(crate) fn laboratory() -> Result<()> {
    need(&LABORATORY)
}

/// The programs that the network tests run.
pub(crate) fn network_tests() -> Result<()> {
    need(&[&LABORATORY[..], &NETWORK_TESTS].concat())
}

/// The programs that the benchmark runs.
pub(crate) fn comparisons() -> Result<()> {
    need(&[&LABORATORY[..], &NETWORK_TESTS, &COMPARISONS].concat())
}

/// The program that checks the unit file.
pub(crate) fn service() -> Result<()> {
    need(&["systemd-analyze"])
}

/// QEMU and what it boots; returns the folder of the latter.
pub(crate) fn machines() -> Result<PathBuf> {
    qemu()?;
    kernels::for_machines()
}

/// QEMU alone.
pub(crate) fn qemu() -> Result<()> {
    need(&["qemu-system-x86_64"])
}

/// What unpacks a kernel module.
pub(crate) fn unpacker(program: &str) -> Result<()> {
    need(&[program])
}

/// Sees to it that programs are found in PATH; the error names all that cannot be had.
fn need(names: &[&str]) -> Result<()> {
    let failures: Vec<_> = TOOLS
        .iter()
        .filter(|tool| names.contains(&tool.name))
        .filter_map(|tool| provide(tool).err())
        .map(|error| format!("{error:#}"))
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        bail!("{}", failures.join("; "))
    }
}

fn provide(tool: &Tool) -> Result<()> {
    let reason = match (Preference::get()?, on_system(tool)) {
        (Preference::System, Found::Good { .. }) => return private::link(tool, false),
        (Preference::System, found) => found.lack(tool),
        (Preference::Private, _) => format!("private copies are asked for by {}", xtask::tools::VARIABLE),
    };
    private::fetch(tool.set)
        .and_then(|()| private::link(tool, true))
        .map_err(|cause| {
            let (name, command) = (tool.name, Distribution::here().command(&[tool]));
            anyhow!("{name} cannot be had: {reason}, and no private copy: {cause:#}. One way out, as root: `{command}`")
        })
}

/// The system's copy of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// It is good enough.
    Good { path: PathBuf, version: String },
    /// It is too old or does not run.
    Bad { path: PathBuf, reason: String },
    /// There is none.
    Missing,
}

impl Found {
    /// Why the system's copy is not taken.
    fn lack(&self, tool: &Tool) -> String {
        match self {
            Self::Good { path, .. } => format!("{} is good enough", path.display()),
            Self::Bad { path, reason } => format!("{} {reason}", path.display()),
            Self::Missing => format!("there is no {} in PATH", tool.name),
        }
    }
}

fn on_system(tool: &Tool) -> Found {
    let Some(path) = find(tool.name) else {
        return Found::Missing;
    };
    let said = match ask_version(tool, &path) {
        Ok(said) => said,
        Err(error) => {
            return Found::Bad {
                path,
                reason: format!("does not run ({error:#})"),
            };
        }
    };
    let (major, minor) = tool.oldest;
    match version(&said) {
        Some((text, number)) if number >= tool.oldest => Found::Good { path, version: text },
        Some((text, _)) => Found::Bad {
            path,
            reason: format!("is version {text}, older than {major}.{minor}"),
        },
        None => Found::Bad {
            path,
            reason: format!("tells no version by {}", tool.version),
        },
    }
}

/// What a tool's program says of its version. Some programs are several tools, and go by the name that they are called by.
fn ask_version(tool: &Tool, program: &Path) -> Result<String> {
    output(Command::new(program).arg0(tool.name).arg(tool.version))
}

/// The first thing in a text that looks like a version: two numbers with a dot between them.
fn version(text: &str) -> Option<(String, (u32, u32))> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.into_iter().find_map(|word| {
        let word = word.trim_matches('.');
        let mut numbers = word.split('.').map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((word.to_owned(), (major, minor)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, expected) in [
            ("ip utility, iproute2-6.1.0, libbpf 1.1.2", Some((6, 1))),
            ("iptables v1.8.9 (nf_tables)", Some((1, 8))),
            ("ethtool version 6.1", Some((6, 1))),
            ("nftables v1.0.6 (Lester Gooch #5)", Some((1, 0))),
            ("iperf 3.12 (cJSON 1.7.15)\nLinux host 6.18.0", Some((3, 12))),
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)",
                Some((7, 2)),
            ),
            ("systemd 252 (252.39-1~deb12u2)", Some((252, 39))),
            ("xz (XZ Utils) 5.4.1", Some((5, 4))),
            ("*** Zstandard CLI (64-bit) v1.5.4, by Yann Collet ***", Some((1, 5))),
            ("ip utility, iproute2-ss190107", None),
            ("", None),
        ] {
            assert_eq!(version(said).map(|(_, number)| number), expected, "{said}");
        }
    }

    #[test]
    fn every_tool_that_is_needed_is_in_the_table() {
        for name in LABORATORY.iter().chain(&NETWORK_TESTS).chain(&COMPARISONS) {
            assert!(TOOLS.iter().any(|tool| tool.name == *name), "{name}");
        }
    }
}

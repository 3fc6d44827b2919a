//! Debian packages: what there is, installing it, and fetching without installing.

use std::{path::Path, process::Command, sync::Once};

use anyhow::{Context, Result, ensure};

use xtask::process::{Privilege, check, describe, find, output};

/// Installs packages, with nothing recommended and nothing removed.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let by_hand = if find("apt-get").is_some() {
        "as root: apt-get install --no-install-recommends"
    } else {
        "install by hand:"
    };
    try_install(packages, why).with_context(|| format!("{by_hand} {} ({why})", packages.join(" ")))
}

fn try_install(packages: &[&str], why: &str) -> Result<()> {
    ensure!(find("apt-get").is_some(), "this system has no apt-get");
    let privilege = Privilege::find("apt-get install")?;
    println!("installing {} ({why})", packages.join(" "));
    for package in packages {
        ensure!(candidate(package).is_some(), "apt knows no package {package}");
    }
    let mut apt = privilege.command("apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"])
        .args(packages);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    if check(&mut apt).is_err() {
        // The lists may name versions that the mirror has replaced.
        update()?;
        check(&mut apt)?;
    }
    Ok(())
}

/// The version of a package that apt would install, asking the mirror once when the lists here do not have it.
fn candidate(package: &str) -> Option<String> {
    static UPDATED: Once = Once::new();
    let policy =
        || parse_candidate(&output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C")).ok()?);
    policy().or_else(|| {
        UPDATED.call_once(|| {
            if let Err(error) = update() {
                eprintln!("warning: {error:#}");
            }
        });
        policy()
    })
}

fn update() -> Result<()> {
    let mut update = Privilege::find("apt-get update")?.command("apt-get");
    println!(
        "refreshing the package lists ({})",
        describe(update.args(["update", "--quiet"]))
    );
    check(&mut update)
}

/// The package that a metapackage stands for: its first dependency that begins with `prefix`.
pub(crate) fn resolve(metapackage: &str, prefix: &str) -> Result<String> {
    ensure!(candidate(metapackage).is_some(), "apt knows no package {metapackage}");
    let depends = output(
        Command::new("apt-cache")
            .args(["depends", metapackage])
            .env("LC_ALL", "C"),
    )?;
    parse_dependency(&depends, prefix).with_context(|| format!("{metapackage} depends on no {prefix}*"))
}

/// Downloads packages, which needs no root, and unpacks them into `folder`.
pub(crate) fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    let download = || {
        output(
            Command::new("apt-get")
                .args(["download", "--quiet"])
                .args(packages)
                .current_dir(folder),
        )
    };
    if download().is_err() {
        update()?;
        download()?;
    }
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            check(Command::new("dpkg-deb").arg("--extract").arg(path).arg(folder))?;
        }
    }
    Ok(())
}

/// Reads `apt-cache policy` for one package.
fn parse_candidate(policy: &str) -> Option<String> {
    let candidate = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (candidate != "(none)").then(|| candidate.to_owned())
}

/// Reads `apt-cache depends`; "|Depends:" marks the first of several alternatives.
fn parse_dependency(depends: &str, prefix: &str) -> Option<String> {
    let names = depends
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
    names
        .into_iter()
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
}

/// Whether apt can install a Rust package of at least this version ("1.95").
pub(crate) fn offers_rust(package: &str, needed: &str) -> bool {
    candidate(package).is_some_and(|version| rust_minor(&version) >= rust_minor(needed))
}

fn rust_minor(version: &str) -> Option<u32> {
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
    fn candidate_is_read() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(parse_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn rust_versions_compare_as_numbers() {
        assert!(rust_minor("1.96.0+dfsg1-1~deb12u2") > rust_minor("1.95"));
        assert!(rust_minor("1.63.0+dfsg1-2") < rust_minor("1.95"));
        assert_eq!(rust_minor("0.66.0"), None);
    }

    #[test]
    fn metapackage_is_resolved() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-base\n |Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(
            parse_dependency(depends, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            parse_dependency("x\n  Recommends: linux-image-1\n", "linux-image-"),
            None
        );
    }
}

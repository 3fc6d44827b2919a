//! The project's own copies of tools: where they are, and what finds them.
//!
//! `cargo xtask` never changes the system. It takes a tool from PATH when that is good enough, and unpacks a private copy
//! into `.tools` in the workspace otherwise. Git ignores the folder, and `cargo clean` leaves it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::workspace;

/// Says which copies of tools are taken: `private` ignores what the system has.
pub const VARIABLE: &str = "ENVNET_TOOLS";

/// Which copies of tools are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// Those in PATH when they are good enough, private copies otherwise.
    System,
    /// Private copies only. CI tests with these, whatever its machine has.
    Private,
}

impl Preference {
    /// Reads [`VARIABLE`].
    pub fn get() -> Result<Self> {
        Self::parse(env::var(VARIABLE).ok().as_deref())
    }

    fn parse(value: Option<&str>) -> Result<Self> {
        match value {
            None | Some("" | "system") => Ok(Self::System),
            Some("private") => Ok(Self::Private),
            Some(other) => bail!("{VARIABLE} is `{other}`; it can be `system` (the default) or `private`"),
        }
    }
}

/// The folder of all private copies.
#[must_use]
pub fn folder() -> PathBuf {
    workspace().join(".tools")
}

/// The folder with a link to each private copy in use, which goes first in PATH.
#[must_use]
pub fn links() -> PathBuf {
    folder().join("path")
}

/// Where `cargo install` puts private copies.
#[must_use]
pub fn cargo_root() -> PathBuf {
    folder().join("cargo")
}

/// The environment in which private copies in use are found, and find their own files.
#[must_use]
pub fn environment() -> Vec<(&'static str, OsString)> {
    let links = links();
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [links.clone()]
        .into_iter()
        .chain(env::split_paths(&path).filter(|folder| *folder != links))
        // An ordinary user's PATH lacks these.
        .chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut variables = Vec::new();
    if let Ok(path) = env::join_paths(folders) {
        variables.push(("PATH", path));
    }
    // These programs have the paths of their files built in.
    for (link, variable, files) in [
        ("iptables", "XTABLES_LIBDIR", "xtables"),
        ("systemd-analyze", "SYSTEMD_UNIT_PATH", "systemd/system"),
    ] {
        if let Some(found) = root_of(&links.join(link)).and_then(|root| library_folder(&root, files)) {
            variables.push((variable, found.into()));
        }
    }
    variables
}

/// The folder of libraries of this machine's architecture, as Debian names it below `lib`.
#[must_use]
pub fn triplet() -> String {
    format!("{}-linux-gnu", env::consts::ARCH)
}

/// The unpacked root that a link leads into.
fn root_of(link: &Path) -> Option<PathBuf> {
    let program = link.canonicalize().ok()?;
    let name = program
        .strip_prefix(folder().canonicalize().ok()?)
        .ok()?
        .iter()
        .next()?;
    Some(folder().join(name))
}

/// A folder below one of the library folders of an unpacked root, with and without the architecture's name.
fn library_folder(root: &Path, name: &str) -> Option<PathBuf> {
    let triplet = triplet();
    let parents = ["usr/lib", "lib"].map(|parent| root.join(parent));
    parents
        .iter()
        .flat_map(|parent| [parent.join(&triplet).join(name), parent.join(name)])
        .find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preference_is_read() {
        assert_eq!(Preference::parse(None).expect("default"), Preference::System);
        assert_eq!(Preference::parse(Some("private")).expect("known"), Preference::Private);
        let error = Preference::parse(Some("mine")).expect_err("unknown").to_string();
        assert!(error.contains("ENVNET_TOOLS is `mine`"), "{error}");
    }

    #[test]
    fn private_copies_come_first_in_path() {
        let environment = environment();
        let (_, path) = environment
            .iter()
            .find(|(variable, _)| *variable == "PATH")
            .expect("PATH can be joined");
        assert_eq!(env::split_paths(path).next(), Some(links()));
    }
}

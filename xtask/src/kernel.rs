//! Older kernels for the tests: fetched as packages, unpacked, and given to QEMU by the laboratory (`envnet-lab kernel`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{
    apt,
    assets::{self, copy, decompress, find_module},
    target_dir,
};

/// A kernel that the tests can run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's; without tcx.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, which Debian 12 offers, too.
    #[value(name = "6.12")]
    V6_12,
}

/// What the data path and the tests use and a distribution builds as modules.
const MODULES: [&str; 9] = [
    "veth",
    "bridge",
    "macvlan",
    "tun",
    "sch_ingress",
    "cls_bpf",
    // For iptables, on which the classic setup is rebuilt.
    "nft_compat",
    "nft_chain_nat",
    "xt_nat",
];

impl Kernel {
    /// The version, as people write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// Packages that stand for the newest build of it.
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["linux-image-cloud-amd64"],
            Self::V6_12 => &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"],
        }
    }

    /// Makes the folder that `envnet-lab kernel` takes unless it is there, and returns it.
    pub(crate) fn prepare(self) -> Result<PathBuf> {
        let folder = target_dir()?.join("kernels").join(self.name());
        // Made last.
        if folder.join("modules/order").is_file() {
            return Ok(folder);
        }
        let work = folder.with_file_name(format!("{}-{}", self.name(), std::process::id()));
        let made = self.make(&work, &folder);
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
        }
        made.with_context(|| format!("Linux {} for the tests", self.name()))?;
        Ok(folder)
    }

    fn make(self, work: &Path, folder: &Path) -> Result<()> {
        let prefix = format!("linux-image-{}.", self.name());
        let package = self
            .packages()
            .iter()
            .find_map(|package| apt::resolve(package, &prefix).ok());
        let package = package.with_context(|| format!("apt offers no {prefix}*, which Debian 12 has"))?;
        println!("fetching {package} and busybox-static, into {}", folder.display());
        let (ready, modules) = assets::unpack(&package, work)?;
        let mut order = Vec::new();
        for name in MODULES {
            add_module(&modules, name, &ready.join("modules"), &mut order)?;
        }
        fs::write(ready.join("modules/order"), order.join("\n"))?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::rename(&ready, folder).with_context(|| format!("renaming {} to {}", ready.display(), folder.display()))
    }
}

/// Copies a module after those that it depends on, and notes the order; one that is built in needs neither.
fn add_module(modules: &Path, name: &str, to: &Path, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|present| present == name) {
        return Ok(());
    }
    let Some(module) = find_module(&modules.join("kernel"), name)? else {
        let builtin = fs::read_to_string(modules.join("modules.builtin")).context("the list of built-in modules")?;
        ensure!(
            builtin.lines().any(|line| line.ends_with(&format!("/{name}.ko"))),
            "the kernel has no module {name}"
        );
        return Ok(());
    };
    let file = module.file_name().unwrap_or_default();
    let copied = to.join(file);
    copy(&module, &copied)?;
    decompress(&copied)?;
    let plain = to.join(format!("{name}.ko"));
    let content = fs::read(&plain).with_context(|| format!("{} cannot be read", plain.display()))?;
    for needed in dependencies(&content) {
        add_module(modules, &needed, to, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// The modules that a module names in its section `.modinfo`, a list of strings that end with a zero byte.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"depends=";
    let strings = module.split(|&byte| byte == 0);
    let list = strings.into_iter().find_map(|string| string.strip_prefix(KEY));
    let names = list.unwrap_or_default().split(|&byte| byte == b',');
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let module = |depends: &str| format!("\x7fELF\0license=GPL\0{depends}\0name=bridge\0").into_bytes();
        assert_eq!(dependencies(&module("depends=stp,llc")), ["stp", "llc"]);
        assert!(dependencies(&module("depends=")).is_empty());
        assert!(dependencies(&module("alias=x")).is_empty());
    }
}

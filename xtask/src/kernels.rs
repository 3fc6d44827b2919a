//! Kernels that QEMU boots: one for virtual machines, and older ones for the tests. Each is a folder with `vmlinuz`, a
//! static `busybox`, and `modules/*.ko` to be loaded as `modules/order` says.
//!
//! Packages are fetched and unpacked, not installed, so neither root nor a change to this system is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use xtask::{process::check, tools};

use crate::setup::{self, Apt, Distribution};

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

/// Metapackages of the newest kernel for virtual machines: Debian's and Ubuntu's.
const NEWEST: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// A network card of a virtual machine.
const MACHINE_MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];
/// What the data path and the tests use and a distribution builds as modules.
const TEST_MODULES: [&str; 9] = [
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
        let prefix = format!("linux-image-{}.", self.name());
        prepare(&folder(self.name()), self.packages(), &prefix, &TEST_MODULES)
            .with_context(|| format!("Linux {} for the tests cannot be had", self.name()))
    }
}

/// Makes the folder of the kernel that virtual machines boot unless it is there, and returns it.
pub(crate) fn for_machines() -> Result<PathBuf> {
    let folder = machines_folder();
    prepare(&folder, &NEWEST, "linux-image-", &MACHINE_MODULES).with_context(|| {
        format!(
            "no kernel for virtual machines can be had; by hand: from {} put vmlinuz, busybox, modules/*.ko (uncompressed) and \
             modules/order (their names in the order of loading) into {}",
            Distribution::here().kernel(),
            folder.display()
        )
    })
}

/// The folder of the kernel that virtual machines boot.
pub(crate) fn machines_folder() -> PathBuf {
    folder("machines")
}

fn folder(name: &str) -> PathBuf {
    tools::folder().join("kernels").join(name)
}

/// Makes a folder unless it is there. It appears under its name by one rename, so it is never seen half made.
fn prepare(folder: &Path, metapackages: &[&str], prefix: &str, modules: &[&str]) -> Result<PathBuf> {
    if folder.join("modules/order").is_file() {
        return Ok(folder.to_owned());
    }
    let mut work = folder.as_os_str().to_owned();
    work.push(format!(".{}", process::id()));
    let work = PathBuf::from(work);
    let made = make(&work, folder, metapackages, prefix, modules);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("{} cannot be removed", work.display()))?;
    }
    made?;
    Ok(folder.to_owned())
}

fn make(work: &Path, folder: &Path, metapackages: &[&str], prefix: &str, modules: &[&str]) -> Result<()> {
    let apt = Apt::get()?;
    let image = metapackages
        .iter()
        .find_map(|package| apt.resolve(package, prefix).ok());
    let image = image.with_context(|| format!("the sources of apt offer no {prefix}*"))?;
    let (unpacked, ready) = (work.join("unpacked"), work.join("ready"));
    fs::create_dir_all(ready.join("modules"))?;
    // Ubuntu has a package of its own for modules.
    let separate = image.replacen("linux-image-", "linux-modules-", 1);
    let mut packages = vec![image.as_str(), "busybox-static"];
    packages.extend(apt.candidate(&separate).is_some().then_some(separate.as_str()));
    let fetched = apt.unpack(&packages, &unpacked)?;

    let release = image.trim_start_matches("linux-image-");
    copy(
        &unpacked.join(format!("boot/vmlinuz-{release}")),
        &ready.join("vmlinuz"),
    )?;
    let busybox = first_existing(&unpacked, &["bin/busybox", "usr/bin/busybox"])?;
    copy(&busybox, &ready.join("busybox"))?;
    // A merged-/usr package has the modules under usr/lib.
    let available = format!("lib/modules/{release}");
    let available = first_existing(&unpacked, &[&available, &format!("usr/{available}")])?;
    let mut order = Vec::new();
    for name in modules {
        add_module(&available, name, &ready.join("modules"), &mut order)?;
    }
    fs::write(ready.join("modules/order"), order.join("\n") + "\n")?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&ready, folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    println!(
        "fetched {image} and busybox-static ({}), into {}: QEMU boots them",
        fetched.size(),
        folder.display()
    );
    Ok(())
}

/// Copies a module after those that it depends on, and notes the order; one that is built in needs neither.
fn add_module(available: &Path, name: &str, to: &Path, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|present| present == name) {
        return Ok(());
    }
    let Some(module) = find_module(&available.join("kernel"), name)? else {
        let builtin = fs::read_to_string(available.join("modules.builtin")).context("the list of built-in modules")?;
        ensure!(
            builtin.lines().any(|line| line.ends_with(&format!("/{name}.ko"))),
            "the kernel has no module {name}"
        );
        return Ok(());
    };
    let copied = to.join(module.file_name().unwrap_or_default());
    copy(&module, &copied)?;
    decompress(&copied)?;
    let plain = to.join(format!("{name}.ko"));
    let content = fs::read(&plain).with_context(|| format!("{} cannot be read", plain.display()))?;
    for needed in dependencies(&content) {
        add_module(available, &needed, to, order)?;
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

/// Searches a folder and those in it for a module, compressed or not.
fn find_module(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find_module(&path, name)? {
                return Ok(Some(found));
            }
        } else if entry
            .file_name()
            .to_str()
            .and_then(|file| file.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with(".ko"))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The guests' busybox loads only modules that are not compressed.
fn decompress(module: &Path) -> Result<()> {
    let program = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("ko") => return Ok(()),
        _ => bail!("{} is compressed in an unknown way", module.display()),
    };
    setup::unpacker(program)?;
    let mut unpack = Command::new(program);
    unpack.args(["--decompress", "--quiet"]).arg(module);
    check(unpack.envs(tools::environment()))?;
    // xz removes the compressed file, zstd keeps it.
    if module.exists() {
        fs::remove_file(module).context("a compressed module cannot be removed")
    } else {
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))
}

fn first_existing(root: &Path, candidates: &[&str]) -> Result<PathBuf> {
    let mut paths = candidates.iter().map(|candidate| root.join(candidate));
    let found = paths.find(|path| path.exists());
    found.with_context(|| format!("the packages have none of {}", candidates.join(", ")))
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

//! What QEMU boots: a distribution kernel, the modules of its network card, and busybox for the rest.
//!
//! Packages are fetched and unpacked, not installed, so neither root nor a change to this system is needed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use xtask::process::{check, find};

use crate::{apt, target_dir};

/// Stands for the newest kernel that Debian makes for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";
/// The modules of a virtio network card on PCI and all they depend on.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];

/// Makes the folder with the guest assets unless it is there, and returns it.
///
/// The folder appears under its name by one rename, so it is never seen half made.
pub(crate) fn prepare() -> Result<PathBuf> {
    let assets = target_dir()?.join("lab-assets");
    if is_complete(&assets) {
        return Ok(assets);
    }
    let by_hand = format!(
        "put vmlinuz, a static busybox and modules/{{{}}}.ko (uncompressed) into {} by hand",
        MODULES.join(","),
        assets.display()
    );
    let work = assets.with_file_name(format!("lab-assets.{}", std::process::id()));
    let made = make(&work, &assets);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    made.context(by_hand)?;
    Ok(assets)
}

fn is_complete(assets: &Path) -> bool {
    let modules = MODULES.iter().map(|module| format!("modules/{module}.ko"));
    ["vmlinuz".to_owned(), "busybox".to_owned()]
        .into_iter()
        .chain(modules)
        .all(|file| assets.join(file).is_file())
}

/// Unpacks a kernel's package and busybox below `work`. Returns the folder that has `vmlinuz`, `busybox` and an empty `modules`
/// now, and the folder of the package's modules.
pub(crate) fn unpack(kernel: &str, work: &Path) -> Result<(PathBuf, PathBuf)> {
    let (unpacked, ready) = (work.join("unpacked"), work.join("ready"));
    fs::create_dir_all(&unpacked)?;
    fs::create_dir_all(ready.join("modules"))?;
    apt::unpack(&[kernel, "busybox-static"], &unpacked)?;
    let release = kernel.trim_start_matches("linux-image-");
    let image = unpacked.join("boot").join(format!("vmlinuz-{release}"));
    copy(&image, &ready.join("vmlinuz"))?;
    let busybox = first_existing(&unpacked, &["bin/busybox", "usr/bin/busybox"])?;
    copy(&busybox, &ready.join("busybox"))?;
    // A merged-/usr package has the modules under usr/lib.
    let modules = format!("lib/modules/{release}");
    let modules = first_existing(&unpacked, &[&modules, &format!("usr/{modules}")])?;
    Ok((ready, modules))
}

fn make(work: &Path, assets: &Path) -> Result<()> {
    ensure!(
        find("apt-get").is_some() && find("dpkg-deb").is_some(),
        "this system has no apt-get and dpkg-deb"
    );
    let kernel = apt::resolve(KERNEL, "linux-image-")?;
    println!(
        "fetching {kernel} and busybox-static for the guests, into {}",
        assets.display()
    );
    let (ready, modules) = unpack(&kernel, work)?;
    let modules = modules.join("kernel");
    for name in MODULES {
        let module = find_module(&modules, name)?.with_context(|| format!("{kernel} has no module {name}"))?;
        let copied = ready.join("modules").join(module.file_name().unwrap_or_default());
        copy(&module, &copied)?;
        decompress(&copied)?;
    }
    ensure!(is_complete(&ready), "{kernel} did not have what was expected");
    if assets.exists() {
        fs::remove_dir_all(assets)?;
    }
    fs::rename(&ready, assets).with_context(|| format!("renaming {} to {}", ready.display(), assets.display()))
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

fn first_existing(root: &Path, candidates: &[&str]) -> Result<PathBuf> {
    let found = candidates
        .iter()
        .map(|candidate| root.join(candidate))
        .find(|path| path.exists());
    found.with_context(|| format!("the packages have none of {}", candidates.join(", ")))
}

/// Searches a folder and those in it for a module, compressed or not.
pub(crate) fn find_module(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
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
pub(crate) fn decompress(module: &Path) -> Result<()> {
    let (program, package) = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => ("xz", "xz-utils"),
        Some("zst") => ("zstd", "zstd"),
        _ => return Ok(()),
    };
    if find(program).is_none() {
        apt::install(&[package], "the kernel's modules are compressed")?;
    }
    check(Command::new(program).args(["--decompress", "--quiet"]).arg(module))?;
    // xz removes the compressed file, zstd keeps it.
    if module.exists() {
        fs::remove_file(module).context("removing a compressed module")
    } else {
        Ok(())
    }
}

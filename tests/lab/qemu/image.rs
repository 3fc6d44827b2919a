//! What guests boot: a distribution's kernel and an initial RAM disk with busybox, the modules of virtio-net and one script.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::cpio::Archive;

/// The folder that holds `vmlinuz`, `busybox` (a static one), `modules/<name>.ko`, and the names in the order of loading in
/// `modules/order`.
#[derive(Clone, Debug)]
pub struct Assets(PathBuf);

impl Assets {
    /// Takes the folder after a look that the files are there.
    pub fn open(directory: &Path) -> Result<Self> {
        let assets = Self(directory.to_owned());
        for file in [assets.kernel(), assets.busybox(), assets.order()] {
            fs::metadata(&file).with_context(|| {
                format!(
                    "guest assets: {} is missing; `cargo xtask setup` fetches it",
                    file.display()
                )
            })?;
        }
        Ok(assets)
    }

    /// The kernel image.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.0.join("vmlinuz")
    }

    fn busybox(&self) -> PathBuf {
        self.0.join("busybox")
    }

    fn order(&self) -> PathBuf {
        self.0.join("modules/order")
    }

    fn module(&self, name: &str) -> PathBuf {
        self.0.join("modules").join(name).with_extension("ko")
    }
}

/// A kernel and a RAM disk, ready to boot.
#[derive(Clone, Debug)]
pub struct Image {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
}

impl Image {
    /// Writes the RAM disk into `directory`.
    pub fn build(assets: &Assets, directory: &Path) -> Result<Self> {
        let read = |path: PathBuf| fs::read(&path).with_context(|| format!("{} cannot be read", path.display()));
        let mut archive = Archive::default();
        archive.file("init", include_bytes!("init.sh"));
        archive.directory("bin");
        archive.file("bin/busybox", &read(assets.busybox())?);
        archive.directory("modules");
        let order = read(assets.order())?;
        archive.file("modules/order", &order);
        for module in String::from_utf8_lossy(&order).split_whitespace() {
            archive.file(&format!("modules/{module}.ko"), &read(assets.module(module))?);
        }
        let initrd = directory.join("initrd");
        fs::write(&initrd, archive.finish()).with_context(|| format!("{} cannot be written", initrd.display()))?;
        Ok(Self {
            kernel: assets.kernel(),
            initrd,
        })
    }
}

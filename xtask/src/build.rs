//! The verb `build`: the binary to hand out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use xtask::process::{cargo, check};

use crate::{setup, target_dir};

/// The verb `build`.
pub(crate) fn build() -> Result<()> {
    let binary = release(&["envnet"])?.join("envnet");
    println!("{} ({})", binary.display(), size(&binary)?);
    Ok(())
}

/// Builds packages in release mode and returns the folder with their binaries.
pub(crate) fn release(packages: &[&str]) -> Result<PathBuf> {
    setup::compiler()?;
    check(
        cargo()
            .args(["build", "--release"])
            .args(packages.iter().flat_map(|package| ["--package", package])),
    )?;
    Ok(target_dir()?.join("release"))
}

fn size(file: &Path) -> Result<String> {
    let bytes = fs::metadata(file)
        .with_context(|| format!("cargo built no {}", file.display()))?
        .len();
    Ok(format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000))
}

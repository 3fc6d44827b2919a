//! What envnet's build script and `cargo xtask` share: finding a compiler for the BPF target, and using it.

pub mod ebpf;
pub mod linker;
pub mod process;
pub mod toolchain;
pub mod tools;

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

pub use anyhow::Result;

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    // Cargo says where the crate is at run time, too; the folder of the build may have been moved away since.
    static WORKSPACE: LazyLock<PathBuf> = LazyLock::new(|| {
        let now = env::var_os("CARGO_MANIFEST_DIR");
        let package = PathBuf::from(now.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()));
        // A crate of a workspace has no lock file of its own.
        let above = package.ancestors().find(|folder| folder.join("Cargo.lock").exists());
        above.unwrap_or(&package).to_owned()
    });
    &WORKSPACE
}

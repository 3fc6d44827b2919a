//! What envnet's build script and `cargo xtask` share: finding a compiler for the BPF target, and using it.

pub mod ebpf;
pub mod linker;
pub mod process;
pub mod toolchain;

use std::path::Path;

pub use anyhow::Result;

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

//! The linker for the BPF target and the LLVM library it works with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow, ensure};

use crate::{
    process::{find, output},
    tools::{self, Preference},
};

/// The linker's version that is known to work, and that set-up builds where there is none.
pub const VERSION: &str = "0.10.3";
/// Versions that begin so work.
const SERIES: &str = "0.10.";
/// bpf-linker 0.10 is written against this LLVM; it reads the bitcode of this version and of older ones.
pub const LLVM_MAJOR: u32 = 22;

/// Finds a bpf-linker that works here: the system's, in PATH or where `cargo install` puts it, or the private copy.
pub fn find_linker() -> Result<PathBuf> {
    let private = tools::cargo_root().join("bin/bpf-linker");
    let system = match Preference::get()? {
        Preference::System => find("bpf-linker"),
        Preference::Private => None,
    };
    let found = [system, Some(private)]
        .into_iter()
        .flatten()
        .filter(|linker| linker.is_file());
    let mut reason = anyhow!("there is no bpf-linker");
    for linker in found {
        match check_version(&linker) {
            Ok(()) => return Ok(linker),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

fn check_version(linker: &Path) -> Result<()> {
    let version = output(Command::new(linker).arg("--version"))?;
    let version = version.split_whitespace().last().unwrap_or_default();
    ensure!(
        version.starts_with(SERIES),
        "{} is version {version}; {SERIES}x is needed, for LLVM {LLVM_MAJOR}",
        linker.display()
    );
    Ok(())
}

/// Finds libLLVM beside the compiler or where distributions put it.
///
/// bpf-linker opens the first file called libLLVM* in its search path, whatever its version, so it is given one by name.
pub(crate) fn find_llvm(beside_compiler: &[PathBuf]) -> Option<PathBuf> {
    let system = [
        format!("/usr/lib/{}", tools::triplet()).into(),
        format!("/usr/lib/llvm-{LLVM_MAJOR}/lib").into(),
        "/usr/lib64".into(),
    ];
    beside_compiler
        .iter()
        .chain(&system)
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_llvm_library)
        })
}

/// Whether a file name is the library's own ("libLLVM.so.22.1", with rustup's suffix "-rust-1.95.0-stable"), not that of
/// the link or linker script ("libLLVM-22-rust-1.95.0-stable.so") beside it.
fn is_llvm_library(name: &str) -> bool {
    let version = name
        .strip_prefix("libLLVM.so.")
        .and_then(|rest| rest.split(['.', '-']).next());
    version.and_then(|version| version.parse().ok()) == Some(LLVM_MAJOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_llvm_is_taken() {
        assert!(is_llvm_library("libLLVM.so.22.1"));
        assert!(is_llvm_library("libLLVM.so.22.1-rust-1.95.0-stable"));
        for other in [
            "libLLVM.so.23.0",
            "libLLVM-14.so.1",
            "libLLVM-22.so",
            "libLLVM-22-rust-1.95.0-stable.so",
            "libLLVM.so",
        ] {
            assert!(!is_llvm_library(other), "{other}");
        }
    }
}

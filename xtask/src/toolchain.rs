//! The compiler, linker and LLVM library that build the programs in the kernel.
//!
//! `core` for the BPF target is built from source, so the compiler must be one that allows unstable options and has its
//! source beside it: rustup's nightly with rust-src, or a distribution's rustc and source of one version.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Forces one [`Kind`] of toolchain when set, by its name.
pub const VARIABLE: &str = "ENVNET_EBPF_TOOLCHAIN";
/// The linker's version that is known to work; `cargo xtask setup` installs it.
pub const BPF_LINKER_VERSION: &str = "0.10.3";
/// Versions that begin so work.
const BPF_LINKER_SERIES: &str = "0.10.";
/// bpf-linker 0.10 is written against this LLVM; it reads the bitcode of this version and of older ones.
pub const LLVM_MAJOR: u32 = 22;

/// Where a toolchain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rustup's nightly.
    Nightly,
    /// The distribution's packages, under /usr/bin.
    System,
}

impl Kind {
    /// The name used in [`VARIABLE`] and in folder names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::System => "system",
        }
    }

    /// The kinds to try, in order, given the value of [`VARIABLE`].
    pub fn candidates(forced: Option<&str>) -> Result<&'static [Self]> {
        match forced {
            None | Some("") => Ok(&[Self::Nightly, Self::System]),
            Some("nightly") => Ok(&[Self::Nightly]),
            Some("system") => Ok(&[Self::System]),
            Some(other) => bail!("{VARIABLE} is `{other}`; it can be `nightly` or `system`"),
        }
    }
}

/// A compiler that can build for the BPF target.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Where it comes from.
    pub kind: Kind,
    /// Its cargo, not rustup's proxy.
    pub cargo: PathBuf,
    /// Its rustc, not rustup's proxy.
    pub rustc: PathBuf,
    /// A libLLVM that bpf-linker can use.
    pub llvm: PathBuf,
}

impl Toolchain {
    /// The first usable toolchain; the error says what each of them lacks.
    pub fn choose() -> Result<Self> {
        let forced = env::var(VARIABLE).ok();
        let mut reasons = Vec::new();
        for &kind in Kind::candidates(forced.as_deref())? {
            match Self::find(kind) {
                Ok(toolchain) => return Ok(toolchain),
                Err(error) => reasons.push(format!("{}: {error:#}", kind.name())),
            }
        }
        bail!(
            "no Rust toolchain here can build for the BPF target ({})",
            reasons.join("; ")
        )
    }

    fn find(kind: Kind) -> Result<Self> {
        let (cargo, rustc) = match kind {
            Kind::Nightly => (rustup_which("cargo")?, rustup_which("rustc")?),
            Kind::System => ("/usr/bin/cargo".into(), "/usr/bin/rustc".into()),
        };
        for program in [&cargo, &rustc] {
            ensure!(program.exists(), "there is no {}", program.display());
        }
        let version = Version::parse(&output(Command::new(&rustc).arg("-vV"))?)?;
        let wanted = Version::minor_of(env!("CARGO_PKG_RUST_VERSION")).context("rust-version of the workspace")?;
        ensure!(
            version.minor >= wanted,
            "{} is 1.{}, older than 1.{wanted}",
            rustc.display(),
            version.minor
        );
        ensure!(
            version.llvm <= LLVM_MAJOR,
            "{} uses LLVM {}, newer than the {LLVM_MAJOR} of bpf-linker {BPF_LINKER_VERSION}",
            rustc.display(),
            version.llvm
        );
        let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?.trim());
        // Cargo's -Zbuild-std starts from this file.
        let source = sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        ensure!(
            source.exists(),
            "the standard library's source is not there ({})",
            source.display()
        );
        let llvm = find_llvm(&sysroot.join("lib")).with_context(|| format!("there is no libLLVM {LLVM_MAJOR}"))?;
        Ok(Self {
            kind,
            cargo,
            rustc,
            llvm,
        })
    }

    /// This toolchain's cargo-clippy, which need not be there.
    #[must_use]
    pub fn clippy(&self) -> PathBuf {
        self.cargo.with_file_name("cargo-clippy")
    }

    /// A program of this toolchain, freed from what an outer cargo or rustup set for another one.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (variable, _) in env::vars_os() {
            if variable.to_str().is_some_and(belongs_to_outer_cargo) {
                command.env_remove(variable);
            }
        }
        command.env("RUSTC", &self.rustc).env("CARGO", &self.cargo);
        if self.kind == Kind::System {
            // A release compiler refuses -Zbuild-std otherwise.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }
}

/// Whether an environment variable describes the outer build and would mislead a nested one.
fn belongs_to_outer_cargo(variable: &str) -> bool {
    const NAMES: [&str; 7] = [
        "CARGO",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_INCREMENTAL",
        "TARGET",
        "HOST",
    ];
    const PREFIXES: [&str; 8] = [
        "CARGO_PKG_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PROFILE_",
        "CARGO_BUILD_RUST",
        "RUST",
        "CLIPPY_",
    ];
    // RUSTUP_HOME says where the toolchains are; the rest of RUST* chooses one, or flags for one.
    const KEPT: [&str; 2] = ["RUSTUP_HOME", "RUST_BACKTRACE"];
    !KEPT.contains(&variable)
        && (NAMES.contains(&variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix)))
}

/// Finds bpf-linker in PATH or where `cargo install` puts it, and checks that it is one that works here.
pub fn bpf_linker() -> Result<PathBuf> {
    let linker = find_program("bpf-linker").context("there is no bpf-linker in PATH or cargo's bin folder")?;
    let version = output(Command::new(&linker).arg("--version"))?;
    let version = version.split_whitespace().last().unwrap_or_default();
    ensure!(
        version.starts_with(BPF_LINKER_SERIES),
        "{} is version {version}; {BPF_LINKER_SERIES}x is needed, for LLVM {LLVM_MAJOR}",
        linker.display()
    );
    Ok(linker)
}

/// Finds a program in PATH or in cargo's bin folder, which need not be in PATH where cargo is a distribution's.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join(name))
        .find(|p| p.is_file())
}

/// Asks rustup for a program of its nightly, without letting it install one.
fn rustup_which(program: &str) -> Result<PathBuf> {
    let rustup = find_program("rustup").context("rustup is not installed")?;
    let mut command = Command::new(rustup);
    command
        .args(["which", "--toolchain", "nightly", program])
        .env("RUSTUP_AUTO_INSTALL", "0");
    let path = output(&mut command).context("rustup has no nightly toolchain")?;
    Ok(PathBuf::from(path.trim()))
}

/// Finds libLLVM beside the compiler or where distributions put it.
///
/// bpf-linker opens the first file called libLLVM* in its search path, whatever its version, so it is given one by name.
fn find_llvm(beside_compiler: &Path) -> Option<PathBuf> {
    let folders = [
        beside_compiler.to_owned(),
        format!("/usr/lib/{}-linux-gnu", env::consts::ARCH).into(),
        format!("/usr/lib/llvm-{LLVM_MAJOR}/lib").into(),
        "/usr/lib64".into(),
    ];
    folders
        .iter()
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

/// The parts of `rustc -vV` that decide whether the compiler fits.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    minor: u32,
    llvm: u32,
}

impl Version {
    fn parse(verbose: &str) -> Result<Self> {
        let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let minor = field("release:").and_then(Self::minor_of);
        let llvm = field("LLVM version:").and_then(|version| version.split('.').next()?.parse().ok());
        let (Some(minor), Some(llvm)) = (minor, llvm) else {
            bail!("`rustc -vV` says no release and LLVM version: {verbose}");
        };
        Ok(Self { minor, llvm })
    }

    fn minor_of(release: &str) -> Option<u32> {
        release.strip_prefix("1.")?.split('.').next()?.parse().ok()
    }
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_forces_one_kind() {
        assert_eq!(Kind::candidates(None).expect("no force"), [Kind::Nightly, Kind::System]);
        assert_eq!(Kind::candidates(Some("system")).expect("known"), [Kind::System]);
        let error = Kind::candidates(Some("stable")).expect_err("unknown").to_string();
        assert!(error.contains("ENVNET_EBPF_TOOLCHAIN is `stable`"), "{error}");
    }

    #[test]
    fn version_is_read_from_rustc() {
        let verbose = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                       release: 1.97.0-nightly\nLLVM version: 22.1.6\n";
        assert_eq!(Version::parse(verbose).expect("valid"), Version { minor: 97, llvm: 22 });
        assert!(Version::parse("rustc 1.63.0\n").is_err());
    }

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

    #[test]
    fn nested_cargo_keeps_only_what_is_not_about_the_outer_build() {
        for variable in [
            "CARGO",
            "RUSTC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_PKG_NAME",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(belongs_to_outer_cargo(variable), "{variable}");
        }
        for variable in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_MAKEFLAGS",
            "PATH",
        ] {
            assert!(!belongs_to_outer_cargo(variable), "{variable}");
        }
    }
}

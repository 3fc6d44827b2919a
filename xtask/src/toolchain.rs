//! The compiler that builds the programs in the kernel.
//!
//! `core` for the BPF target is built from source, so the compiler must be one that allows unstable options and has its
//! source beside it: rustup's nightly with rust-src, or a distribution's rustc and source of one version, installed or in a
//! private copy.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    linker::{LLVM_MAJOR, VERSION, find_llvm},
    process::{find, output},
    tools::{self, Preference},
};

/// Forces one [`Kind`] of toolchain when set, by its name.
pub const VARIABLE: &str = "ENVNET_EBPF_TOOLCHAIN";
/// The set of private copies that a [`Kind::Private`] toolchain is in.
pub const PRIVATE_SET: &str = "compiler";

/// Where a toolchain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// rustup's nightly.
    Nightly,
    /// The distribution's packages, under /usr/bin.
    System,
    /// The same packages, unpacked into the folder of private copies.
    Private,
}

impl Kind {
    /// The name used in [`VARIABLE`] and in folder names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nightly => "nightly",
            Self::System => "system",
            Self::Private => "private",
        }
    }

    /// The kinds to try, in order, given the value of [`VARIABLE`].
    pub fn candidates(forced: Option<&str>, preference: Preference) -> Result<&'static [Self]> {
        match (forced, preference) {
            (None | Some(""), Preference::System) => Ok(&[Self::Nightly, Self::System, Self::Private]),
            (None | Some(""), Preference::Private) | (Some("private"), _) => Ok(&[Self::Private]),
            (Some("nightly"), _) => Ok(&[Self::Nightly]),
            (Some("system"), _) => Ok(&[Self::System]),
            (Some(other), _) => bail!("{VARIABLE} is `{other}`; it can be `nightly`, `system` or `private`"),
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
        Self::choose_if(|_| Ok(()))
    }

    /// The first usable toolchain that has clippy, too.
    pub fn choose_with_clippy() -> Result<Self> {
        Self::choose_if(|toolchain| {
            let clippy = toolchain.clippy();
            ensure!(clippy.exists(), "there is no {}", clippy.display());
            Ok(())
        })
    }

    fn choose_if(fits: impl Fn(&Self) -> Result<()>) -> Result<Self> {
        let forced = env::var(VARIABLE).ok();
        let mut reasons = Vec::new();
        for &kind in Kind::candidates(forced.as_deref(), Preference::get()?)? {
            match Self::find(kind).and_then(|toolchain| fits(&toolchain).map(|()| toolchain)) {
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
            Kind::Private => {
                let programs = tools::folder().join(PRIVATE_SET).join("usr/bin");
                (programs.join("cargo"), programs.join("rustc"))
            }
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
            "{} uses LLVM {}, newer than the {LLVM_MAJOR} of bpf-linker {VERSION}",
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
        let llvm = find_llvm(&[sysroot.join("lib"), sysroot.join("lib").join(tools::triplet())])
            .with_context(|| format!("there is no libLLVM {LLVM_MAJOR}"))?;
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
        if self.kind != Kind::Nightly {
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

/// Asks rustup for a program of its nightly, without letting it install one.
fn rustup_which(program: &str) -> Result<PathBuf> {
    let rustup = find("rustup").context("rustup is not installed")?;
    let mut command = Command::new(rustup);
    command
        .args(["which", "--toolchain", "nightly", program])
        .env("RUSTUP_AUTO_INSTALL", "0");
    let path = output(&mut command).context("rustup has no nightly toolchain")?;
    Ok(PathBuf::from(path.trim()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_forces_one_kind() {
        let candidates = |forced| Kind::candidates(forced, Preference::System);
        assert_eq!(
            candidates(None).expect("no force"),
            [Kind::Nightly, Kind::System, Kind::Private]
        );
        assert_eq!(candidates(Some("system")).expect("known"), [Kind::System]);
        let error = candidates(Some("stable")).expect_err("unknown").to_string();
        assert!(error.contains("ENVNET_EBPF_TOOLCHAIN is `stable`"), "{error}");
    }

    #[test]
    fn private_copies_can_be_all_that_is_tried() {
        let candidates = |forced| Kind::candidates(forced, Preference::Private).expect("known");
        assert_eq!(candidates(None), [Kind::Private]);
        assert_eq!(candidates(Some("nightly")), [Kind::Nightly], "the narrower word wins");
    }

    #[test]
    fn version_is_read_from_rustc() {
        let verbose = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                       release: 1.97.0-nightly\nLLVM version: 22.1.6\n";
        assert_eq!(Version::parse(verbose).expect("valid"), Version { minor: 97, llvm: 22 });
        assert!(Version::parse("rustc 1.63.0\n").is_err());
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

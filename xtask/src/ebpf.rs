//! Builds programs for the kernel: one ELF object with BTF from a crate of the workspace.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    linker::find_linker,
    toolchain::{Toolchain, VARIABLE},
    tools, workspace,
};

/// The target: eBPF in the byte order of every machine envnet is built for.
pub const TARGET: &str = "bpfel-unknown-none";

/// A crate with programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name, also that of the object.
    pub name: &'static str,
    /// The folders of all crates of the workspace that the object is made of.
    pub folders: &'static [&'static str],
}

/// envnet's own programs, and those of the benchmark, which no user gets. The crate that embeds an object has its name
/// without the last word.
pub const PACKAGES: [Package; 2] = [
    Package {
        name: "envnet-ebpf",
        folders: &["envnet-ebpf", "envnet-common"],
    },
    Package {
        name: "envnet-bench-ebpf",
        folders: &["tests/bench/ebpf"],
    },
];

/// For build scripts: builds the crate's object and names it to the crate as `ENVNET_EBPF_OBJECT`.
pub fn build_for_embedding() -> Result<()> {
    let embedder = env::var("CARGO_PKG_NAME").context("CARGO_PKG_NAME is not set: not a build script")?;
    let package = PACKAGES
        .iter()
        .find(|package| package.name.strip_suffix("-ebpf") == Some(&embedder))
        .with_context(|| format!("no programs for {embedder}"))?;
    for variable in [VARIABLE, tools::VARIABLE] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // What the object is made of: its crates, the locked dependencies, and the workspace's profiles and lints.
    let crates = package
        .folders
        .iter()
        .flat_map(|folder| [format!("{folder}/src"), format!("{folder}/Cargo.toml")]);
    // Relative to the crate: cargo gives the crates of all checkouts that share a target directory the same place in it, and
    // would go on looking at the files of another one.
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let depth = folder
        .strip_prefix(workspace())
        .context("not in the workspace")?
        .components()
        .count();
    for input in crates.chain(["Cargo.lock".to_owned(), "Cargo.toml".to_owned()]) {
        println!("cargo::rerun-if-changed={}{input}", "../".repeat(depth));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set: not a build script")?);
    let compiler = Compiler::find(&shared_target_dir(&out))?;
    println!("cargo::rerun-if-changed={}", compiler.toolchain.rustc.display());
    println!("cargo::rerun-if-changed={}", compiler.linker.display());
    let built = compiler.build(package)?;
    // A copy, because another build may replace the shared one while this crate is compiled.
    let object = out.join(package.name);
    fs::copy(&built, &object).with_context(|| format!("copying {} to {}", built.display(), object.display()))?;
    println!("cargo::rustc-env=ENVNET_EBPF_OBJECT={}", object.display());
    Ok(())
}

/// The target directory that a file of the build is in, so that all profiles share one build of `core` and of the object.
#[must_use]
pub fn shared_target_dir(out: &Path) -> PathBuf {
    // Cargo marks the directory with this file.
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .unwrap_or(out)
        .to_owned()
}

/// A toolchain with its linker and a place to build in.
#[derive(Debug)]
pub struct Compiler {
    /// The toolchain in use.
    pub toolchain: Toolchain,
    linker: PathBuf,
    target_dir: PathBuf,
}

impl Compiler {
    /// Finds what is needed to build for the BPF target; the error names the command that fetches it.
    pub fn find(target_dir: &Path) -> Result<Self> {
        Self::with(Toolchain::choose, target_dir)
    }

    /// Finds what is needed to lint for the BPF target.
    pub fn find_with_clippy(target_dir: &Path) -> Result<Self> {
        Self::with(Toolchain::choose_with_clippy, target_dir)
    }

    fn with(choose: impl Fn() -> Result<Toolchain>, target_dir: &Path) -> Result<Self> {
        let find = || {
            let toolchain = choose()?;
            let linker = find_linker()?;
            // Apart from the outer build's folders, whose lock the outer cargo holds.
            let target_dir = target_dir.join("ebpf").join(toolchain.kind.name());
            Ok::<_, anyhow::Error>(Self {
                toolchain,
                linker,
                target_dir,
            })
        };
        find().context("the eBPF programs cannot be built here; `cargo xtask setup` fetches what is missing")
    }

    /// Builds the object of a package and returns its path.
    pub fn build(&self, package: &Package) -> Result<PathBuf> {
        let mut cargo = self.command(&self.toolchain.cargo, "build", package)?;
        let status = cargo
            .status()
            .with_context(|| format!("{} does not start", self.toolchain.cargo.display()))?;
        ensure!(
            status.success(),
            "building {} with the {} toolchain failed",
            package.name,
            self.toolchain.kind.name()
        );
        Ok(self.target_dir.join(TARGET).join("release").join(package.name))
    }

    /// A command that lints a crate with programs; options can be added.
    pub fn clippy(&self, package: &Package) -> Result<Command> {
        // By its path, because `cargo clippy` finds rustup's proxy first, which leads to another toolchain.
        self.command(&self.toolchain.clippy(), "clippy", package)
    }

    fn command(&self, program: &Path, verb: &str, package: &Package) -> Result<Command> {
        let mut command = self.toolchain.command(program);
        command
            .current_dir(workspace())
            .arg(verb)
            .args([
                "--package",
                package.name,
                "--bins",
                "--release",
                "--target",
                TARGET,
                "-Zbuild-std=core",
                "--target-dir",
            ])
            .arg(&self.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags())
            // bpf-linker links and optimises bitcode itself; rustc's LTO would only be in its way.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("LD_LIBRARY_PATH", self.llvm_folder()?);
        Ok(command)
    }

    fn rustflags(&self) -> OsString {
        let mut flags = OsString::from(format!(
            "--cfg=bpf_target_arch=\"{}\"",
            bpf_target_arch(env::consts::ARCH)
        ));
        // BTF is made from debug information, that of `core` and the dependencies included.
        for flag in ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Clinker="] {
            flags.push("\x1f");
            flags.push(flag);
        }
        flags.push(&self.linker);
        flags
    }

    /// A folder with nothing but the right libLLVM, because bpf-linker opens the first of any version.
    fn llvm_folder(&self) -> Result<PathBuf> {
        let folder = self.target_dir.join("llvm");
        let library = &self.toolchain.llvm;
        let link = folder.join(library.file_name().unwrap_or_default());
        if fs::read_link(&link).is_ok_and(|target| target == *library) {
            return Ok(folder);
        }
        let make = || -> io::Result<()> {
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            symlink(library, &link)
        };
        make().with_context(|| format!("linking {} to {}", link.display(), library.display()))?;
        Ok(folder)
    }
}

/// The architecture as aya-ebpf's bindings name it.
fn bpf_target_arch(arch: &str) -> &str {
    if arch.starts_with("riscv64") { "riscv64" } else { arch }
}

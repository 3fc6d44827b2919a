//! Private copies of tools: a set of packages, unpacked into a folder of its own with all libraries down to the C library.
//!
//! Programs are made to load these libraries by their own loader (`patchelf`), so that a copy runs on any system and what
//! it starts in turn does not see them. The paths are absolute: a checkout that is moved fetches its copies again.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};

use xtask::{
    process::{check, output},
    tools,
};

use super::{
    debian::{Apt, Fetched},
    table::{Set, TOOLS, Tool},
};

/// Names the packages of a complete copy.
const MANIFEST: &str = "manifest";
/// Changes when copies must be made anew because they are made differently.
const MAKING: &str = "1";
/// Folders of programs in an unpacked root, with and without a merged /usr.
const PROGRAM_FOLDERS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// Makes the private copy of a set complete, unless it is. A set that could not be had is not tried again in this run.
pub(crate) fn fetch(set: Set) -> Result<()> {
    static DONE: LazyLock<Mutex<HashMap<Set, Result<(), String>>>> = LazyLock::new(Mutex::default);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let result = done
        .entry(set)
        .or_insert_with(|| fetch_once(set).map_err(|error| format!("{error:#}")));
    result.clone().map_err(|error| anyhow!(error))
}

/// The private copy of a tool, if it is there.
pub(crate) fn program(tool: &Tool) -> Option<PathBuf> {
    let root = root(tool.set);
    is_complete(tool.set, &root).then(|| find_program(&root, tool.program.unwrap_or(tool.name)))?
}

fn root(set: Set) -> PathBuf {
    tools::folder().join(set.name())
}

/// What a complete copy was made from, and where: the first line of its manifest.
fn recipe(set: Set, root: &Path) -> String {
    format!("{MAKING} {:?} in {}", set.packages(), root.display())
}

fn is_complete(set: Set, root: &Path) -> bool {
    let manifest = fs::read_to_string(root.join(MANIFEST)).unwrap_or_default();
    manifest.lines().next() == Some(&recipe(set, root))
}

fn fetch_once(set: Set) -> Result<()> {
    let folder = tools::folder();
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let root = root(set);
    if is_complete(set, &root) {
        return Ok(());
    }
    // Held until this returns; another run at the same time waits and then finds the copy.
    let lock = File::create(folder.join("lock"))?;
    lock.lock().context("the folder of private copies cannot be locked")?;
    if is_complete(set, &root) {
        return Ok(());
    }
    let start = Instant::now();
    let work = folder.join(format!("{}.new", set.name()));
    remove(&work)?;
    let made = wanted(set).and_then(|packages| Ok((packages, make(set, packages, &work, &root)?)));
    if made.is_err() {
        remove(&work)?;
    }
    let (packages, fetched) = made?;
    remove(&root)?;
    fs::rename(&work, &root).with_context(|| format!("{} cannot be renamed to {}", work.display(), root.display()))?;
    println!(
        "fetched {} ({}) in {:.1} s, into {}: {}",
        packages.join(", "),
        fetched.size(),
        start.elapsed().as_secs_f32(),
        root.display(),
        set.purpose()
    );
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    Ok(())
}

/// The set's list of packages that the sources offer.
fn wanted(set: Set) -> Result<&'static [&'static str]> {
    let apt = Apt::get()?;
    let fits = |package: &str| {
        let version = apt.candidate(package);
        version.is_some_and(|version| set != Set::Compiler || super::rust::is_new_enough(package, &version))
    };
    let found = set
        .packages()
        .iter()
        .find(|list| list.iter().all(|package| fits(package)));
    found.copied().with_context(|| {
        let lists: Vec<_> = set.packages().iter().map(|list| list.join(", ")).collect();
        format!(
            "the sources of apt do not offer what is needed of {}",
            lists.join(", or ")
        )
    })
}

fn make(set: Set, packages: &[&str], work: &Path, root: &Path) -> Result<Fetched> {
    fs::create_dir_all(work)?;
    let packages = [packages, &["patchelf"]].concat();
    let fetched = Apt::get()?.unpack_with_dependencies(&packages, work)?;
    for pattern in set.unused() {
        prune(work, pattern)?;
    }
    let programs = TOOLS
        .iter()
        .filter(|tool| tool.set == set)
        .map(|tool| tool.program.unwrap_or(tool.name))
        .chain(set.programs().iter().copied());
    let patcher = Patcher::new(work, root)?;
    for name in programs.collect::<BTreeSet<_>>() {
        let program = find_program(work, name).with_context(|| format!("the packages have no program {name}"))?;
        patcher.program(&program)?;
    }
    patcher.libraries()?;
    let manifest = format!("{}\n{}\n", recipe(set, root), fetched.packages.join("\n"));
    fs::write(work.join(MANIFEST), manifest)?;
    Ok(fetched)
}

/// Removes what a path matches; a part `*` stands for any name.
fn prune(root: &Path, pattern: &str) -> Result<()> {
    let mut matched = vec![root.to_owned()];
    for part in pattern.split('/') {
        matched = matched
            .into_iter()
            .flat_map(|folder| match part {
                "*" => fs::read_dir(&folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path())
                    .collect(),
                name => vec![folder.join(name)],
            })
            .filter(|path| path.is_dir() && !path.is_symlink())
            .collect();
    }
    matched.iter().try_for_each(|folder| remove(folder))
}

fn find_program(root: &Path, name: &str) -> Option<PathBuf> {
    let candidates = PROGRAM_FOLDERS.map(|folder| root.join(folder).join(name));
    candidates.into_iter().find(|program| program.is_file())
}

/// Makes programs and libraries of a set load libraries of the set only. It is in `work` now and will be in `root`.
struct Patcher<'a> {
    work: &'a Path,
    root: &'a Path,
    /// Folders of libraries, relative to the root.
    libraries: Vec<PathBuf>,
    /// The dynamic loader, relative to the root.
    loader: PathBuf,
    patchelf: PathBuf,
}

impl<'a> Patcher<'a> {
    fn new(work: &'a Path, root: &'a Path) -> Result<Self> {
        let triplet = tools::triplet();
        let libraries: Vec<_> = ["usr/lib", "lib"]
            .iter()
            .map(|parent| Path::new(parent).join(&triplet))
            // Libraries that only one package uses have a folder there.
            .flat_map(|folder| [folder.clone(), folder.join("systemd"), folder.join("pulseaudio")])
            .filter(|folder| work.join(folder).is_dir())
            .collect();
        Ok(Self {
            work,
            root,
            loader: loader(work, &libraries)?,
            libraries,
            patchelf: find_program(work, "patchelf").context("the packages have no program patchelf")?,
        })
    }

    /// The folders of libraries as a search path.
    fn search_path(&self, root: &Path) -> String {
        let folders = self
            .libraries
            .iter()
            .map(|folder| root.join(folder).display().to_string());
        folders.collect::<Vec<_>>().join(":")
    }

    /// patchelf is started by its loader: there is nobody to patch it.
    fn patchelf(&self) -> Command {
        let mut command = Command::new(self.work.join(&self.loader));
        command
            .arg("--library-path")
            .arg(self.search_path(self.work))
            .arg(&self.patchelf);
        command
    }

    fn program(&self, program: &Path) -> Result<()> {
        let mut command = self.patchelf();
        command.arg("--set-interpreter").arg(self.root.join(&self.loader));
        check(self.set_path(&mut command).arg(program))
    }

    /// DT_RPATH, not DT_RUNPATH: it holds for libraries of libraries, too (ld.so(8)).
    fn set_path<'b>(&self, command: &'b mut Command) -> &'b mut Command {
        command
            .args(["--force-rpath", "--set-rpath"])
            .arg(self.search_path(self.root))
    }

    /// A library with a search path of its own is not given that of the program.
    fn libraries(&self) -> Result<()> {
        for folder in &self.libraries {
            for entry in fs::read_dir(self.work.join(folder))? {
                let library = entry?.path();
                let is_library = library.to_string_lossy().contains(".so");
                if !is_library || !library.is_file() || library.is_symlink() {
                    continue;
                }
                // Linker scripts have such names, too.
                let own = output(self.patchelf().arg("--print-rpath").arg(&library)).unwrap_or_default();
                if !own.trim().is_empty() {
                    check(self.set_path(&mut self.patchelf()).arg(&library))?;
                }
            }
        }
        Ok(())
    }
}

/// The dynamic loader, relative to the root. The link to it in `lib64` may be absolute and lead to the system's.
fn loader(work: &Path, libraries: &[PathBuf]) -> Result<PathBuf> {
    for folder in libraries {
        for entry in fs::read_dir(work.join(folder))? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with("ld-linux") {
                return Ok(folder.join(name));
            }
        }
    }
    bail!("the packages have no dynamic loader")
}

/// Puts the private copy of a tool first in PATH, or takes it from there.
pub(crate) fn link(tool: &Tool, wanted: bool) -> Result<()> {
    let links = tools::links();
    let link = links.join(tool.name);
    if !wanted {
        return match fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    let program = program(tool).with_context(|| format!("the packages have no program {}", tool.name))?;
    // A program that is there but does not run would fail later, at a worse place.
    super::ask_version(tool, &program)?;
    if fs::read_link(&link).is_ok_and(|target| target == program) {
        return Ok(());
    }
    fs::create_dir_all(&links)?;
    let new = links.join(format!(".{}.{}", tool.name, std::process::id()));
    symlink(&program, &new).with_context(|| format!("{} cannot be made", new.display()))?;
    fs::rename(&new, &link).with_context(|| format!("{} cannot be made", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_folders_go_and_others_stay() {
        let root = std::env::temp_dir().join(format!("envnet-xtask-{}-prune", std::process::id()));
        for folder in ["usr/src/rustc-1/src", "usr/src/rustc-1/library", "usr/share/doc"] {
            fs::create_dir_all(root.join(folder)).expect("a temporary folder");
        }
        let pruned = prune(&root, "usr/src/*/src").and_then(|()| prune(&root, "usr/share/man"));
        let left = ["usr/src/rustc-1/src", "usr/src/rustc-1/library", "usr/share/doc"]
            .map(|folder| root.join(folder).exists());
        fs::remove_dir_all(&root).expect("the temporary folder");
        pruned.expect("can be removed");
        assert_eq!(left, [false, true, true]);
    }
}

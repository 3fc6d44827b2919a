//! What the guest finds when it starts: the program, those it runs, and their libraries, each where the host has it.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process::output, qemu::cpio::Archive};

/// Programs that the tests run.
const TOOLS: [&str; 4] = ["ip", "tc", "iptables", "ethtool"];
/// Folders where such programs are, also for users whose PATH lacks them.
const TOOL_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];
/// Where iptables finds its extensions, unless [`XTABLES_VARIABLE`] says so. The loader does not know of them.
const XTABLES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib64/xtables"];
/// Names the folder of iptables' extensions to iptables.
const XTABLES_VARIABLE: &str = "XTABLES_LIBDIR";
/// Variables that the tests, the standard library and iptables look at.
const VARIABLES: [&str; 3] = ["ENVNET_", "RUST_", XTABLES_VARIABLE];

/// Writes the RAM disk to `file`.
pub(super) fn write(file: &Path, kernel: &Path, program: &[OsString], scratch: &Path) -> Result<()> {
    let mut disk = RamDisk::default();
    disk.add("/init", include_bytes!("init.sh"));
    disk.copy(&kernel.join("busybox"), Path::new("/bin/busybox"))?;
    for entry in fs::read_dir(kernel.join("modules")).with_context(|| format!("{} is no kernel", kernel.display()))? {
        let entry = entry?;
        disk.copy(&entry.path(), &Path::new("/modules").join(entry.file_name()))?;
    }
    disk.add("/command", &shell_command(program));
    // Looked up by name where a tap gets an owner.
    for file in ["/etc/passwd", "/etc/group"] {
        disk.copy(Path::new(file), Path::new(file))?;
    }

    let program = Path::new(program.first().context("no program")?);
    let own = env::current_exe().context("the path of this executable")?;
    let envnet = env::var_os("ENVNET_BIN").map(PathBuf::from);
    for program in [program, &own].into_iter().chain(envnet.as_deref()) {
        disk.program(program, program, scratch)?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    for tool in TOOLS {
        let folders = env::split_paths(&path).chain(TOOL_FOLDERS.map(PathBuf::from));
        let found = folders.map(|folder| folder.join(tool)).find(|path| path.is_file());
        let found = found.with_context(|| format!("there is no {tool} here; the tests run it"))?;
        disk.program(&found, &Path::new("/usr/sbin").join(tool), scratch)?;
    }
    let xtables =
        env::var_os(XTABLES_VARIABLE).map_or_else(|| XTABLES.map(PathBuf::from).to_vec(), |own| vec![own.into()]);
    for folder in xtables.iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            disk.copy(&path, &path)?;
        }
    }
    fs::write(file, disk.archive.finish()).with_context(|| format!("{} cannot be written", file.display()))
}

/// The program with its arguments and environment, as a shell understands it.
fn shell_command(program: &[OsString]) -> Vec<u8> {
    let variables = env::vars_os().filter(|(name, _)| {
        let name = name.as_bytes();
        VARIABLES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    });
    let mut script = Vec::new();
    for (name, value) in variables {
        script.extend_from_slice(b"export ");
        script.extend_from_slice(name.as_bytes());
        script.push(b'=');
        script.extend_from_slice(&quoted(&value));
        script.push(b'\n');
    }
    script.extend_from_slice(b"exec");
    for word in program {
        script.push(b' ');
        script.extend_from_slice(&quoted(word));
    }
    script.push(b'\n');
    script
}

/// In single quotes, which end only at a single quote.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[derive(Default)]
struct RamDisk {
    archive: Archive,
    present: BTreeSet<PathBuf>,
}

impl RamDisk {
    /// Adds a file under an absolute path, and the folders above it.
    fn add(&mut self, path: impl AsRef<Path>, content: &[u8]) {
        let path = path.as_ref();
        let folders: Vec<_> = path.ancestors().skip(1).collect();
        for folder in folders.into_iter().rev() {
            if folder.parent().is_some() && self.present.insert(folder.to_owned()) {
                self.archive.directory(&inside(folder));
            }
        }
        if self.present.insert(path.to_owned()) {
            self.archive.file(&inside(path), content);
        }
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
        self.add(to, &content);
        Ok(())
    }

    /// Adds a program, without its debug information, and the libraries it is linked to.
    fn program(&mut self, from: &Path, to: &Path, scratch: &Path) -> Result<()> {
        let small = scratch.join("stripped");
        let strip = || {
            let mut strip = Command::new("strip");
            output(strip.arg("--strip-debug").arg("-o").arg(&small).arg(from))
        };
        // Only memory is saved by it: tools may be without, and there may be no strip.
        let file = if strip().is_ok() { &small } else { from };
        self.copy(file, to)?;
        match fs::remove_file(&small) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        for library in libraries(from)?.lines().filter_map(library) {
            self.copy(library, library)?;
        }
        Ok(())
    }
}

/// The archive's paths begin below its root.
fn inside(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

/// Asks a program's own loader what it would load, in the form of `ldd`, which would ask the system's loader.
fn libraries(program: &Path) -> Result<String> {
    // Programs without a loader would run instead.
    let said = Command::new("ldd")
        .arg(program)
        .output()
        .context("ldd does not start")?;
    if !said.status.success() || String::from_utf8_lossy(&said.stdout).contains("statically linked") {
        return Ok(String::new());
    }
    output(Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1"))
}

/// The file in a line of `ldd`: "libc.so.6 => /lib/libc.so.6 (0x7f)", or the loader's own "/lib64/ld-linux.so.2 (0x7f)".
fn library(line: &str) -> Option<&Path> {
    let (file, _address) = line.trim().rsplit_once(" (")?;
    let file = file.split_once(" => ").map_or(file, |(_name, file)| file);
    file.starts_with('/').then(|| Path::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let lines = [
            ("\tlinux-vdso.so.1 (0x00007f7c21522000)", None),
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f7c20e1e000)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f7c21524000)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            ("\tstatically linked", None),
        ];
        for (line, expected) in lines {
            assert_eq!(library(line), expected.map(Path::new), "{line}");
        }
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted(OsStr::new("it's $HOME")), br"'it'\''s $HOME'");
    }
}

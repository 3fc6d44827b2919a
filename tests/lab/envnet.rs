//! The `envnet` command as its users run it: a program, a configuration file, an exit status.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// Names the program when it is not found beside the laboratory's own.
const VARIABLE: &str = "ENVNET_BIN";

/// The program together with the namespace and configuration file it is to work on.
#[derive(Clone, Debug)]
pub struct Envnet {
    program: PathBuf,
    netns: String,
    config: PathBuf,
    hook: Option<&'static str>,
}

/// How one run of the program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Envnet {
    /// Finds the program: the file `ENVNET_BIN` names, or `envnet` in the folder this executable is in (or, for test
    /// executables, which cargo puts into `deps`, in the one above).
    pub fn find(netns: &str, config: &Path, hook: Option<&'static str>) -> Result<Self> {
        let program = env::var_os(VARIABLE).map_or_else(beside_this_executable, |program| Ok(program.into()))?;
        Ok(Self {
            program,
            netns: netns.to_owned(),
            config: config.to_owned(),
            hook,
        })
    }

    /// Where the program is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same with another program.
    #[must_use]
    pub fn with_program(&self, program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            ..self.clone()
        }
    }

    /// Another build, written to that file: the same program but for a byte of the programs' ELF header that nobody reads.
    pub fn another_build(&self, path: &Path) -> Result<Self> {
        const BPF_OBJECT: u16 = 247;
        const MACHINE: usize = 18;
        const PADDING: usize = 15;
        let mut bytes = fs::read(&self.program).context("the program cannot be read")?;
        let headers = bytes
            .windows(20)
            .enumerate()
            .filter(|(_, header)| header.starts_with(b"\x7fELF") && header[MACHINE..] == BPF_OBJECT.to_le_bytes());
        let found: Vec<usize> = headers.map(|(offset, _)| offset).collect();
        let [object] = found[..] else {
            bail!("{} BPF objects in the program", found.len());
        };
        bytes[object + PADDING] = 1;
        fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(self.with_program(path))
    }

    /// The command with the global options, to which arguments may be added.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = process::command(&self.program);
        command
            .arg("--netns")
            .arg(&self.netns)
            .arg("--config")
            .arg(&self.config);
        command.args(self.hook.iter().flat_map(|hook| ["--hook", hook]));
        command
    }

    /// Runs the program with blank-separated arguments, however it ends.
    pub fn run(&self, arguments: &str) -> Result<Outcome> {
        let output = process::wait(self.command().args(arguments.split_ascii_whitespace()))?;
        Ok(Outcome {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs the program and fails unless it succeeds; returns its standard output.
    pub fn succeed(&self, arguments: &str) -> Result<String> {
        let outcome = self.run(arguments)?;
        if outcome.status != Some(0) {
            bail!(
                "`envnet {arguments}` ended with {:?}: {}{}",
                outcome.status,
                outcome.stdout,
                outcome.stderr
            );
        }
        Ok(outcome.stdout)
    }

    /// Runs a subcommand that changes something, and says how many changes it has made.
    pub fn changes(&self, arguments: &str) -> Result<u64> {
        let text = self.succeed(&format!("--json {arguments}"))?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
        answer["changes"]
            .as_u64()
            .with_context(|| format!("no count of changes in {text}"))
    }
}

fn beside_this_executable() -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this executable")?;
    let mut candidates = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("envnet"));
    let found = candidates.find(|candidate| candidate.is_file()).with_context(|| {
        format!(
            "no envnet beside {}; `cargo build --package envnet` makes it, or set {VARIABLE}",
            own.display()
        )
    })?;
    // Cargo builds the tests when their sources change, but not what they test.
    if let Some(newer) = newer_source(&found)? {
        bail!(
            "{} is older than {}; `cargo build --package envnet` makes it anew, or set {VARIABLE}",
            found.display(),
            newer.display()
        );
    }
    Ok(found)
}

/// A source of the program that was changed after it was built. None where there are no sources, as in a virtual machine.
fn newer_source(program: &Path) -> Result<Option<PathBuf>> {
    let built = fs::metadata(program)?.modified()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let mut left: Vec<PathBuf> = ["envnet", "envnet-common", "envnet-ebpf"]
        .map(|package| workspace.join(package).join("src"))
        .into();
    while let Some(path) = left.pop() {
        let Ok(entry) = fs::metadata(&path) else { continue };
        if entry.is_dir() {
            let entries = fs::read_dir(&path)?.map(|entry| Ok(entry?.path()));
            left.extend(entries.collect::<Result<Vec<_>>>()?);
        } else if entry.modified()? > built {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

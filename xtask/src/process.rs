//! Running other programs: as whom, and what their failure means.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{tools, workspace};

/// The cargo that runs this program, in the workspace, where private copies of tools are found.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).envs(tools::environment());
    cargo
}

/// Runs a command that must succeed.
pub fn check(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    ensure!(status.success(), "`{}` failed: {status}", describe(command));
    Ok(())
}

/// Standard output of a command that must succeed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        describe(command),
        errors.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
#[must_use]
pub fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words: Vec<_> = [program]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// Finds the system's copy of a program: in PATH, or where PATH need not lead. That is cargo's bin folder where cargo is a
/// distribution's, and the folders of system programs for an ordinary user.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let private = tools::links();
    let folders = env::split_paths(&path)
        .filter(|folder| *folder != private)
        .chain(home.map(|home| home.join("bin")))
        .chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// How this user becomes root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Is root already.
    Root,
    /// By sudo.
    Sudo,
}

impl Privilege {
    /// Finds the way, if there is one; `purpose` is what needs it.
    pub fn find(purpose: &str) -> Result<Self> {
        // The owner of a process's folder is its effective user.
        if fs::metadata("/proc/self").context("/proc is not there")?.uid() == 0 {
            return Ok(Self::Root);
        }
        if find("sudo").is_none() {
            bail!("{purpose} needs root: this is not root, and there is no sudo here");
        }
        Ok(Self::Sudo)
    }

    /// A command that runs `program` as root with this environment, where private copies of tools are found.
    #[must_use]
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut words = self.prefix();
        words.push(program.as_ref().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(tools::environment());
        command
    }

    /// The words before a command that is to run as root with this environment.
    #[must_use]
    pub fn prefix(self) -> Vec<OsString> {
        match self {
            Self::Root => Vec::new(),
            Self::Sudo => {
                // sudo resets PATH, whatever -E says.
                let variables = tools::environment().into_iter().map(|(variable, value)| {
                    let mut word = OsString::from(variable);
                    word.push("=");
                    word.push(value);
                    word
                });
                ["sudo", "-E", "env"]
                    .into_iter()
                    .map(OsString::from)
                    .chain(variables)
                    .collect()
            }
        }
    }
}

//! Runs `envnet` with a fault at one of its system calls: killed before it, or told that it failed.
//!
//! The kernel stops the process at every call of [`call::WATCHED`] and asks this one what becomes of it (seccomp's user
//! notification), so that the command runs unchanged and knows nothing of it. All its threads are counted together.

mod call;
mod listener;

use std::{fs, io::Read as _, os::unix::process::ExitStatusExt as _, process::Stdio};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

pub use self::call::{Call, Kind};
use self::listener::Listener;
use crate::{
    envnet::{Envnet, Outcome},
    process::Process,
};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is made.
    Proceed,
    /// The process is killed by SIGKILL before the call is made, which is to say after the one before it.
    Kill,
    /// The call is not made, and the process is told that it failed.
    Fail(Errno),
}

/// How a command ran.
#[derive(Debug)]
pub struct Course {
    /// Its calls.
    pub calls: Vec<Call>,
    /// Which of them the fault happened at; none when the command ended before.
    pub struck: Option<usize>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Course {
    /// How many of its calls count.
    #[must_use]
    pub fn count(&self, among: Kind) -> usize {
        self.calls.iter().filter(|call| call.kind >= among).count()
    }

    /// The last calls before the fault, and the one it happened at.
    #[must_use]
    pub fn log(&self) -> String {
        const SHOWN: usize = 8;
        let end = self.struck.map_or(self.calls.len(), |struck| struck + 1);
        let calls = self.calls.iter().enumerate().take(end);
        let lines = calls
            .skip(end.saturating_sub(SHOWN))
            .map(|(number, call)| format!("  {number}: {call}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Runs the command with blank-separated arguments and lets everything pass.
pub fn count(envnet: &Envnet, arguments: &str) -> Result<Course> {
    watch(envnet, arguments, |_| Ok(Effect::Proceed))
}

/// Runs the command with blank-separated arguments, with a fault at its `at`-th call of those that are at least `among`;
/// 0 is the first.
pub fn strike(envnet: &Envnet, arguments: &str, among: Kind, at: usize, effect: Effect) -> Result<Course> {
    let mut counted = 0;
    watch(envnet, arguments, |call| {
        if call.kind < among {
            return Ok(Effect::Proceed);
        }
        counted += 1;
        Ok(if counted == at + 1 { effect } else { Effect::Proceed })
    })
}

/// Runs the command with blank-separated arguments, and asks at every call what becomes of it. The command waits meanwhile.
pub fn watch(envnet: &Envnet, arguments: &str, mut decide: impl FnMut(&Call) -> Result<Effect>) -> Result<Course> {
    let mut command = envnet.command();
    command.args(arguments.split_ascii_whitespace());
    // The message that a program cannot be started would be stopped at, too, with nobody there to let it go.
    let program = fs::metadata(envnet.program()).with_context(|| format!("no {}", envnet.program().display()))?;
    ensure!(program.is_file(), "{} is no program", envnet.program().display());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    listener::install(&mut command)?;
    let mut process = Process::start(command)?;
    let listener = Listener::of(process.child().id())?;
    let (mut calls, mut struck, mut killed) = (Vec::new(), None, false);
    while let Some(notification) = listener.next()? {
        let call = Call::read(&notification);
        let effect = decide(&call)?;
        if effect != Effect::Proceed {
            struck = Some(calls.len());
        }
        calls.push(call);
        match effect {
            Effect::Proceed => listener.proceed(&notification)?,
            Effect::Fail(error) => listener.refuse(&notification, error)?,
            Effect::Kill => {
                process.child().kill().context("the command cannot be killed")?;
                killed = true;
                break;
            }
        }
    }
    let child = process.child();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    // What the command says fits into the pipes, so that it has not waited for this.
    child.stdout.take().context("no pipe")?.read_to_string(&mut stdout)?;
    child.stderr.take().context("no pipe")?.read_to_string(&mut stderr)?;
    let status = child.wait()?;
    ensure!(
        killed || status.signal().is_none(),
        "`envnet {arguments}` ended with {status}: {stdout}{stderr}"
    );
    let outcome = Outcome {
        status: status.code(),
        stdout,
        stderr,
    };
    Ok(Course { calls, struck, outcome })
}

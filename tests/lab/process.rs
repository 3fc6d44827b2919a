//! Child processes that never outlive the laboratory.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

use anyhow::{Context, Result, bail};

/// A command whose process the kernel kills should this one die, even by SIGKILL.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // SAFETY: prctl is a bare system call, fine between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command
}

/// Runs the command to its end. Ctrl-C on the terminal does not reach it: what was begun is finished, then undone.
pub fn wait(command: &mut Command) -> Result<Output> {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?} cannot be run"))
}

/// Runs the command to its end and returns its standard output; fails with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = wait(command)?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?}: output is not UTF-8"))
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// The parent-death signal is bound to the *thread* that forked. This one lives as long as the process, so that children
/// may be started from short-lived threads.
static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<Request>();
    thread::spawn(move || {
        for (mut command, reply) in requests {
            // The caller waits for the reply; if it is gone, dropping the child loses nothing but a zombie.
            drop(reply.send(command.spawn()));
        }
    });
    sender
});

/// A process that is killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the command in a process group of its own: Ctrl-C on the terminal reaches only the laboratory, which then
    /// ends its processes in order.
    pub fn start(mut command: Command) -> Result<Self> {
        command.process_group(0);
        let program = command.get_program().to_owned();
        let (reply, answer) = mpsc::channel();
        SPAWNER.send((command, reply)).context("the spawning thread is gone")?;
        let child = answer.recv().context("the spawning thread is gone")?;
        Ok(Self {
            child: child.with_context(|| format!("{} cannot be started", program.display()))?,
        })
    }

    /// The standard library's handle.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process's exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("the process cannot be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has already been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

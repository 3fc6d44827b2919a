//! KVM where guests start on it, QEMU's own translator everywhere else.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};

use super::{Image, console::Console, program::qemu};
use crate::{interrupt, process, process::Process};

/// A kernel on working KVM prints its first line within half a second, a nested one within one.
const PATIENCE: Duration = Duration::from_secs(2);

/// How QEMU runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm,
    /// Translation, which works everywhere.
    Tcg,
}

impl Accelerator {
    /// Starts a kernel on KVM and looks whether it says anything: that the device opens does not mean that guests run.
    pub fn detect(image: &Image) -> Result<Self> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let mut command = qemu(process::command);
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-serial",
                "stdio",
                "-m",
                "96",
            ])
            .args(Self::Kvm.arguments())
            .arg("-kernel")
            .arg(&image.kernel)
            .args(["-append", "earlyprintk=ttyS0 console=ttyS0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process::start(command)?;
        let (input, output) = process
            .child()
            .stdin
            .take()
            .zip(process.child().stdout.take())
            .context("pipes to QEMU")?;
        let spoke = Console::open(input, output)
            .line(PATIENCE, |line| line.contains("Linux version"))
            .is_ok();
        interrupt::check()?;
        Ok(if spoke { Self::Kvm } else { Self::Tcg })
    }

    /// QEMU's options.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg"],
        }
    }

    /// The name QEMU uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

//! Runs a test program under another kernel: in a QEMU guest whose RAM disk has the program and all it needs.
//!
//! Made to be cargo's `runner`: same arguments, same output, and success only if the guest says so on the way out.

mod ram_disk;

use std::{
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{self, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    directory::Directory,
    interrupt,
    process::{Process, command},
    qemu::{self, Accelerator, Image},
    remains::PREFIX,
};

/// More than twice what the slowest program takes, once `ENVNET_LAB_PATIENCE` has multiplied it for a translated guest.
const PATIENCE: Duration = Duration::from_mins(3);

/// Which kernel, and what to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `vmlinuz`, a static `busybox`, and `modules/*.ko` to be loaded as `modules/order` says
    #[arg(value_name = "FOLDER")]
    kernel: PathBuf,
    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "PROGRAM"
    )]
    program: Vec<OsString>,
}

/// Runs the program; returns whether it succeeded.
pub fn run(options: &Options) -> Result<bool> {
    interrupt::install();
    let directory = Directory::create(&format!("{PREFIX}{}", process::id()))?;
    let image = Image {
        kernel: options.kernel.join("vmlinuz"),
        initrd: directory.path().join("initrd"),
    };
    ram_disk::write(&image.initrd, &options.kernel, &options.program, directory.path())?;
    let verdict = directory.path().join("verdict");
    let mut qemu = guest(&image, Accelerator::detect(&image)?);
    // The second serial line; the first is the console.
    qemu.arg("-serial").arg(format!("file:{}", verdict.display()));
    let mut qemu = Process::start(qemu).context("is the package qemu-system-x86 installed?")?;
    interrupt::wait_for("the guest's end", PATIENCE, || qemu.ended())?;
    match fs::read_to_string(&verdict).unwrap_or_default().trim() {
        "passed" => Ok(true),
        "failed" => Ok(false),
        _ => bail!("the guest ended without saying how its program did"),
    }
}

fn guest(image: &Image, accelerator: Accelerator) -> process::Command {
    let mut qemu = qemu::qemu(command);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"])
        .args(["-smp", "2", "-m", "1024", "-no-reboot", "-serial", "stdio"])
        .args(accelerator.arguments())
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initrd)
        // With -no-reboot, a panic ends QEMU. Mitigations protect nothing here and cost time where they are translated.
        .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic mitigations=off"])
        .stdin(Stdio::null());
    qemu
}

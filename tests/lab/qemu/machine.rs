//! One QEMU process on one tap, booted or started from a snapshot.

use std::{
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use super::{Accelerator, Image, console::Console, program::qemu, qmp::Qmp};
use crate::{interrupt, namespace::Namespace, process::Process};

/// The kernel needs 80 to boot; a snapshot holds only what the guest has touched.
const MEGABYTES: &str = "96";
/// Translated on a busy machine, everything takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a machine is, apart from where it is plugged in. A clone must be started with its template's.
#[derive(Clone, Debug)]
pub struct Start {
    /// What it boots.
    pub image: Image,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// Its role, which becomes its hostname.
    pub role: String,
    /// Its internal address.
    pub address: Ipv4Addr,
    /// Length of the internal prefix.
    pub prefix: u8,
    /// The router's internal address.
    pub router: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: String,
}

/// A machine's memory and devices in a file.
#[derive(Clone, Debug)]
pub struct Snapshot {
    start: Start,
    file: PathBuf,
}

/// A virtual machine; killed when dropped.
#[derive(Debug)]
pub struct Machine {
    start: Start,
    qmp: Qmp,
    console: Console,
    process: Process,
}

impl Machine {
    /// Boots the machine on a tap of the namespace. It is up after [`Machine::wait_until_ready`].
    pub fn boot(host: &Namespace, tap: &str, start: Start) -> Result<Self> {
        Self::launch(host, tap, start, None)
    }

    /// Waits until the guest is configured, serves its page and has its router in the ARP cache.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        while self.console.answer(PATIENCE)? != "ready" {}
        Ok(())
    }

    /// Stops the machine and saves it.
    pub fn save(mut self, file: &Path) -> Result<Snapshot> {
        self.qmp.execute("stop", &json!({}))?;
        self.qmp
            .execute("migrate", &json!({ "uri": format!("exec:cat >'{}'", file.display()) }))?;
        let what = format!("snapshot {}", file.display());
        interrupt::wait_for(&what, PATIENCE, || {
            let state = self.qmp.execute("query-migrate", &json!({}))?;
            match state["status"].as_str() {
                Some("completed") => Ok(Some(())),
                Some("failed" | "cancelled") => bail!("{what}: QEMU says {state}"),
                _ => Ok(None),
            }
        })?;
        Ok(Snapshot {
            start: self.start,
            file: file.to_owned(),
        })
    }

    /// Starts a clone on a tap of the namespace. It stands still, just as its template was saved, until it is resumed.
    pub fn restore(host: &Namespace, tap: &str, snapshot: &Snapshot) -> Result<Self> {
        Self::launch(host, tap, snapshot.start.clone(), Some(&snapshot.file))
    }

    /// Waits until the whole snapshot has been read.
    pub fn wait_until_restored(&mut self) -> Result<()> {
        interrupt::wait_for("the restored guest", PATIENCE, || {
            let state = self.qmp.execute("query-status", &json!({}))?;
            Ok((state["status"] == "paused").then_some(()))
        })
    }

    /// Lets a restored machine go on.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute("cont", &json!({})).map(drop)
    }

    /// Tells the guest, over its console, what its page is to say; nobody else can know it.
    pub fn set_token(&mut self, token: &str) -> Result<()> {
        self.console.command(&format!("token {token}"), PATIENCE).map(drop)
    }

    /// Makes the guest fetch its sibling's page and put the token found there on its own.
    pub fn visit_sibling(&mut self, sibling: Ipv4Addr) -> Result<()> {
        self.console.command(&format!("sibling {sibling}"), PATIENCE).map(drop)
    }

    /// Runs a shell command in the guest and returns its output.
    pub fn run(&mut self, command: &str) -> Result<String> {
        self.console.command(&format!("run {command}"), PATIENCE)
    }

    /// The process's number.
    pub fn pid(&mut self) -> u32 {
        self.process.child().id()
    }

    fn launch(host: &Namespace, tap: &str, start: Start, incoming: Option<&Path>) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("a control socket for QEMU")?;
        let mut command = qemu(|name| host.command(name));
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-machine",
                "q35",
                "-smp",
                "1",
            ])
            .args(["-m", MEGABYTES, "-serial", "stdio"])
            .args(start.accelerator.arguments())
            .arg("-kernel")
            .arg(&start.image.kernel)
            .arg("-initrd")
            .arg(&start.image.initrd)
            .args(["-append", &kernel_command_line(&start)])
            .args(["-netdev", &format!("tap,id=net,ifname={tap},script=no,downscript=no")])
            // No boot ROM: the guest never boots from the network.
            .args([
                "-device",
                &format!("virtio-net-pci,netdev=net,mac={},romfile=", start.mac),
            ]);
        control_socket(&mut command, theirs.into());
        if let Some(file) = incoming {
            command.arg("-incoming").arg(format!("exec:cat '{}'", file.display()));
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = Process::start(command).context("is the package qemu-system-x86 installed?")?;
        let (input, output) = process
            .child()
            .stdin
            .take()
            .zip(process.child().stdout.take())
            .context("pipes to QEMU")?;
        let console = Console::open(input, output);
        let qmp = Qmp::connect(ours).with_context(|| format!("QEMU for tap {tap}"))?;
        Ok(Self {
            start,
            qmp,
            console,
            process,
        })
    }
}

fn kernel_command_line(start: &Start) -> String {
    let Start {
        role,
        address,
        prefix,
        router,
        ..
    } = start;
    format!("console=ttyS0 quiet lab.role={role} lab.address={address}/{prefix} lab.router={router}")
}

/// Hands QEMU its end of the control socket: no path that could be in use, nothing to wait for.
fn control_socket(command: &mut Command, socket: OwnedFd) {
    let number = socket.as_raw_fd();
    command.args([
        "-chardev",
        &format!("socket,id=control,fd={number}"),
        "-mon",
        "chardev=control,mode=control",
    ]);
    // SAFETY: fcntl is a bare system call, fine between fork and exec; the closure owns the descriptor.
    unsafe {
        command.pre_exec(move || {
            fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
}

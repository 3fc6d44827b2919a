//! Network namespaces with names, kept where `ip netns` keeps them, and code and commands that run inside.
//!
//! Only a thread's *network* namespace is ever changed, never its mounts: what is pinned or bind-mounted stays visible.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::{fs::MetadataExt, process::CommandExt},
    panic,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::process;

/// Where `ip netns` looks for namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// Whether this process made [`DIRECTORY`], and therefore removes it when it is empty again.
static DIRECTORY_IS_OURS: AtomicBool = AtomicBool::new(false);
/// The lock file lock below is per open file; this one keeps the threads of this process apart.
static DIRECTORY_CHANGES: Mutex<()> = Mutex::new(());

/// A named network namespace. One that was made here is removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: Arc<File>,
    ours: bool,
}

impl Namespace {
    /// Makes an empty namespace with its loopback interface up.
    pub fn create(name: &str) -> Result<Self> {
        let path = path(name);
        let guard = DIRECTORY_CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = prepare_directory()?;
        File::create_new(&path)
            .with_context(|| format!("network namespace {name} cannot be made at {}", path.display()))?;
        let bound = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .context("mount")
        });
        drop((lock, guard));
        if let Err(error) = bound {
            remove(name);
            return Err(error.context(format!("network namespace {name} cannot be made; are you root?")));
        }
        let mut namespace = Self::open(name)?;
        namespace.ours = true;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace of that name, which somebody else made and will remove.
    pub fn open(name: &str) -> Result<Self> {
        let handle = File::open(path(name)).with_context(|| format!("network namespace {name} cannot be opened"))?;
        Ok(Self {
            name: name.to_owned(),
            handle: Arc::new(handle),
            ours: false,
        })
    }

    /// The name `ip netns` shows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `body` in a thread inside the namespace and waits for it. Sockets opened there stay in the namespace and may
    /// be used anywhere.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("network namespace {} cannot be entered", self.name))?;
            body()
        })
    }

    /// A command that will run inside the namespace and die with this process.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        let handle = Arc::clone(&self.handle);
        // SAFETY: setns is a bare system call, fine between fork and exec; the closure owns the descriptor.
        unsafe {
            command.pre_exec(move || Ok(setns(&handle, CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    /// Runs `ip` with blank-separated arguments inside the namespace and returns what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut command = self.command("ip");
        command.args(arguments.split_ascii_whitespace());
        process::output(&mut command).with_context(|| format!("in network namespace {}", self.name))
    }

    /// The Ethernet address of an interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let line = self.ip(&format!("-brief link show dev {interface}"))?;
        line.split_ascii_whitespace()
            .nth(2)
            .map(str::to_owned)
            .with_context(|| format!("no Ethernet address in {line}"))
    }

    /// How many packets an interface has received and sent.
    pub fn packets(&self, interface: &str) -> Result<u64> {
        let text = self.ip(&format!("-statistics -json link show dev {interface}"))?;
        let links: serde_json::Value = serde_json::from_str(&text).context("`ip -json` printed no JSON")?;
        let packets = |direction: &str| links[0]["stats64"][direction]["packets"].as_u64();
        let (received, sent) = packets("rx")
            .zip(packets("tx"))
            .context("an interface without counters")?;
        Ok(received + sent)
    }

    /// Sets a sysctl of the namespace; the key has slashes, because interface names have dots.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&path, value).with_context(|| format!("sysctl {key} cannot be set to {value}")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.ours {
            remove(&self.name);
        }
    }
}

/// Takes the name away; the namespace goes with the last that uses it.
pub fn remove(name: &str) {
    let path = path(name);
    let _guard = DIRECTORY_CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    // A namespace that was never bound has no mount to remove.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    if let Err(error) = fs::remove_file(&path) {
        eprintln!("{} cannot be removed: {error}", path.display());
    }
    if DIRECTORY_IS_OURS.load(Ordering::Relaxed) {
        remove_directory();
    }
}

/// The names of all namespaces there are, sorted.
pub fn names() -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{DIRECTORY} cannot be read"))?,
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn in_thread<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes the directory, and makes it a shared mount as `ip netns` does, so that namespaces are seen in other mount
/// namespaces, too.
fn prepare_directory() -> Result<Flock<File>> {
    let lock = loop {
        match fs::create_dir(DIRECTORY) {
            Ok(()) => DIRECTORY_IS_OURS.store(true, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => bail!("{DIRECTORY} cannot be made: {error}; the laboratory needs root"),
        }
        if let Some(lock) = lock_directory()? {
            break lock;
        }
    };
    let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
    let share = || mount(None::<&str>, DIRECTORY, None::<&str>, flags, None::<&str>);
    if share() == Err(Errno::EINVAL) {
        // Not a mount yet.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>)
            .and_then(|()| share())
            .with_context(|| format!("{DIRECTORY} cannot be made a shared mount"))?;
    }
    Ok(lock)
}

fn remove_directory() {
    let Ok(Some(_lock)) = lock_directory() else { return };
    if names().is_ok_and(|names| names.is_empty()) {
        let _ = umount2(DIRECTORY, MntFlags::MNT_DETACH);
        if fs::remove_dir(DIRECTORY).is_ok() {
            DIRECTORY_IS_OURS.store(false, Ordering::Relaxed);
        }
    }
}

/// Takes the lock that `ip netns` takes; nothing if the directory went meanwhile.
fn lock_directory() -> Result<Option<Flock<File>>> {
    let directory = match File::open(DIRECTORY) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        directory => directory.with_context(|| format!("{DIRECTORY} cannot be opened"))?,
    };
    let lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("{DIRECTORY} cannot be locked"))?;
    let locked = lock
        .metadata()
        .with_context(|| format!("{DIRECTORY} cannot be read"))?
        .ino();
    let present = fs::metadata(DIRECTORY).is_ok_and(|present| present.ino() == locked);
    Ok(present.then_some(lock))
}

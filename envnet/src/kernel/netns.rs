//! Network namespaces: threads that enter them, names under `/run/netns` as `ip netns` keeps them.
//!
//! Only the network namespace is ever entered, and only by threads that end with the closure they run, so that mounts
//! stay visible and no other code of the process is moved by accident.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";

/// A handle to a network namespace, which lives at least as long as the handle.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").context("cannot open the current network namespace")?;
        Ok(Self(Arc::new(file)))
    }

    /// The namespace of that name; an error when there is none.
    pub fn open(name: &str) -> Result<Self> {
        ensure!(
            !name.is_empty() && !name.contains('/'),
            "`{name}` is not the name of a network namespace; see `ip netns`"
        );
        let path = path_of(name);
        let missing = || {
            format!(
                "there is no network namespace `{name}` ({}); see `ip netns`",
                path.display()
            )
        };
        let file = File::open(&path).with_context(missing)?;
        ensure!(is_namespace(&path), missing());
        Ok(Self(Arc::new(file)))
    }

    /// A new namespace without a name; it goes when its last handle does.
    pub fn create() -> Result<Self> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<Self> {
                unshare(CloneFlags::CLONE_NEWNET).context("cannot create a network namespace")?;
                Self::current()
            });
            join(thread)
        })
    }

    /// Runs `work` in a thread that has entered this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| -> Result<T> {
                setns(&*self.0, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
                Ok(work())
            });
            join(thread)
        })
    }

    /// Gives the namespace a name, under which it outlives its handles.
    pub fn bind(&self, name: &str) -> Result<()> {
        prepare_directory().context("cannot prepare /run/netns")?;
        let path = path_of(name);
        if path.exists() && !is_namespace(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let source = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let bound = mount(
            Some(source.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        if let Err(error) = bound {
            let _unmounted_file = fs::remove_file(&path);
            bail!("cannot bind the namespace to {}: {error}", path.display());
        }
        Ok(())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Takes the name away. The namespace goes with its last process and handle. No error when there is no such name.
pub fn unbind(name: &str) -> Result<()> {
    let path = path_of(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a file that nothing is mounted on, as a crash between the two steps of `bind` leaves it.
        Ok(()) | Err(nix::Error::EINVAL) => {}
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(error) => bail!("cannot unmount {}: {error}", path.display()),
    }
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The names that have a namespace, in no particular order.
pub fn names() -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("cannot read /run/netns"),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_namespace(&entry.path()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Whether a name has a namespace behind it. A plain file is what a crash between creating the file and mounting the
/// namespace on it leaves.
fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC)
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes `/run/netns` a shared mount, as `ip netns add` does, so that names propagate to other mount namespaces. The lock
/// is the one `ip` takes, so that two commands do not mount it over each other.
fn prepare_directory() -> Result<()> {
    fs::create_dir_all(DIRECTORY)?;
    let _lock = Flock::lock(File::open(DIRECTORY)?, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let share = || {
        mount(
            None::<&str>,
            DIRECTORY,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    if share() == Err(nix::Error::EINVAL) {
        mount(
            Some(DIRECTORY),
            DIRECTORY,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )?;
        share()?;
    }
    Ok(())
}

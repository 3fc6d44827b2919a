//! Network namespaces: entering them, names under `/run/netns` as `ip netns` keeps them.
//!
//! Only the network namespace is ever entered, so that mounts stay visible, and only for the time of a closure that does
//! not wait for anything, so that no other code of the process is moved by accident.

use std::{
    cell::OnceCell,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    process,
    sync::{Arc, OnceLock},
};

use nix::{
    fcntl::{Flock, FlockArg},
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

use super::{Error, Explain as _, Result};

/// The namespace something lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetnsKind {
    /// The namespace that plays the host.
    Host,
    /// The environment's router namespace.
    Router,
}

/// Where `ip netns` keeps its names.
const DIRECTORY: &str = "/run/netns";

/// The mode of the files that envnet's namespaces are mounted on. It comes with the file's creation, and nobody else's has it
/// (`ip netns` gives none at all), so that a file that a crash has left without its mount is known for envnet's own.
const FILE_MODE: u32 = libc::S_ISVTX;

/// A handle to a network namespace, which lives at least as long as the handle.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").explain(|| "cannot open the current network namespace")?;
        Ok(Self(Arc::new(file)))
    }

    /// The namespace of that name; an error when there is none.
    pub fn open(name: &str) -> Result<Self> {
        if name.is_empty() || name.contains('/') {
            return Err(Error::Unexpected(format!(
                "`{name}` is not the name of a network namespace; see `ip netns`"
            )));
        }
        let path = path_of(name);
        let missing = || {
            format!(
                "there is no network namespace `{name}` ({}); see `ip netns`",
                path.display()
            )
        };
        let file = File::open(&path).explain(missing)?;
        if !is_namespace(&path) {
            return Err(Error::Unexpected(missing()));
        }
        Ok(Self(Arc::new(file)))
    }

    /// A new namespace without a name; it goes when its last handle does.
    pub fn create() -> Result<Self> {
        let _home = Home::leave()?;
        unshare(CloneFlags::CLONE_NEWNET).explain(|| "cannot create a network namespace")?;
        Self::current()
    }

    /// Runs `work` while the calling thread is in this namespace. What is run does not do so again.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let _home = Home::leave()?;
        setns(&*self.0, CloneFlags::CLONE_NEWNET).explain(|| "cannot enter a network namespace")?;
        Ok(work())
    }

    /// The index of the interface of that name, if there is one. Without waiting for others that change links, as a
    /// request by netlink would.
    pub fn index(&self, link: &str) -> Result<Option<u32>> {
        match self.run(|| if_nametoindex(link))? {
            Ok(index) => Ok(Some(index)),
            Err(nix::Error::ENODEV) => Ok(None),
            Err(error) => Err(error).explain(|| format!("cannot look up link {link}")),
        }
    }

    /// Gives the namespace a name, under which it outlives its handles.
    pub fn bind(&self, name: &str) -> Result<()> {
        static PREPARED: OnceLock<()> = OnceLock::new();
        // The kernel would go through all the names every time.
        if PREPARED.get().is_none() {
            prepare_directory().explain(|| "cannot prepare /run/netns")?;
            PREPARED.get_or_init(|| ());
        }
        let path = path_of(name);
        if path.exists() && !is_namespace(&path) {
            fs::remove_file(&path).explain(|| format!("cannot remove {}", path.display()))?;
        }
        File::options()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .explain(|| format!("cannot create {}", path.display()))?;
        let source = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let bound = mount(
            Some(source.as_str()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        );
        if bound.is_err() {
            let _unmounted_file = fs::remove_file(&path);
        }
        bound.explain(|| format!("cannot bind the namespace to {}", path.display()))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

thread_local! {
    /// The namespace a thread is in when it is not in another one for a while.
    static HOME: OnceCell<Netns> = const { OnceCell::new() };
}

/// Goes back to where the thread came from when this is dropped.
struct Home(Netns);

impl Home {
    fn leave() -> Result<Self> {
        HOME.with(|home| {
            if let Some(home) = home.get() {
                return Ok(Self(home.clone()));
            }
            let current = Netns::current()?;
            Ok(Self(home.get_or_init(|| current).clone()))
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = setns(&*self.0.0, CloneFlags::CLONE_NEWNET) {
            // Nothing may go on in the wrong namespace.
            log::error!("cannot return to the host's network namespace: {error}");
            process::abort();
        }
    }
}

/// Takes the name away. The namespace goes with its last process and handle. No error when there is no such name.
pub fn unbind(name: &str) -> Result<()> {
    let path = path_of(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a file that nothing is mounted on, as a crash between the two steps of `bind` leaves it.
        Ok(()) | Err(nix::Error::EINVAL) => {}
        Err(nix::Error::ENOENT) => return Ok(()),
        Err(error) => return Err(error).explain(|| format!("cannot unmount {}", path.display())),
    }
    fs::remove_file(&path).explain(|| format!("cannot remove {}", path.display()))
}

/// The names below `/run/netns`, in no particular order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Those that have a namespace.
    pub bound: Vec<String>,
    /// Those of envnet's that a crash has left without one.
    pub left: Vec<String>,
}

/// Lists the names.
pub fn names() -> Result<Names> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Names::default()),
        Err(error) => return Err(error).explain(|| "cannot read /run/netns"),
    };
    let mut names = Names::default();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_namespace(&entry.path()) {
            names.bound.push(name);
        } else if is_left(&entry.path()) {
            names.left.push(name);
        }
    }
    Ok(names)
}

/// Whether there is a namespace of that name.
#[must_use]
pub fn exists(name: &str) -> bool {
    is_namespace(&path_of(name))
}

/// Whether a name is envnet's and has no namespace.
#[must_use]
pub fn is_left_over(name: &str) -> bool {
    let path = path_of(name);
    !is_namespace(&path) && is_left(&path)
}

fn is_left(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o7777 == FILE_MODE)
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

//! The BPF filesystem: mounted when it is not, and unmounted again by whoever mounted it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{Error, Explain as _, Result};
use crate::names::Instance;

const MOUNT_POINT: &str = "/sys/fs/bpf";
/// Directory of all instances; also the mount's source when envnet mounted the filesystem itself, which is how a later
/// `detach` knows that it may unmount it.
const OWN: &str = "envnet";

/// Directory of an instance's pins.
#[must_use]
pub fn directory(instance: &Instance) -> PathBuf {
    Path::new(MOUNT_POINT).join(OWN).join(instance.path_component())
}

/// Refuses a directory of instances that somebody else could have put there. Where everybody may write to the filesystem, an
/// ordinary user could make it first, and later move what is pinned in it.
pub fn check_owner() -> Result<()> {
    let own = Path::new(MOUNT_POINT).join(OWN);
    let metadata = match fs::symlink_metadata(&own) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.explain(|| format!("cannot look at {}", own.display()))?,
    };
    if is_trusted(metadata.is_dir(), metadata.uid(), metadata.mode()) {
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "{} is not root's alone (user {}, mode {:o}): somebody else could move what is pinned in it. Look what it is, and remove it",
        own.display(),
        metadata.uid(),
        metadata.mode() & 0o7777
    )))
}

const fn is_trusted(is_directory: bool, user: u32, mode: u32) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    is_directory && user == 0 && mode & OTHERS_WRITE == 0
}

/// Makes a directory of pins that only root writes to, whatever the umask is.
pub fn create_directory(directory: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
    made.explain(|| format!("cannot create {}", directory.display()))?;
    // Somebody may have been faster.
    check_owner()
}

/// Mounts the filesystem when there is none.
pub fn ensure_mounted() -> Result<()> {
    let mounted = statfs(MOUNT_POINT).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if !mounted {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(OWN), MOUNT_POINT, Some("bpf"), flags, Some("mode=0700"))
            .explain(|| "cannot mount the BPF filesystem on /sys/fs/bpf; the kernel needs CONFIG_BPF_SYSCALL")?;
    }
    Ok(())
}

/// Removes an instance's pins, and what is then left empty.
pub fn remove(instance: &Instance) -> Result<()> {
    let directory = directory(instance);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).explain(|| format!("cannot remove {}", directory.display()));
        }
        _ => {}
    }
    remove_if_empty(&Path::new(MOUNT_POINT).join(OWN))?;
    if is_own_mount()? && is_unused()? {
        umount2(MOUNT_POINT, MntFlags::empty()).explain(|| "cannot unmount /sys/fs/bpf")?;
    }
    Ok(())
}

/// Whether envnet has mounted the filesystem, or made its directory in it, and a crash has left that empty.
pub fn is_left_empty() -> Result<bool> {
    let own = Path::new(MOUNT_POINT).join(OWN);
    match fs::read_dir(&own) {
        Ok(mut instances) => Ok(instances.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(is_own_mount()? && is_unused()?),
        Err(error) => Err(error).explain(|| format!("cannot read {}", own.display())),
    }
}

fn is_own_mount() -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts").explain(|| "cannot read /proc/self/mounts")?;
    let own_mount = format!("{OWN} {MOUNT_POINT} bpf ");
    Ok(mounts.lines().any(|line| line.starts_with(&own_mount)))
}

/// Whether nothing is pinned in the filesystem but what the kernel itself puts into every one.
fn is_unused() -> Result<bool> {
    for entry in fs::read_dir(MOUNT_POINT).explain(|| "cannot read /sys/fs/bpf")? {
        if !["maps.debug", "progs.debug"]
            .iter()
            .any(|own| entry.as_ref().is_ok_and(|entry| entry.file_name() == *own))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a directory unless something is in it or it is not there.
pub fn remove_if_empty(directory: &Path) -> Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(error).explain(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_of_root_is_trusted() {
        let directory = 0o040_000;
        assert!(is_trusted(true, 0, directory | 0o755));
        assert!(is_trusted(true, 0, directory | 0o700));
        assert!(
            !is_trusted(true, 1000, directory | 0o755),
            "its owner can move what is in it"
        );
        assert!(!is_trusted(true, 0, directory | 0o1777));
        assert!(!is_trusted(true, 0, directory | 0o775));
        assert!(!is_trusted(false, 0, 0o120_777), "a symbolic link leads anywhere");
    }
}

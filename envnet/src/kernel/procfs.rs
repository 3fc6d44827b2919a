//! `/proc` by itself: an instance that nobody else sees and that goes when it is closed.
//!
//! The kernel keeps what it has found in `/proc/sys/net` under its name alone, so that `ipv4` of one network namespace is
//! one of as many entries as there are namespaces, which it goes through for each look (`proc_sys_compare`). A fresh
//! instance has none of them.

use std::{cell::RefCell, fs::File, io, os::fd::OwnedFd, rc::Rc};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// So many namespaces are looked into by one instance: fewer would be made too often, more would be gone through.
const USES: u32 = 32;

thread_local! {
    static INSTANCE: RefCell<Option<(Rc<OwnedFd>, u32)>> = const { RefCell::new(None) };
}

/// The root of an instance, or of `/proc` where none may be made (in some containers, under a filter of system calls).
pub(super) fn root() -> io::Result<Rc<OwnedFd>> {
    INSTANCE.with_borrow_mut(|instance| {
        if let Some((root, uses @ 1..)) = instance {
            *uses -= 1;
            return Ok(Rc::clone(root));
        }
        let root = Rc::new(mount().or_else(|_| File::open("/proc").map(OwnedFd::from))?);
        *instance = Some((Rc::clone(&root), USES - 1));
        Ok(root)
    })
}

/// Mounts an instance nowhere: it lives as long as the descriptor, and what was opened in it.
fn mount() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, safe)?)
}

//! What a pinned link holds, by the kernel's own word: interfaces change their names, and pins do not.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use super::{bpffs, shared};
use crate::{
    kernel::{Explain as _, Result, bpf},
    names::Instance,
    topology,
};

/// A pinned tcx or XDP link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Number of the program.
    pub program: u32,
    /// Index of the interface, whatever its name is now; 0 when it is gone.
    pub interface: u32,
}

impl Pinned {
    /// Looks at a pin; none when there is none, or when it is not one of a link.
    #[must_use]
    pub fn at(pin: &Path) -> Option<Self> {
        let descriptor = bpf::open_pin(pin).ok()?;
        let target = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
        // Something else's pin would be described in another way. Kernels differ in the name.
        if !["anon_inode:bpf-link", "anon_inode:bpf_link"].contains(&target.to_str()?) {
            return None;
        }
        let (program, interface) = bpf::link_info(descriptor.as_fd()).ok()?;
        Some(Self { program, interface })
    }
}

/// Lets a role's pin for an interface be called after the name that the interface has now: the kernel would not take the same
/// program twice, and runs two builds' side by side. Another interface's pin of that name makes room. To be called for
/// interfaces of the host's namespace, whose indices are what is compared.
pub(super) fn adopt(role: &topology::Program, interface: u32, pin: &Path) -> Result<()> {
    let Some(directory) = pin.parent().filter(|directory| directory.exists()) else {
        return Ok(());
    };
    let present = Pinned::at(pin);
    if present.is_some_and(|present| present.interface == interface) {
        return Ok(());
    }
    let moved = |from: &Path, to: &Path| {
        fs::rename(from, to).explain(|| format!("cannot rename {} to {}", from.display(), to.display()))
    };
    if let Some(other) = present.filter(|other| other.interface != 0) {
        moved(pin, &directory.join(role.pin_without_name(other.interface)))?;
    }
    for other in fs::read_dir(directory).explain(|| format!("cannot read {}", directory.display()))? {
        let other = other?.path();
        let is_of_role = other
            .file_name()
            .is_some_and(|name| role.is_pin(&name.to_string_lossy()));
        if is_of_role && Pinned::at(&other).is_some_and(|pinned| pinned.interface == interface) {
            return moved(&other, pin);
        }
    }
    Ok(())
}

/// A pin that holds what is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StalePin {
    /// Its name among the pins of links.
    pub name: String,
    /// What it holds; none where a directory remembers something about an interface.
    pub holds: Option<Pinned>,
}

/// The pins of links whose interfaces are none of those with these indices.
pub fn stale_pins(instance: &Instance, interfaces: &BTreeSet<u32>) -> Result<Vec<StalePin>> {
    let directory = bpffs::directory(instance).join("links");
    let unreadable = || format!("cannot read {}", directory.display());
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.explain(unreadable)?,
    };
    let mut stale = Vec::new();
    for entry in entries {
        let path = entry.explain(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let holds = Pinned::at(&path);
        let interface = match holds {
            Some(pinned) => Some(pinned.interface),
            None if path.is_dir() => shared::qdisc_of(&name),
            None => None,
        };
        if interface.is_some_and(|interface| !interfaces.contains(&interface)) {
            stale.push(StalePin { name, holds });
        }
    }
    Ok(stale)
}

/// Removes stale pins, unless they have come to hold something else meanwhile.
pub fn remove_stale_pins(instance: &Instance, stale: &[StalePin]) -> Result<()> {
    for StalePin { name, holds } in stale {
        let pin = bpffs::directory(instance).join("links").join(name);
        let removed = match holds {
            Some(_) if Pinned::at(&pin) != *holds => continue,
            Some(_) => fs::remove_file(&pin),
            None => fs::remove_dir(&pin),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).explain(|| format!("cannot remove {}", pin.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

//! `net.*` sysctls, as files.
//!
//! Keys are paths below `/proc/sys/net`, with slashes: interface names may have dots (`vm1.2`).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::{Explain as _, Result, netns::Netns, procfs};

/// The sysctls of a namespace.
///
/// `/proc/sys/net` shows those of the thread that looks. What is below `ipv4` has to be looked up from inside the namespace,
/// too: the kernel would find it from elsewhere, but not remember it.
#[derive(Debug)]
pub struct Sysctls {
    netns: Netns,
    ipv4: OwnedFd,
    ipv6: Option<OwnedFd>,
}

impl Sysctls {
    /// Opens a namespace's sysctls.
    pub fn open(netns: &Netns) -> Result<Self> {
        let root = procfs::root().explain(|| "cannot open /proc")?;
        let directory = |path| {
            openat(
                &*root,
                path,
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )
        };
        netns.run(|| {
            Ok(Self {
                netns: netns.clone(),
                ipv4: directory("sys/net/ipv4").explain(|| "cannot open /proc/sys/net/ipv4")?,
                // A kernel may have none.
                ipv6: directory("sys/net/ipv6").ok(),
            })
        })?
    }

    /// Reads values; none for one that does not exist (a kernel without IPv6, an interface that is not there).
    pub fn read<'k>(&self, keys: &[&'k str]) -> Result<BTreeMap<&'k str, String>> {
        self.netns.run(|| {
            keys.iter()
                .filter_map(|key| Some((*key, self.value(key).ok()?)))
                .collect()
        })
    }

    fn value(&self, key: &str) -> io::Result<String> {
        let mut value = String::new();
        self.file(key, OFlag::O_RDONLY)?.read_to_string(&mut value)?;
        Ok(value.trim().to_owned())
    }

    /// Writes a value.
    pub fn write(&self, key: &str, value: &str) -> Result<()> {
        self.netns
            .run(|| self.file(key, OFlag::O_WRONLY)?.write_all(value.as_bytes()))?
            .explain(|| format!("cannot set sysctl {key} to {value}"))
    }

    fn file(&self, key: &str, access: OFlag) -> io::Result<File> {
        let (family, rest) = key.split_once('/').ok_or(io::ErrorKind::NotFound)?;
        let directory = match family {
            "ipv4" => Some(&self.ipv4),
            "ipv6" => self.ipv6.as_ref(),
            _ => None,
        };
        let directory = directory.ok_or(io::ErrorKind::NotFound)?;
        let file = openat(directory, rest, access | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(file.into())
    }
}

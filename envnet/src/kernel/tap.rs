//! Persistent taps, which netlink cannot create.

use std::{
    fs::File,
    mem,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::errno::Errno;

use super::{Explain as _, Result, netns::Netns};

/// The requests of `linux/if_tun.h`.
mod request {
    nix::ioctl_write_int!(tun_set_persist, b'T', 203);
    nix::ioctl_write_int!(tun_set_owner, b'T', 204);
    nix::ioctl_write_int!(tun_set_group, b'T', 206);
    nix::ioctl_write_ptr!(tun_set_interface, b'T', 202, libc::c_int);
}

/// A tap that vanishes with this handle until it is made persistent.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    name: String,
}

/// Makes the tap `name` in a namespace; an error when there is something of that name.
///
/// The tap has `IFF_VNET_HDR`, so that virtual machines can use checksum and segmentation offload, and is persistent only
/// after [`Tap::persist`]: a crash before that leaves nothing behind.
pub fn create(netns: &Netns, name: &str) -> Result<Tap> {
    open_with(netns, name, TAP_FLAGS | IFF_TUN_EXCL)
}

/// Opens a tap. Fails with `EBUSY` when a virtual machine has it.
pub fn open(netns: &Netns, name: &str) -> Result<Tap> {
    open_with(netns, name, TAP_FLAGS)
}

fn open_with(netns: &Netns, name: &str, flags: u16) -> Result<Tap> {
    let file = netns
        .run(|| -> Result<OwnedFd> {
            let file = File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .explain(|| "cannot open /dev/net/tun")?;
            // SAFETY: the structure has only integers and pointers, for which zero is a value.
            let mut request: libc::ifreq = unsafe { mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
                *to = libc::c_char::from_ne_bytes([*from]);
            }
            request.ifr_ifru.ifru_flags = flags.cast_signed();
            // SAFETY: the kernel reads and writes one `struct ifreq`, and the file is open for the duration of the call.
            unsafe { request::tun_set_interface(file.as_raw_fd(), (&raw const request).cast()) }?;
            Ok(file.into())
        })?
        .explain(|| format!("cannot open tap {name}"))?;
    Ok(Tap {
        file,
        name: name.to_owned(),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the flags are defined for this 16-bit field"
)]
const TAP_FLAGS: u16 = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;

/// `linux/if_tun.h`: never attach to a tap that exists.
const IFF_TUN_EXCL: u16 = 0x8000;

impl Tap {
    /// Lets this user or group open the tap, besides root.
    pub fn set_owner(&self, user: Option<u32>, group: Option<u32>) -> Result<()> {
        if let Some(user) = user {
            // SAFETY: the argument is passed by value; the descriptor is open.
            self.done("owner", unsafe {
                request::tun_set_owner(self.file.as_raw_fd(), user.into())
            })?;
        }
        if let Some(group) = group {
            // SAFETY: as above.
            self.done("group", unsafe {
                request::tun_set_group(self.file.as_raw_fd(), group.into())
            })?;
        }
        Ok(())
    }

    /// Lets the tap outlive the handle.
    pub fn persist(self) -> Result<()> {
        // SAFETY: as above.
        self.done("persistence", unsafe {
            request::tun_set_persist(self.file.as_raw_fd(), 1)
        })
    }

    fn done(&self, what: &str, result: Result<libc::c_int, Errno>) -> Result<()> {
        result
            .map(drop)
            .explain(|| format!("cannot set the {what} of tap {}", self.name))
    }
}

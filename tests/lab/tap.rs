//! Opening tap interfaces the way QEMU does: whole offloaded packets with a `virtio_net_hdr` in front.

use std::{
    fs::{File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use crate::{interrupt::wait_for, namespace::Namespace};

/// How long a tap may stay busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest read from a tap: the header before the frame, an Ethernet header and the largest IPv4 packet.
pub const LARGEST_READ: usize = 10 + 14 + 65_535;

// From linux/if_tun.h; libc has no names for the offload flags.
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;

nix::ioctl_write_ptr_bad!(
    /// TUNSETIFF, whose argument is not of the type that its number says.
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int!(
    /// TUNSETOFFLOAD.
    set_offload,
    b'T',
    208
);

/// What the end of a cable leaves to the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Checksums and segmentation, as with virtual machines' paravirtual interfaces.
    #[default]
    Full,
    /// Nothing: every frame is complete and fits the MTU.
    None,
}

/// Opens the tap `interface` of the namespace for reading and writing without blocking; makes the tap if there is none.
/// One that is made here vanishes when the file is closed.
pub fn open(namespace: &Namespace, interface: &str, offload: Offload) -> Result<File> {
    ensure!(
        interface.len() < libc::IFNAMSIZ,
        "interface name {interface} is longer than the kernel allows"
    );
    // The device belongs to the namespace of the thread that opens the file.
    let tap = namespace.run(|| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        options
            .open("/dev/net/tun")
            .context("/dev/net/tun cannot be opened; is the tun module there?")
    })?;
    // SAFETY: ifreq is plain old data, for which all bits zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
    // A process that another thread starts holds copies of all files from its fork until its exec, so a tap that was
    // closed a moment ago may still be busy.
    wait_for(
        &format!("tap {interface}, which something else holds"),
        PATIENCE,
        || {
            // SAFETY: the descriptor is open and the request outlives the call.
            match unsafe { set_interface(tap.as_raw_fd(), &raw const request) } {
                Err(Errno::EBUSY) => Ok(None),
                done => Ok(Some(done?)),
            }
        },
    )
    .with_context(|| format!("tap {interface} cannot be opened"))?;
    let offload = match offload {
        Offload::Full => TUN_F_CSUM | TUN_F_TSO4,
        Offload::None => 0,
    };
    // SAFETY: the descriptor is an open tap; the argument is a plain number.
    unsafe { set_offload(tap.as_raw_fd(), offload) }.with_context(|| format!("tap {interface} takes no offload"))?;
    Ok(tap)
}

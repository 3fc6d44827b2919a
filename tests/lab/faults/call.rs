//! System calls that have to do with what `envnet` makes, and what they say.

use std::{ffi::CStr, fmt};

use nix::libc;

use super::listener::Notification;

/// The calls by which a program can change what outlives it, or asks the kernel about it. Sysctls are written to after they
/// have been opened for it, and failing there is failing to write.
pub(super) const WATCHED: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_sendto,
    libc::SYS_socket,
    libc::SYS_ioctl,
    libc::SYS_openat,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// What a call is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Neither.
    Other,
    /// It asks the kernel for its state.
    Question,
    /// It changes the kernel's state.
    Change,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it is good for.
    pub kind: Kind,
    what: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Call {
    /// Reads a call from the process that wants to make it and waits.
    pub(super) fn read(notification: &Notification) -> Self {
        let memory = Memory(notification.pid);
        let [first, second, third, ..] = notification.data.args;
        let number = libc::c_long::from(notification.data.nr);
        let path = |name: &str, address| (Kind::Change, format!("{name} {}", memory.text(address)));
        let (kind, what) = match number {
            libc::SYS_bpf => bpf(first, second, &memory),
            libc::SYS_sendto => netlink(second, &memory),
            libc::SYS_socket if low(first) == libc::AF_NETLINK.cast_unsigned() => {
                (Kind::Question, "socket of netlink".to_owned())
            }
            libc::SYS_ioctl => ioctl(low(second)),
            libc::SYS_openat => open(low(third), &memory.text(second)),
            libc::SYS_mount => path("mount", second),
            libc::SYS_umount2 => path("umount", first),
            libc::SYS_unshare => (Kind::Change, "unshare".to_owned()),
            libc::SYS_mkdirat => path("mkdir", second),
            libc::SYS_unlinkat => path("unlink", second),
            libc::SYS_linkat | libc::SYS_renameat2 => path("link or rename", second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_mkdir => path("mkdir", first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => path("unlink", first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => path("rmdir", first),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => path("rename", first),
            number => (Kind::Other, format!("system call {number}")),
        };
        Self { kind, what }
    }
}

fn bpf(command: u64, attributes: u64, memory: &Memory) -> (Kind, String) {
    // `enum bpf_cmd` of `linux/bpf.h`.
    const NAMES: &[(u64, Kind, &str)] = &[
        (0, Kind::Change, "BPF_MAP_CREATE"),
        (1, Kind::Question, "BPF_MAP_LOOKUP_ELEM"),
        (2, Kind::Change, "BPF_MAP_UPDATE_ELEM"),
        (3, Kind::Change, "BPF_MAP_DELETE_ELEM"),
        (4, Kind::Question, "BPF_MAP_GET_NEXT_KEY"),
        (5, Kind::Change, "BPF_PROG_LOAD"),
        (PIN, Kind::Change, "BPF_OBJ_PIN"),
        (GET, Kind::Question, "BPF_OBJ_GET"),
        (11, Kind::Question, "BPF_PROG_GET_NEXT_ID"),
        (12, Kind::Question, "BPF_MAP_GET_NEXT_ID"),
        (13, Kind::Question, "BPF_PROG_GET_FD_BY_ID"),
        (14, Kind::Question, "BPF_MAP_GET_FD_BY_ID"),
        (15, Kind::Question, "BPF_OBJ_GET_INFO_BY_FD"),
        (16, Kind::Question, "BPF_PROG_QUERY"),
        (18, Kind::Change, "BPF_BTF_LOAD"),
        (28, Kind::Change, "BPF_LINK_CREATE"),
        (29, Kind::Change, "BPF_LINK_UPDATE"),
    ];
    const PIN: u64 = 6;
    const GET: u64 = 7;
    let known = NAMES.iter().find(|(number, ..)| *number == command);
    // What is not known here could be a change.
    let (kind, name) = known.map_or_else(
        || (Kind::Change, format!("bpf command {command}")),
        |(_, kind, name)| (*kind, (*name).to_owned()),
    );
    if matches!(command, PIN | GET) {
        // The path's address is the first of the attributes.
        let address = memory.bytes(attributes).map_or(0, u64::from_ne_bytes);
        return (kind, format!("{name} {}", memory.text(address)));
    }
    (kind, name)
}

fn netlink(message: u64, memory: &Memory) -> (Kind, String) {
    // `linux/rtnetlink.h`: groups of four, whose third asks.
    const NAMES: &[(u16, &str)] = &[
        (16, "RTM_NEWLINK"),
        (17, "RTM_DELLINK"),
        (18, "RTM_GETLINK"),
        (19, "RTM_SETLINK"),
        (20, "RTM_NEWADDR"),
        (21, "RTM_DELADDR"),
        (22, "RTM_GETADDR"),
        (24, "RTM_NEWROUTE"),
        (25, "RTM_DELROUTE"),
        (26, "RTM_GETROUTE"),
        (30, "RTM_GETNEIGH"),
        (36, "RTM_NEWQDISC"),
        (37, "RTM_DELQDISC"),
        (44, "RTM_NEWTFILTER"),
        (45, "RTM_DELTFILTER"),
        (46, "RTM_GETTFILTER"),
    ];
    const GET: u16 = 2;
    // `struct nlmsghdr`: the type follows the length.
    let header = memory.bytes(message).map_or(0, u64::from_ne_bytes);
    let number = u16::try_from(header >> 32 & 0xffff).unwrap_or_default();
    let name = NAMES.iter().find(|(known, _)| *known == number);
    let name = name.map_or_else(|| format!("message {number}"), |(_, name)| (*name).to_owned());
    let kind = if number % 4 == GET {
        Kind::Question
    } else {
        Kind::Change
    };
    (kind, format!("netlink {name}"))
}

fn ioctl(request: u32) -> (Kind, String) {
    // `linux/if_tun.h`; the terminal's requests have the same letter and lower numbers.
    const TUN: std::ops::RangeInclusive<u32> = 200..=228;
    let (letter, number) = (request >> 8 & 0xff, request & 0xff);
    if letter == u32::from(b'T') && TUN.contains(&number) {
        return (Kind::Change, format!("ioctl TUN {number}"));
    }
    (Kind::Other, format!("ioctl {request:#x}"))
}

fn open(flags: u32, path: &str) -> (Kind, String) {
    let changes = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT).cast_unsigned();
    // A tap comes by ioctl.
    if flags & changes != 0 && path != "/dev/net/tun" {
        (Kind::Change, format!("open to write {path}"))
    } else {
        (Kind::Other, format!("open {path}"))
    }
}

/// Numbers are passed in 64 bits, of which the kernel takes the lower half.
fn low(argument: u64) -> u32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default()
}

/// The memory of the process (or thread) of that number.
struct Memory(u32);

impl Memory {
    fn bytes<const LENGTH: usize>(&self, address: u64) -> Option<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        (self.read(address, &mut bytes) == LENGTH).then_some(bytes)
    }

    /// A string that ends with a zero.
    fn text(&self, address: u64) -> String {
        let mut bytes = [0; 256];
        let length = self.read(address, &mut bytes);
        CStr::from_bytes_until_nul(&bytes[..length])
            .map_or_else(|_| "?".to_owned(), |text| text.to_string_lossy().into_owned())
    }

    /// Reads as much as there is.
    fn read(&self, address: u64, bytes: &mut [u8]) -> usize {
        // Not across the end of a page, behind which may be nothing.
        const PAGE: usize = 4096;
        let Ok(address) = usize::try_from(address) else {
            return 0;
        };
        let length = bytes.len().min(PAGE - address % PAGE);
        let local = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: length,
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(address),
            iov_len: length,
        };
        let process = libc::pid_t::try_from(self.0).unwrap_or(-1);
        // SAFETY: the kernel writes at most `length` bytes, which `bytes` has; the other address is not of this process.
        let done = unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(done).unwrap_or(0)
    }
}

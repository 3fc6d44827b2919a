//! The kernel's side: a filter that stops a process at certain system calls, and the descriptor that hears of them.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::call::WATCHED;

/// Where the process has its end of the listener, out of the way of its own descriptors: 0 to 2 are taken, and what it opens
/// comes next.
const DESCRIPTOR: RawFd = 777;

/// How a notification looks.
pub(super) type Notification = libc::seccomp_notif;

/// The requests of `linux/seccomp.h`.
mod request {
    use nix::libc::{seccomp_notif, seccomp_notif_resp};

    nix::ioctl_readwrite!(receive, b'!', 0, seccomp_notif);
    nix::ioctl_readwrite!(send, b'!', 1, seccomp_notif_resp);
}

/// Makes a command stop at the watched calls. It then has to be listened to, or it waits for ever (until this process dies,
/// which the kernel kills it for).
pub(super) fn install(command: &mut Command) -> Result<()> {
    let filter = filter()?;
    // SAFETY: bare system calls, fine between fork and exec. The filter is made before, and the closure owns it.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or_default(),
                filter: filter.as_ptr().cast_mut(),
            };
            let listener = libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            );
            let listener = RawFd::try_from(listener).unwrap_or(-1);
            // The copy stays open across exec, for the parent to take.
            if listener < 0 || libc::dup2(listener, DESCRIPTOR) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(())
}

/// Stops at the watched calls and lets all others pass. The number of a call means the same in all of the program, which is
/// of one architecture.
fn filter() -> Result<Vec<libc::sock_filter>> {
    let code = |code: u32| u16::try_from(code).context("an instruction has 16 bits");
    let load = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS)?;
    let compare = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K)?;
    let end = code(libc::BPF_RET | libc::BPF_K)?;
    let mut filter = Vec::new();
    // SAFETY: these only fill in structures.
    unsafe {
        // The number comes first in `struct seccomp_data`.
        filter.push(libc::BPF_STMT(load, 0));
        for &number in WATCHED {
            filter.push(libc::BPF_JUMP(compare, u32::try_from(number)?, 0, 1));
            filter.push(libc::BPF_STMT(end, libc::SECCOMP_RET_USER_NOTIF));
        }
        filter.push(libc::BPF_STMT(end, libc::SECCOMP_RET_ALLOW));
    }
    Ok(filter)
}

/// Hears of the calls of a process, and says what becomes of them.
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Takes the listener of a process that [`install`] has prepared.
    pub(super) fn of(process: u32) -> Result<Self> {
        let process = libc::pid_t::try_from(process)?;
        let descriptor = |result: libc::c_long| {
            let number = RawFd::try_from(Errno::result(result)?)?;
            // SAFETY: the descriptor is new and nobody else's.
            anyhow::Ok(unsafe { OwnedFd::from_raw_fd(number) })
        };
        // SAFETY: a system call that takes numbers.
        let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
        let handle = descriptor(handle).context("a handle of the command")?;
        // SAFETY: as above.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), DESCRIPTOR, 0) };
        Ok(Self(descriptor(copy).context("the command's listener")?))
    }

    /// Waits for the next call; none when the process has ended.
    pub(super) fn next(&self) -> Result<Option<Notification>> {
        loop {
            let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.context("waiting for a call")?,
            };
            let events = ready[0].revents().unwrap_or_else(PollFlags::empty);
            if !events.contains(PollFlags::POLLIN) {
                return Ok(None);
            }
            // SAFETY: it is plain old data, and the kernel asks for zeroes.
            let mut notification: Notification = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel writes one structure.
            match unsafe { request::receive(self.0.as_raw_fd(), &raw mut notification) } {
                Ok(_) => return Ok(Some(notification)),
                // Killed meanwhile, or a signal here.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(error) => return Err(error).context("hearing of a call"),
            }
        }
    }

    /// Lets a call be made.
    pub(super) fn proceed(&self, notification: &Notification) -> Result<()> {
        self.answer(notification, 0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE)?)
    }

    /// Says that a call has failed, without making it.
    pub(super) fn refuse(&self, notification: &Notification, error: Errno) -> Result<()> {
        self.answer(notification, -(error as i32), 0)
    }

    fn answer(&self, notification: &Notification, error: i32, flags: u32) -> Result<()> {
        let mut response = libc::seccomp_notif_resp {
            id: notification.id,
            val: 0,
            error,
            flags,
        };
        // SAFETY: the kernel reads one structure.
        match unsafe { request::send(self.0.as_raw_fd(), &raw mut response) } {
            // The process has been killed meanwhile.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error).context("answering a call"),
        }
    }
}

//! The bounds of a unit, set for a process of ours as systemd sets them for one of its own: capabilities, no new privileges,
//! and a seccomp filter for system calls, address families, namespaces and memory.

use std::{collections::BTreeSet, io, mem::offset_of, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, ensure};
use envnet_lab::process;
use libc::{c_int, c_long, seccomp_data, sock_filter, sock_fprog};
use syscalls::Sysno;

use super::unit::Unit;

/// Numbers of capabilities (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 5] = [
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];
/// More than any kernel has.
const MOST_CAPABILITIES: u32 = 64;

const FAMILIES: [(&str, c_int); 3] = [
    ("AF_UNIX", libc::AF_UNIX),
    ("AF_INET", libc::AF_INET),
    ("AF_NETLINK", libc::AF_NETLINK),
];

const NAMESPACES: [(&str, c_int); 7] = [
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mnt", libc::CLONE_NEWNS),
    ("net", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// What a process is kept to.
#[derive(Clone)]
pub(super) struct Bounds {
    capabilities: BTreeSet<u32>,
    filter: Vec<sock_filter>,
}

impl Bounds {
    pub(super) fn of(unit: &Unit) -> Result<Self> {
        ensure!(
            unit.words("NoNewPrivileges") == ["yes"],
            "a seccomp filter needs NoNewPrivileges"
        );
        let capabilities = unit.words("CapabilityBoundingSet");
        let capabilities = capabilities.into_iter().map(capability).collect::<Result<_>>()?;
        Ok(Self {
            capabilities,
            filter: filter(unit)?,
        })
    }

    /// The same with one capability fewer.
    pub(super) fn without(mut self, name: &str) -> Result<Self> {
        ensure!(self.capabilities.remove(&capability(name)?), "{name} is not among them");
        Ok(self)
    }

    /// Keeps a command to the bounds.
    pub(super) fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let bounds = self.clone();
        // SAFETY: between fork and exec there are only system calls, on values made before.
        unsafe { command.pre_exec(move || bounds.set()) }
    }

    fn set(&self) -> io::Result<()> {
        for capability in (0..MOST_CAPABILITIES).filter(|capability| !self.capabilities.contains(capability)) {
            // SAFETY: takes numbers only. EINVAL: there is no such capability.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        // SAFETY: takes numbers only.
        let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let program = sock_fprog {
            len: u16::try_from(self.filter.len()).map_err(io::Error::other)?,
            filter: self.filter.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the filter, which outlives the call, as does the description of it.
        let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn capability(name: &str) -> Result<u32> {
    number(&CAPABILITIES, name)
}

fn number<N: Copy>(numbers: &[(&str, N)], name: &str) -> Result<N> {
    let found = numbers.iter().find(|(known, _)| *known == name);
    Ok(found.with_context(|| format!("{name} is not known here"))?.1)
}

/// The seccomp filter of a unit. All that runs in it has the architecture of this program.
fn filter(unit: &Unit) -> Result<Vec<sock_filter>> {
    let mut filter = vec![load(offset_of!(seccomp_data, nr))?];

    let namespaces = unit.words("RestrictNamespaces");
    let namespaces = namespaces.into_iter().map(|name| number(&NAMESPACES, name));
    let allowed: Vec<c_int> = namespaces.collect::<Result<_>>()?;
    let others = NAMESPACES
        .iter()
        .map(|(_, flag)| *flag)
        .filter(|flag| !allowed.contains(flag));
    let others = others.fold(0, |all, flag| all | flag);
    // Without an argument to look at, it is to be done by `clone`.
    on(&mut filter, libc::SYS_clone3, [fail(libc::ENOSYS)?]);
    for (call, argument) in [(libc::SYS_unshare, 0), (libc::SYS_clone, 0), (libc::SYS_setns, 1)] {
        let body = [
            load_argument(argument)?,
            jump(libc::BPF_JSET, others, 0, 1)?,
            fail(libc::EPERM)?,
            ALLOW,
        ];
        on(&mut filter, call, body);
    }

    let families = unit.words("RestrictAddressFamilies");
    let mut body = vec![load_argument(0)?];
    for family in families {
        body.extend([jump(libc::BPF_JEQ, number(&FAMILIES, family)?, 0, 1)?, ALLOW]);
    }
    body.push(fail(libc::EAFNOSUPPORT)?);
    on(&mut filter, libc::SYS_socket, body);

    ensure!(unit.words("MemoryDenyWriteExecute") == ["yes"], "memory is not bounded");
    let executable = jump(libc::BPF_JSET, libc::PROT_EXEC, 0, 2)?;
    let writable = jump(libc::BPF_JSET, libc::PROT_WRITE, 0, 1)?;
    on(
        &mut filter,
        libc::SYS_mmap,
        [load_argument(2)?, executable, writable, fail(libc::EPERM)?, ALLOW],
    );
    let executable = jump(libc::BPF_JSET, libc::PROT_EXEC, 0, 1)?;
    on(
        &mut filter,
        libc::SYS_mprotect,
        [load_argument(2)?, executable, fail(libc::EPERM)?, ALLOW],
    );

    ensure!(unit.words("SystemCallErrorNumber") == ["EPERM"], "another error number");
    for call in calls(unit)? {
        on(&mut filter, call, [ALLOW]);
    }
    filter.push(fail(libc::EPERM)?);
    Ok(filter)
}

/// The numbers of the system calls a unit allows.
fn calls(unit: &Unit) -> Result<BTreeSet<c_long>> {
    let mut calls = expand("@default")?;
    for list in unit.all("SystemCallFilter") {
        let (names, adds) = list.strip_prefix('~').map_or((list, true), |names| (names, false));
        for name in names.split_ascii_whitespace() {
            for call in expand(name)? {
                if adds {
                    calls.insert(call);
                } else {
                    calls.remove(&call);
                }
            }
        }
    }
    // Those of other architectures have no number here.
    let numbers = calls.iter().filter_map(|name| name.parse::<Sysno>().ok());
    Ok(numbers.map(|call| c_long::from(call.id())).collect())
}

/// The system calls that systemd knows by a name: of a set, or of one of them.
fn expand(name: &str) -> Result<BTreeSet<String>> {
    if !name.starts_with('@') {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    let text = process::output(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]))?;
    let mut calls = BTreeSet::new();
    // The first line is the set itself.
    for member in text.lines().skip(1).map(str::trim) {
        if !member.is_empty() && !member.starts_with('#') {
            calls.extend(expand(member)?);
        }
    }
    Ok(calls)
}

const ALLOW: sock_filter = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);

/// Adds what is done on one system call; it ends with a decision.
fn on(filter: &mut Vec<sock_filter>, call: c_long, body: impl IntoIterator<Item = sock_filter>) {
    let body: Vec<_> = body.into_iter().collect();
    filter.push(sock_filter {
        code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
        jt: 0,
        jf: u8::try_from(body.len()).expect("a body is short"),
        k: u32::try_from(call).expect("a system call has a small number"),
    });
    filter.extend(body);
}

fn load(offset: usize) -> Result<sock_filter> {
    let code = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    Ok(statement(code, u32::try_from(offset)?))
}

/// Loads the lower half of an argument, which is all that an `int` has.
fn load_argument(index: usize) -> Result<sock_filter> {
    let half = if cfg!(target_endian = "big") {
        size_of::<u32>()
    } else {
        0
    };
    load(offset_of!(seccomp_data, args) + index * size_of::<u64>() + half)
}

fn jump(condition: u32, value: c_int, jt: u8, jf: u8) -> Result<sock_filter> {
    Ok(sock_filter {
        code: code(libc::BPF_JMP | condition | libc::BPF_K),
        jt,
        jf,
        k: u32::try_from(value)?,
    })
}

fn fail(error: c_int) -> Result<sock_filter> {
    Ok(statement(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ERRNO | u32::try_from(error)?,
    ))
}

const fn statement(operation: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code(operation),
        jt: 0,
        jf: 0,
        k,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "operation codes of classic BPF have 16 bits"
)]
const fn code(operation: u32) -> u16 {
    operation as u16
}

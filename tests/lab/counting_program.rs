//! A BPF program of somebody else's: it counts what it sees and leaves everything to those after it.

use std::{
    borrow::Cow,
    ffi::c_long,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::{namespace::Namespace, process::output};
use anyhow::{Context, Result};
use aya::programs::{
    ProgramInfo, SchedClassifier, TcAttachType, XdpMode, loaded_programs,
    tc::{NlOptions, TcAttachOptions},
};
use nix::net::if_::if_nametoindex;

// Commands of bpf(2), from linux/bpf.h.
const MAP_CREATE: c_long = 0;
const MAP_LOOKUP: c_long = 1;
const PROGRAM_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;

const ARRAY: u32 = 2;
const CLASSIFIER: u32 = 3;
const DRIVER: u32 = 6;

/// TC_ACT_UNSPEC: what comes next decides.
const UNSPEC: i32 = -1;
const XDP_PASS: i32 = 2;
// Where a program may be linked to.
const XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// XDP_FLAGS_SKB_MODE.
const IN_STACK: u32 = 1 << 1;
/// XDP_FLAGS_DRV_MODE.
const IN_DRIVER: u32 = 1 << 2;
/// BPF_F_BEFORE, without anything that it is before.
const FIRST: u32 = 1 << 3;

#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    hook: u32,
    flags: u32,
}

/// bpf(2), which returns a number that is not negative.
fn bpf<T>(command: c_long, attributes: &mut T) -> Result<i32> {
    // SAFETY: the attributes outlive the call and are as long as is said; what they point to outlives it, too, as the
    // callers hold it.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("bpf(2)");
    }
    Ok(i32::try_from(done)?)
}

fn file(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// An instruction: code, registers (source and destination), offset and constant.
fn instruction(code: u8, registers: u8, constant: i32) -> u64 {
    let [a, b, c, d] = constant.to_ne_bytes();
    u64::from_ne_bytes([code, registers, 0, 0, a, b, c, d])
}

/// An attached program; it goes when this is dropped.
#[derive(Debug)]
pub struct Counter {
    map: OwnedFd,
    /// Holds the program where it is.
    _link: Option<OwnedFd>,
    _filter: Option<Filter>,
}

#[derive(Debug)]
struct Filter {
    program: SchedClassifier,
    namespace: Namespace,
    interface: String,
}

impl Counter {
    /// On an interface's tcx hook, before all others there are.
    pub fn tcx(namespace: &Namespace, interface: &str, direction: TcAttachType) -> Result<Self> {
        let hook = match direction {
            TcAttachType::Ingress => TCX_INGRESS,
            _ => TCX_EGRESS,
        };
        Self::linked(namespace, interface, load(CLASSIFIER, UNSPEC)?, (hook, FIRST))
    }

    /// Before the kernel's own stack: in an interface's driver, or where a driver cannot.
    pub fn xdp(namespace: &Namespace, interface: &str, mode: XdpMode) -> Result<Self> {
        let flags = match mode {
            XdpMode::Skb => IN_STACK,
            _ => IN_DRIVER,
        };
        Self::linked(namespace, interface, load(DRIVER, XDP_PASS)?, (XDP, flags))
    }

    fn linked(
        namespace: &Namespace,
        interface: &str,
        (map, program): (OwnedFd, OwnedFd),
        (hook, flags): (u32, u32),
    ) -> Result<Self> {
        let interface = namespace.run(|| Ok(if_nametoindex(interface)?))?;
        let mut attributes = LinkAttributes {
            program: u32::try_from(program.as_raw_fd())?,
            interface,
            hook,
            flags,
        };
        let link = namespace.run(|| bpf(LINK_CREATE, &mut attributes))?;
        Ok(Self {
            map,
            _link: Some(file(link)),
            _filter: None,
        })
    }

    /// As a filter of an interface's clsact queueing discipline, which is made, too.
    pub fn filter(namespace: &Namespace, interface: &str, direction: TcAttachType) -> Result<Self> {
        tc(namespace, &format!("qdisc replace dev {interface} clsact"))?;
        let options = TcAttachOptions::Netlink(NlOptions {
            priority: 1,
            ..NlOptions::default()
        });
        let (map, loaded) = load(CLASSIFIER, UNSPEC)?;
        let mut program = SchedClassifier::from_program_info(find(&loaded)?, Cow::Borrowed("foreign"))?;
        namespace.run(|| Ok(program.attach_with_options(interface, direction, options)?))?;
        let filter = Filter {
            program,
            namespace: Namespace::open(namespace.name())?,
            interface: interface.to_owned(),
        };
        Ok(Self {
            map,
            _link: None,
            _filter: Some(filter),
        })
    }

    /// How many packets it has seen.
    pub fn count(&self) -> Result<u64> {
        let (key, mut count) = (0_u32, 0_u64);
        let mut attributes = ElementAttributes {
            map: u32::try_from(self.map.as_raw_fd())?,
            reserved: 0,
            key: std::ptr::from_ref(&key).expose_provenance() as u64,
            value: std::ptr::from_mut(&mut count).expose_provenance() as u64,
            flags: 0,
        };
        bpf(MAP_LOOKUP, &mut attributes)?;
        Ok(count)
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let Self {
            program,
            namespace,
            interface,
        } = self;
        // What fails here was taken away already, as the tests' last questions will tell.
        drop(namespace.run(|| Ok(program.unload()?)));
        let is_empty = |direction| {
            let filters = tc(namespace, &format!("filter show dev {interface} {direction}"));
            filters.is_ok_and(|filters| filters.trim().is_empty())
        };
        if is_empty("ingress") && is_empty("egress") {
            drop(tc(namespace, &format!("qdisc delete dev {interface} clsact")));
        }
    }
}

fn tc(namespace: &Namespace, arguments: &str) -> Result<String> {
    let mut tc = namespace.command("tc");
    output(tc.args(arguments.split_ascii_whitespace()))
}

/// Loads a program that counts and returns `verdict`: the map it counts in, and the program.
fn load(kind: u32, verdict: i32) -> Result<(OwnedFd, OwnedFd)> {
    let map = file(bpf(
        MAP_CREATE,
        &mut MapAttributes {
            kind: ARRAY,
            key_size: 4,
            value_size: 8,
            entries: 1,
        },
    )?);
    let instructions = [
        // r1 = address of the map's value (BPF_PSEUDO_MAP_VALUE)
        instruction(0x18, 0x21, map.as_raw_fd()),
        instruction(0, 0, 0),
        // r2 = 1
        instruction(0xb7, 0x02, 1),
        // lock *(u64 *)r1 += r2
        instruction(0xdb, 0x21, 0),
        // return verdict
        instruction(0xb7, 0x00, verdict),
        instruction(0x95, 0, 0),
    ];
    let mut attributes = ProgramAttributes {
        kind,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
    };
    let program = bpf(PROGRAM_LOAD, &mut attributes).context("a program cannot be loaded")?;
    Ok((map, file(program)))
}

/// What the kernel says about a program.
fn find(program: &OwnedFd) -> Result<ProgramInfo> {
    // The descriptor's own entry in /proc tells the program's number.
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
    let number: u32 = number.context("no program")?.trim().parse()?;
    loaded_programs()
        // Others come and go meanwhile.
        .filter_map(Result::ok)
        .find(|info| info.id() == number)
        .context("the program is not there")
}

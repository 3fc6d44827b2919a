//! Commands of bpf(2) that aya has no function for, with the kernel's structures as aya-obj generates them.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::programs::TcAttachType;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info};

/// Opens a pin, whatever it is one of (`BPF_OBJ_GET`).
pub(super) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = no_attributes();
    attributes.__bindgen_anon_4.pathname = path.as_ptr().expose_provenance() as u64;
    let descriptor = call(bpf_cmd::BPF_OBJ_GET, &mut attributes)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Program and interface index of a link by tcx or XDP (`BPF_OBJ_GET_INFO_BY_FD`). The index is 0 when the interface is gone.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    // SAFETY: the structure has only integers, for which zero is a value. Kernels that know less of it leave the rest zero.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attributes = no_attributes();
    attributes.info.bpf_fd = link.as_raw_fd().cast_unsigned();
    attributes.info.info_len = u32::try_from(size_of::<bpf_link_info>()).map_err(io::Error::other)?;
    attributes.info.info = (&raw mut info).expose_provenance() as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    // SAFETY: both kinds of links begin with the interface index, and any integer is valid.
    let interface = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok((info.prog_id, interface))
}

/// Takes a program from a tcx hook that no link holds there (`BPF_PROG_DETACH`). To be called in the interface's namespace.
pub(super) fn detach_tcx(interface: u32, direction: TcAttachType, program: BorrowedFd<'_>) -> io::Result<()> {
    let hook = match direction {
        TcAttachType::Egress => bpf_attach_type::BPF_TCX_EGRESS,
        _ => bpf_attach_type::BPF_TCX_INGRESS,
    };
    let mut attributes = no_attributes();
    attributes.__bindgen_anon_5.__bindgen_anon_1.target_ifindex = interface;
    attributes.__bindgen_anon_5.attach_bpf_fd = program.as_raw_fd().cast_unsigned();
    attributes.__bindgen_anon_5.attach_type = hook as u32;
    call(bpf_cmd::BPF_PROG_DETACH, &mut attributes).map(drop)
}

fn no_attributes() -> bpf_attr {
    // SAFETY: the union has only integers, for which zero is a value; to the kernel it says that nothing is asked for.
    unsafe { mem::zeroed() }
}

fn call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<libc::c_long> {
    let (command, size) = (command as libc::c_long, size_of::<bpf_attr>());
    // SAFETY: the attributes, and what they point to, outlive the call, which uses no more of them than it is told.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

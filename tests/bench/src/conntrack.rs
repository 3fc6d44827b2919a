//! Forgetting all connections of a namespace, as `conntrack --flush` does.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use envnet_lab::{namespace::Namespace, socket};

/// `nlmsghdr` and `nfgenmsg` of IPCTNL_MSG_CT_DELETE without a filter, acknowledged: linux/netfilter/nfnetlink.h.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Request {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    version: u8,
    resource: u16,
}

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const FLAGS: u16 = 1 | 4; // NLM_F_REQUEST | NLM_F_ACK
/// Where the acknowledgement has its error number.
const ERROR: std::ops::Range<usize> = 16..20;

/// Forgets everything that the namespace's connection tracking knows.
pub(crate) fn flush(namespace: &Namespace) -> Result<()> {
    let request = Request {
        length: u32::try_from(size_of::<Request>())?,
        kind: NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
        flags: FLAGS,
        sequence: 1,
        port: 0,
        family: 0,
        version: 0,
        resource: 0,
    };
    namespace.run(|| {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
        let bytes = bytemuck::bytes_of(&request);
        // SAFETY: the buffer outlives the call and is as long as is said. A netlink socket that is not connected sends to
        // the kernel.
        let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        ensure!(usize::try_from(sent) == Ok(bytes.len()), "netlink takes no request");
        let mut answer = [0; 64];
        // SAFETY: as above.
        let length = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        let error = usize::try_from(length)
            .ok()
            .and_then(|length| answer[..length].get(ERROR));
        let error = error.context("no acknowledgement")?;
        ensure!(error == [0; 4], "connections cannot be flushed: {error:?}");
        Ok(())
    })
}

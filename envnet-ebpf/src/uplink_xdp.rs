//! The fast path in before the kernel makes a buffer of the frame: only where the frames' checksums are finished, because
//! here nobody knows of others.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    helpers::bpf_xdp_get_buff_len,
    programs::XdpContext,
};
use bytemuck::Pod;
use envnet_common::{
    Address,
    apply::Write,
    checksum::{Change, Checksum},
    parse::{ETHERTYPE_IPV4, Ethernet, Read},
    translate::{L4Checksum, WordEdit},
};

use crate::{count, direct, inbound, learned::Asking, maps::TAPS};

#[inline(always)]
pub(crate) fn run(context: &XdpContext) -> u32 {
    let mut frame = Frame { context };
    let Ok(ethernet) = Ethernet::parse(&frame) else {
        return XDP_PASS;
    };
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return XDP_PASS;
    }
    match inbound::decide(&mut frame, &ethernet, None, Asking::Later, Frame::reaches) {
        None => XDP_PASS,
        Some(Ok(_)) => XDP_REDIRECT,
        Some(Err(reason)) => {
            count::dropped(0, Address::UNSPECIFIED, reason);
            XDP_DROP
        }
    }
}

struct Frame<'a> {
    context: &'a XdpContext,
}

impl Frame<'_> {
    /// Whether the interface is there; then the kernel has noted that the frame goes there, should the program say so in the
    /// end. A frame of several buffers, as jumbo frames are, is left to TC: taps do not take one from a device map.
    #[inline(always)]
    fn reaches(&self, interface: u32, mtu: u32) -> bool {
        // SAFETY: the context is valid while the program runs.
        let whole = unsafe { bpf_xdp_get_buff_len(self.context.ctx) } == self.size() as u64;
        let fits = self.size() <= Ethernet::LEN + mtu as usize;
        whole && fits && TAPS.redirect(interface, u64::from(XDP_PASS)).is_ok()
    }

    #[inline(always)]
    fn at<T: Pod>(&self, offset: usize) -> Option<*mut T> {
        let start = self.context.data() + offset;
        (start + size_of::<T>() <= self.context.data_end()).then_some(start as *mut T)
    }
}

impl Read for Frame<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        self.context.data_end() - self.context.data()
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: the bytes are inside the frame, and headers are at even addresses in it.
        self.at(offset).map(|at: *mut T| unsafe { direct::read(at) })
    }
}

impl Write for Frame<'_> {
    #[inline(always)]
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as above; and the frame is this program's own while it runs.
        self.at(offset).map(|at: *mut T| unsafe { direct::write(at, value) })
    }

    #[inline(always)]
    fn correct_pseudo_header(&mut self, checksum: L4Checksum, change: Change) -> Option<()> {
        let field = self.read(checksum.offset)?;
        self.write(checksum.offset, checksum.corrected(field, change))
    }

    #[inline(always)]
    fn correct_covered(&mut self, checksum: usize, field: &WordEdit) -> Option<()> {
        let outer: Checksum = self.read(checksum)?;
        self.write(checksum, outer.corrected(Change::word(field.old.0, field.new.0)))
    }
}

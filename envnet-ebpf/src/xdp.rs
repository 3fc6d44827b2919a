//! A frame in the driver's memory, read and written directly.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use bytemuck::Pod;
use envnet_common::{
    apply::Write,
    checksum::{Change, Checksum},
    parse::{Ethernet, Read},
    translate::{L4Checksum, WordEdit},
};

use crate::{direct, entry::Forwardable, maps::TAPS};

/// The frame that an XDP program was started for.
pub(crate) struct XdpPacket<'a> {
    context: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }

    /// Index of the interface that the program runs on.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        // SAFETY: the kernel gives a program a context that is valid while it runs.
        unsafe { (*self.context.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn at<T: Pod>(&self, offset: usize) -> Option<*mut T> {
        let start = self.context.data() + offset;
        (start + size_of::<T>() <= self.context.data_end()).then_some(start as *mut T)
    }
}

impl Forwardable for XdpPacket<'_> {
    /// Also makes the device map note the interface, which is where the kernel sends the frame if the program ends with
    /// `XDP_REDIRECT`. A frame of several buffers, such as a jumbo frame, is left to TC: taps do not take one from a device
    /// map.
    #[inline(always)]
    fn can_leave_by(&self, interface: u32, mtu: u32) -> bool {
        // SAFETY: the context is valid while the program runs.
        let whole = unsafe { bpf_xdp_get_buff_len(self.context.ctx) } == self.size() as u64;
        let fits = self.size() <= Ethernet::LEN + mtu as usize;
        whole && fits && TAPS.redirect(interface, u64::from(XDP_PASS)).is_ok()
    }
}

impl Read for XdpPacket<'_> {
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

impl Write for XdpPacket<'_> {
    #[inline(always)]
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as above; and the frame belongs to this program while it runs.
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

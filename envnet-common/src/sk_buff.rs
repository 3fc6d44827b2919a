//! Where the running kernel keeps, in its `struct sk_buff`, what it does not show to programs: whether a packet's checksum is
//! unfinished, and where it will be written.
//!
//! A sender with checksum offload leaves a checksum unfinished (`CHECKSUM_PARTIAL`): the kernel or a device sums everything from
//! `csum_start` and writes the result at `csum_start + csum_offset`. A guest chooses both in the header that it gives a frame
//! (`struct virtio_net_hdr`, OASIS virtio 1.2, section 5.1.6).

use bytemuck::{Pod, Zeroable};

/// Name of the global variable that the loader writes a [`Layout`] to.
pub const LAYOUT: &str = "SK_BUFF";

/// Byte offsets in `struct sk_buff`, in host order. They differ between kernels; the loader reads them from the kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Layout {
    /// The byte with the two bits of `ip_summed`.
    pub ip_summed: u32,
    /// By how many bits `ip_summed` is shifted in its byte.
    pub ip_summed_shift: u32,
    /// `csum_start` (`u16`, an offset from the buffer's head), which `csum_offset` (`u16`) follows.
    pub csum_start: u32,
    /// `mac_header` (`u16`, an offset from the buffer's head).
    pub mac_header: u32,
}

/// An unfinished checksum, by offsets in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Where the bytes begin that are summed, up to the end of the frame.
    pub start: usize,
    /// Where the two bytes of the sum are written.
    pub field: usize,
}

/// `CHECKSUM_COMPLETE` of `linux/skbuff.h`.
pub const CHECKSUM_COMPLETE: u8 = 2;
/// `CHECKSUM_PARTIAL` of `linux/skbuff.h`.
pub const CHECKSUM_PARTIAL: u8 = 3;
/// The width of `ip_summed`.
pub const IP_SUMMED_MASK: u8 = 3;

#[cfg(feature = "aya")]
// SAFETY: bytemuck's `Pod`, derived with its checks, asks for all that aya's does.
unsafe impl aya::Pod for Layout where Layout: Pod {}

//! What the kernel keeps beside a packet and does not show to TC programs, read from its `struct sk_buff`.

use aya_ebpf::{helpers::bpf_probe_read_kernel, programs::TcContext};
use bytemuck::Pod;
use envnet_common::sk_buff::{CHECKSUM_COMPLETE, CHECKSUM_PARTIAL, IP_SUMMED_MASK, Layout, Unfinished};

/// Where the running kernel keeps it; the loader writes it before the programs are loaded, and the verifier then knows it as a
/// constant.
#[unsafe(no_mangle)]
static SK_BUFF: Layout = Layout {
    ip_summed: 0,
    ip_summed_shift: 0,
    csum_start: 0,
    mac_header: 0,
};

#[inline(always)]
fn layout() -> Layout {
    // SAFETY: the variable is initialized. The compiler must not take the zeroes for what it will hold.
    unsafe { core::ptr::read_volatile(&raw const SK_BUFF) }
}

/// What the kernel knows of a packet's checksums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summed {
    /// All are finished, and nothing is kept beside the packet that a change would make wrong.
    Finished,
    /// A device has summed the packet, and the sum is kept beside it (`CHECKSUM_COMPLETE`).
    Complete,
    /// One is unfinished.
    Unfinished(Unfinished),
}

/// Asks the kernel. The answer holds for as long as the program does not change the packet.
#[inline(always)]
pub(crate) fn summed(context: &TcContext) -> Summed {
    let layout = layout();
    let Some(byte) = read::<u8>(context, layout.ip_summed) else {
        return Summed::Complete;
    };
    match byte >> layout.ip_summed_shift & IP_SUMMED_MASK {
        CHECKSUM_COMPLETE => Summed::Complete,
        CHECKSUM_PARTIAL => unfinished(context, &layout),
        _ => Summed::Finished,
    }
}

#[inline(always)]
fn unfinished(context: &TcContext, layout: &Layout) -> Summed {
    let (Some([start, offset]), Some(frame)) = (
        read::<[u16; 2]>(context, layout.csum_start),
        read::<u16>(context, layout.mac_header),
    ) else {
        return Summed::Complete;
    };
    // Both count from the buffer's head; the frame begins at the header of the link layer.
    let start = usize::from(start.wrapping_sub(frame));
    Summed::Unfinished(Unfinished {
        start,
        field: start + usize::from(offset),
    })
}

/// Reads from the buffer's structure. It is readable for as long as the program runs, so that this cannot fail.
#[inline(always)]
fn read<T: Pod>(context: &TcContext, offset: u32) -> Option<T> {
    // SAFETY: the kernel checks the address that it reads from. For a TC program, the context is the `struct sk_buff` itself.
    unsafe { bpf_probe_read_kernel(context.skb.skb.cast::<u8>().add(offset as usize).cast::<T>()) }.ok()
}

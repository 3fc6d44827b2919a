//! The sink: counts the generator's frames that arrive as they should, drops them, and lets everything else through, so
//! that whoever it stands in front of still answers ARP.

use core::ptr;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};

use crate::frame::{self, DESTINATION, SOURCE, words};

/// The source and the destination that frames must have here, in memory's order; 0 for any.
#[unsafe(no_mangle)]
static EXPECTED: [u32; 2] = [0; 2];

/// Frames as expected, and frames with other addresses.
#[map]
static ARRIVED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

#[xdp]
fn sink(context: XdpContext) -> u32 {
    let Some(words) = words(context.data(), context.data_end()) else {
        return XDP_PASS;
    };
    // SAFETY: the bounds were checked just now; a reference to a global is valid for reads.
    let (ours, found, expected) = unsafe {
        (
            frame::is_ours(words),
            [frame::address(words, SOURCE), frame::address(words, DESTINATION)],
            ptr::read_volatile(&raw const EXPECTED),
        )
    };
    if !ours {
        return XDP_PASS;
    }
    let right = (expected[0] == 0 || found[0] == expected[0]) && (expected[1] == 0 || found[1] == expected[1]);
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the entry is this processor's own.
        unsafe {
            if right {
                (*arrived)[0] += 1;
            } else {
                (*arrived)[1] += 1;
            }
        }
    }
    XDP_DROP
}

//! The limit: the generator's frames go straight to where they belong, with nothing changed in them. All else passes.

use core::ptr;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    helpers::bpf_redirect,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::frame::{self, DESTINATION, words};

/// The destination, in memory's order, whose frames go to the first of [`TARGETS`]; all others go to the second.
#[unsafe(no_mangle)]
static FIRST: u32 = 0;
/// Interfaces.
#[unsafe(no_mangle)]
static TARGETS: [u32; 2] = [0; 2];

#[xdp]
fn redirect_xdp(context: XdpContext) -> u32 {
    match target(context.data(), context.data_end()) {
        // SAFETY: a helper that takes numbers.
        Some(target) => unsafe { bpf_redirect(target, 0) as u32 },
        None => XDP_PASS,
    }
}

#[classifier]
fn redirect_tc(context: TcContext) -> i32 {
    match target(context.data(), context.data_end()) {
        // SAFETY: a helper that takes numbers.
        Some(target) => unsafe { bpf_redirect(target, 0) as i32 },
        None => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the verifier follows packet pointers within one function only"
)]
fn target(data: usize, end: usize) -> Option<u32> {
    let words = words(data, end)?;
    // SAFETY: the bounds were checked just now; references to globals are valid for reads.
    unsafe {
        if !frame::is_ours(words) {
            return None;
        }
        let [first, second] = ptr::read_volatile(&raw const TARGETS);
        let is_first = frame::address(words, DESTINATION) == ptr::read_volatile(&raw const FIRST);
        Some(if is_first { first } else { second })
    }
}

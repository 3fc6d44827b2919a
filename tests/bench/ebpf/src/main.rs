//! The benchmark's programs: a generator of UDP frames, a sink that counts them, and bare redirects as the limit of what
//! any translation could reach.
//!
//! Each is told what to do by globals, which the loader sets and the verifier then treats as constants.

#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the program macros hand the context over by value"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers return an action in 64 bits, and a flow's number is cut into fields"
)]

mod frame;
mod generate;
mod redirect;
mod sink;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

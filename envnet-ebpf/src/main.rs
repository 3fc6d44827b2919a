//! The programs that run in the kernel: on both directions of `gwE` in each router namespace, and behind `brE` in the host.
//!
//! The entry points only sequence: a direction decides ([`router_ingress`], [`router_egress`]), and [`run`] does what
//! they have in common. What may pass, what is written and where is in `envnet-common`.

#![no_std]
#![no_main]
#![expect(
    clippy::inline_always,
    reason = "BPF functions take five scalars at most and share 512 bytes of stack, so the stages must become one function"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the classifier macro hands the context over by value"
)]

mod count;
mod log;
mod maps;
mod router_egress;
mod router_ingress;
mod run;
mod skb;

use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use envnet_common::{Address, DropReason};

/// TC ingress of `gwE`: from outside to the router.
#[classifier]
fn router_ingress(context: TcContext) -> i32 {
    run::run(&context, router_ingress::decide)
}

/// TC egress of `gwE`: from the router to the outside.
#[classifier]
fn router_egress(context: TcContext) -> i32 {
    run::run(&context, router_egress::decide)
}

/// TC ingress of `brE` in the host: from the guests to the host itself, which must hear nothing. The host may route,
/// proxy ARP and accept router advertisements; frames between the bridge's ports do not come this way.
#[classifier]
fn bridge_ingress(_context: TcContext) -> i32 {
    count::dropped(0, Address::UNSPECIFIED, DropReason::HostBound);
    TC_ACT_SHOT
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

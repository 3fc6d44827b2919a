//! The programs that run in the kernel. The slow path runs on both directions of `gwE`, the router's WAN port, in each
//! router namespace. The fast path runs in the host, on the uplink and on the ports of `brE`. Anything that it cannot handle
//! falls through to the slow path.
//!
//! Each program only names its steps: [`run`] prepares the context, the module with the program's name decides, and
//! [`kernel_code`] carries the decision out. The rules, and what a translation writes, are in `envnet-common`.

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

mod bridge_ingress;
mod clock;
mod count;
mod direct;
mod entry;
mod fdb;
mod guest_ingress;
mod inbound;
mod kernel_code;
mod limits;
mod log;
mod maps;
mod neighbours;
mod router_egress;
mod router_ingress;
mod router_port;
mod run;
mod sk_buff;
mod skb;
mod uplink_egress;
mod uplink_ingress;
mod uplink_xdp;
mod xdp;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// TC ingress of `gwE`: from outside to the router.
#[classifier]
fn router_ingress(context: TcContext) -> i32 {
    run::slow(&context, router_ingress::decide)
}

/// TC egress of `gwE`: from the router to the outside.
#[classifier]
fn router_egress(context: TcContext) -> i32 {
    run::slow(&context, router_egress::decide)
}

/// TC ingress of the uplink: the fast path in.
#[classifier]
fn uplink_ingress(context: TcContext) -> i32 {
    run::fast(&context, uplink_ingress::decide)
}

/// TC egress of the uplink bridge's port towards `gwE`: the fast path in, in bridge mode.
#[classifier]
fn wan_port_egress(context: TcContext) -> i32 {
    run::fast(&context, uplink_ingress::decide_at_port)
}

/// TC egress of the uplink: frames between the host and the environments.
#[classifier]
fn uplink_egress(context: TcContext) -> i32 {
    run::fast(&context, uplink_egress::decide)
}

/// XDP of the uplink: the fast path in, for uplinks that have finished checksums.
#[xdp(frags)]
fn uplink_xdp(context: XdpContext) -> u32 {
    run::xdp(&context, uplink_xdp::decide)
}

/// TC ingress of a guest's port of `brE`: the fast path out, and across.
#[classifier]
fn guest_ingress(context: TcContext) -> i32 {
    run::fast(&context, guest_ingress::decide)
}

/// TC ingress of the router's port of `brE`: from the router to its guests.
#[classifier]
fn router_port_ingress(context: TcContext) -> i32 {
    run::fast(&context, |context| Ok(router_port::ingress(context)))
}

/// TC egress of the router's port of `brE`: notices addresses that have moved to a port without programs.
#[classifier]
fn router_port_egress(context: TcContext) -> i32 {
    run::fast(&context, |context| Ok(router_port::egress(context)))
}

/// TC ingress of `brE` in the host: from the guests to the host itself, which must receive nothing, because it may route,
/// proxy ARP and accept router advertisements. Frames between the bridge's ports do not pass here.
#[classifier]
fn bridge_ingress(context: TcContext) -> i32 {
    run::fast(&context, |context| bridge_ingress::decide(context))
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are only for programs with a GPL-compatible license.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

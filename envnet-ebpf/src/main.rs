//! The programs that run in the kernel. The slow path is on both directions of `gwE` in each router namespace; the fast path
//! is in the host, on the uplink and on the ports of `brE`, and leaves to the slow path whatever it does not know.
//!
//! The entry points only sequence: the module of the same name decides, and [`run`] does what all have in common. What may
//! pass, what is written and where is in `envnet-common`.

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
mod count;
mod direct;
mod guest_ingress;
mod inbound;
mod learned;
mod log;
mod maps;
mod router_egress;
mod router_ingress;
mod router_port;
mod run;
mod skb;
mod uplink_egress;
mod uplink_ingress;
mod uplink_xdp;

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

/// TC egress of the uplink bridge's port towards `gwE`: the same, seen from behind.
#[classifier]
fn gateway_port_egress(context: TcContext) -> i32 {
    run::fast(&context, uplink_ingress::decide_at_port)
}

/// TC egress of the uplink: what the host and the environments have to say to each other.
#[classifier]
fn uplink_egress(context: TcContext) -> i32 {
    run::fast(&context, |frame| uplink_egress::decide(&context, frame))
}

/// XDP of the uplink: the fast path in, for uplinks that have finished checksums.
#[xdp(frags)]
fn uplink_xdp(context: XdpContext) -> u32 {
    uplink_xdp::run(&context)
}

/// TC ingress of a guest's port of `brE`: the fast path out, and across.
#[classifier]
fn guest_ingress(context: TcContext) -> i32 {
    run::fast(&context, guest_ingress::decide)
}

/// TC ingress of the router's port of `brE`: from the router to its guests.
#[classifier]
fn router_port_ingress(context: TcContext) -> i32 {
    run::fast(&context, |frame| Ok(router_port::ingress(frame)))
}

/// TC egress of the router's port of `brE`: who has moved to a port that has no programs.
#[classifier]
fn router_port_egress(context: TcContext) -> i32 {
    run::fast(&context, |frame| Ok(router_port::egress(frame)))
}

/// TC ingress of `brE` in the host: from the guests to the host itself, which must hear nothing. The host may route,
/// proxy ARP and accept router advertisements; frames between the bridge's ports do not come this way.
#[classifier]
fn bridge_ingress(context: TcContext) -> i32 {
    bridge_ingress::run(&context)
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

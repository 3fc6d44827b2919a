//! Turns a decision into the code that the kernel acts on, for TC and for XDP. No other module returns such a code, and
//! no other module counts or logs drops.

use aya_ebpf::{
    bindings::{
        BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT},
    },
    helpers::{bpf_redirect, bpf_redirect_peer},
    programs::TcContext,
};
use envnet_common::{DropReason, Verdict, maps::MappingKey};

use crate::{count, log, skb::Packet};

/// What a program decides about a packet.
pub(crate) type Decision = Result<Verdict, DropReason>;

/// The code for a TC program. A drop is counted under `mapping`.
#[inline(always)]
pub(crate) fn tc(context: &TcContext, mapping: MappingKey, decision: Decision) -> i32 {
    let own = Packet::new(context).interface();
    let ingress = u64::from(BPF_F_INGRESS);
    match decision.unwrap_or_else(Verdict::Drop) {
        Verdict::Pass => TC_ACT_OK,
        Verdict::Next => TC_ACT_UNSPEC,
        Verdict::RedirectSelf => redirect(own, 0),
        Verdict::RedirectSelfIngress => redirect(own, ingress),
        Verdict::RedirectEgress(other) => redirect(other, 0),
        Verdict::RedirectIngress(other) => redirect(other, ingress),
        Verdict::RedirectPeer(other) => redirect_peer(other),
        Verdict::Drop(reason) => {
            log::dropped(context, mapping.environment, reason);
            count::dropped(mapping.environment, mapping.internal, reason);
            TC_ACT_SHOT
        }
    }
}

/// The code for an XDP program. A drop is counted under `mapping`.
#[inline(always)]
pub(crate) fn xdp(mapping: MappingKey, decision: Decision) -> u32 {
    match decision.unwrap_or_else(Verdict::Drop) {
        // The device map has noted the interface when the program asked for it (`XdpPacket::can_leave_by`).
        Verdict::RedirectEgress(_) => XDP_REDIRECT,
        Verdict::Drop(reason) => {
            count::dropped(mapping.environment, mapping.internal, reason);
            XDP_DROP
        }
        // An XDP program decides nothing else: the kernel, and with it the TC programs, get the frame.
        _ => XDP_PASS,
    }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the helper returns an action code, which the kernel reads as an int"
)]
fn redirect(interface: u32, flags: u64) -> i32 {
    // SAFETY: the helper takes no pointer; it only notes where the packet goes when the program has ended.
    unsafe { bpf_redirect(interface, flags) as i32 }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the helper returns an action code, which the kernel reads as an int"
)]
fn redirect_peer(interface: u32) -> i32 {
    // SAFETY: as above.
    unsafe { bpf_redirect_peer(interface, 0) as i32 }
}

//! Runs one decision on one packet, and turns the verdict into a kernel code, here and nowhere else.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_redirect, bpf_redirect_peer},
    programs::TcContext,
};
use envnet_common::{Address, DropReason, Verdict, lookup::Lookup, maps::Environment};

use crate::{
    count, log,
    maps::{self, MappingsMap},
    skb::{Linear, Packet},
};

/// A packet at the border of a router namespace, and what is known about it.
pub(crate) struct Subject<'a> {
    pub packet: Packet<'a>,
    pub lookup: Lookup<'a, MappingsMap>,
    /// Internal address of the mapping concerned, once it is known: drops are counted under it.
    pub internal: Address,
}

/// The slow path: finds the environment, and lets the direction decide.
#[inline(always)]
pub(crate) fn slow(context: &TcContext, decide: impl FnOnce(&mut Subject<'_>) -> Result<Verdict, DropReason>) -> i32 {
    let packet = Packet::new(context);
    let interface = packet.interface();
    let Some(environment) = maps::environment(interface) else {
        count::dropped(0, Address::UNSPECIFIED, DropReason::UnknownInterface);
        return TC_ACT_SHOT;
    };
    let lookup = lookup(&environment);
    let mut subject = Subject {
        packet,
        lookup,
        internal: Address::UNSPECIFIED,
    };
    let verdict = decide(&mut subject);
    finish(context, environment.number, subject.internal, verdict)
}

/// The mappings, asked on behalf of one environment.
#[inline(always)]
pub(crate) fn lookup(environment: &Environment) -> Lookup<'_, MappingsMap> {
    Lookup {
        environment,
        mappings: &MappingsMap,
    }
}

/// A packet in the host's namespace, and what is known about it.
pub(crate) struct Frame<'a> {
    pub packet: Linear<'a>,
    /// Index of the interface that the program runs on.
    pub interface: u32,
    /// Number of the environment concerned, once it is known; drops are counted under it and the next.
    pub environment: u32,
    /// Internal address of the mapping concerned, once it is known.
    pub internal: Address,
}

/// The fast path: lets the program decide.
#[inline(always)]
pub(crate) fn fast(context: &TcContext, decide: impl FnOnce(&mut Frame<'_>) -> Result<Verdict, DropReason>) -> i32 {
    let packet = Linear::new(context);
    let mut frame = Frame {
        interface: packet.interface(),
        packet,
        environment: 0,
        internal: Address::UNSPECIFIED,
    };
    let verdict = decide(&mut frame);
    finish(context, frame.environment, frame.internal, verdict)
}

#[inline(always)]
fn finish(context: &TcContext, environment: u32, internal: Address, verdict: Result<Verdict, DropReason>) -> i32 {
    let interface = Packet::new(context).interface();
    match verdict.unwrap_or_else(Verdict::Drop) {
        Verdict::Pass => TC_ACT_OK,
        Verdict::Next => TC_ACT_UNSPEC,
        Verdict::Reply => redirect(interface, 0),
        Verdict::Hairpin => redirect(interface, u64::from(BPF_F_INGRESS)),
        Verdict::Send(other) => redirect(other, 0),
        Verdict::Receive(other) => redirect(other, u64::from(BPF_F_INGRESS)),
        Verdict::Cross(other) => cross(other),
        Verdict::Drop(reason) => {
            log::dropped(context, environment, reason);
            count::dropped(environment, internal, reason);
            TC_ACT_SHOT
        }
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
fn cross(interface: u32) -> i32 {
    // SAFETY: as above.
    unsafe { bpf_redirect_peer(interface, 0) as i32 }
}

//! Runs one direction on one packet: finds the environment, lets the direction decide, and turns the verdict into a
//! kernel code, here and nowhere else.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT},
    helpers::bpf_redirect,
    programs::TcContext,
};
use envnet_common::{Address, DropReason, Verdict, lookup::Lookup};

use crate::{
    count, log,
    maps::{self, MappingsMap},
    skb::Packet,
};

/// A packet, and what is known about it.
pub(crate) struct Subject<'a> {
    pub packet: Packet<'a>,
    pub lookup: Lookup<'a, MappingsMap>,
    /// Internal address of the mapping concerned, once it is known: drops are counted under it.
    pub internal: Address,
}

#[inline(always)]
pub(crate) fn run(context: &TcContext, decide: impl FnOnce(&mut Subject<'_>) -> Result<Verdict, DropReason>) -> i32 {
    let packet = Packet::new(context);
    let interface = packet.interface();
    let Some(environment) = maps::environment(interface) else {
        count::dropped(0, Address::UNSPECIFIED, DropReason::UnknownInterface);
        return TC_ACT_SHOT;
    };
    let lookup = Lookup {
        environment: &environment,
        mappings: &MappingsMap,
    };
    let mut subject = Subject {
        packet,
        lookup,
        internal: Address::UNSPECIFIED,
    };
    match decide(&mut subject).unwrap_or_else(Verdict::Drop) {
        Verdict::Pass => TC_ACT_OK,
        Verdict::Reply => redirect(interface, 0),
        Verdict::Hairpin => redirect(interface, u64::from(BPF_F_INGRESS)),
        Verdict::Drop(reason) => {
            log::dropped(context, environment.number, reason);
            count::dropped(environment.number, subject.internal, reason);
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

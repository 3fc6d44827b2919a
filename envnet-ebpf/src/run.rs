//! Runs one decision on one packet: prepares the context, and hands the decision to [`kernel_code`].

use aya_ebpf::programs::{TcContext, XdpContext};
use envnet_common::{
    Address, DropReason,
    lookup::Lookup,
    maps::{Environment, MappingKey},
};

use crate::{
    count::NO_MAPPING,
    kernel_code::{self, Decision},
    maps::{self, MappingsMap},
    skb::{DirectPacket, Packet},
    xdp::XdpPacket,
};

/// A packet at the router's WAN port, and what is known about it.
pub(crate) struct SlowContext<'a> {
    pub packet: Packet<'a>,
    pub lookup: Lookup<'a, MappingsMap>,
    /// Internal address of the mapping concerned, once it is known: drops are counted under it.
    pub internal: Address,
}

/// Runs a program of the slow path. Its environment is that of the interface.
#[inline(always)]
pub(crate) fn slow(context: &TcContext, decide: impl FnOnce(&mut SlowContext<'_>) -> Decision) -> i32 {
    let packet = Packet::new(context);
    let Some(environment) = maps::environment(packet.interface()) else {
        return kernel_code::tc(context, NO_MAPPING, Err(DropReason::UnknownInterface));
    };
    let mut slow = SlowContext {
        packet,
        lookup: lookup(&environment),
        internal: Address::UNSPECIFIED,
    };
    let decision = decide(&mut slow);
    kernel_code::tc(context, slow.mapping(), decision)
}

impl SlowContext<'_> {
    /// The mapping concerned, as far as it is known.
    #[inline(always)]
    pub(crate) fn mapping(&self) -> MappingKey {
        MappingKey {
            environment: self.lookup.environment.number,
            internal: self.internal,
        }
    }
}

/// The mappings of one environment.
#[inline(always)]
pub(crate) fn lookup(environment: &Environment) -> Lookup<'_, MappingsMap> {
    Lookup {
        environment,
        mappings: &MappingsMap,
    }
}

/// A packet in the host's namespace, and what is known about it.
pub(crate) struct FastContext<P> {
    pub packet: P,
    /// Index of the interface that the program runs on.
    pub interface: u32,
    /// The mapping concerned, as far as it is known: drops are counted under it.
    pub mapping: MappingKey,
}

/// Runs a TC program of the fast path.
#[inline(always)]
pub(crate) fn fast<'a>(
    context: &'a TcContext,
    decide: impl FnOnce(&mut FastContext<DirectPacket<'a>>) -> Decision,
) -> i32 {
    let packet = DirectPacket::new(context);
    let mut fast = FastContext {
        interface: packet.interface(),
        packet,
        mapping: NO_MAPPING,
    };
    let decision = decide(&mut fast);
    kernel_code::tc(context, fast.mapping, decision)
}

/// Runs an XDP program of the fast path.
#[inline(always)]
pub(crate) fn xdp<'a>(
    context: &'a XdpContext,
    decide: impl FnOnce(&mut FastContext<XdpPacket<'a>>) -> Decision,
) -> u32 {
    let packet = XdpPacket::new(context);
    let mut fast = FastContext {
        interface: packet.interface(),
        packet,
        mapping: NO_MAPPING,
    };
    let decision = decide(&mut fast);
    kernel_code::xdp(fast.mapping, decision)
}

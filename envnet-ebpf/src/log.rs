//! Log lines, when [`Settings::log`] asks for them.
//!
//! Formatting takes far more instructions than translating, so it stays in functions that are not inlined. While nothing is
//! logged, the cost is one load of a setting.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use aya_log_ebpf::info;
use envnet_common::{
    Address, DropReason,
    maps::Settings,
    parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Read},
    translate::Rewrite,
};

use crate::{maps::SETTINGS, skb::Packet};

/// Logs a dropped packet at [`Settings::log`] 1; but not the host's copies of broadcasts, whose drops are normal.
#[inline(always)]
pub(crate) fn dropped(context: &TcContext, environment: u32, reason: DropReason) {
    if reason != DropReason::HostBound && level() >= 1 {
        drop_line(context.skb.skb, environment, reason as u32);
    }
}

/// Logs a translation at [`Settings::log`] 2.
#[inline(always)]
pub(crate) fn translated(environment: u32, rewrite: &Rewrite) {
    if level() >= 2 {
        translation_line(environment, host_order(rewrite.old), host_order(rewrite.new));
    }
}

/// Whether every translation is to be logged. Only the slow path logs them, so the fast path then takes no packet.
#[inline(always)]
pub(crate) fn wants_translations() -> bool {
    level() >= 2
}

#[inline(always)]
fn level() -> u32 {
    SETTINGS.get(0).map_or(0, |&Settings { log }| log)
}

#[inline(always)]
fn host_order(address: Address) -> u32 {
    u32::from_be_bytes(address.0)
}

#[inline(never)]
fn drop_line(skb: *mut __sk_buff, environment: u32, reason: u32) {
    let context = TcContext::new(skb);
    let packet = Packet::new(&context);
    let ethertype = Ethernet::parse(&packet).map_or([0, 0], |ethernet| ethernet.ethertype);
    // Offsets in the frame of the two addresses.
    let (source, destination) = match ethertype {
        ETHERTYPE_IPV4 => (26, 30),
        ETHERTYPE_ARP => (28, 38),
        _ => {
            let ethertype = u16::from_be_bytes(ethertype);
            info!(
                &context,
                "environment {}: dropped, reason {}, ethertype {:x}", environment, reason, ethertype
            );
            return;
        }
    };
    let [source, destination] = [source, destination].map(|at| host_order(packet.read(at).unwrap_or_default()));
    info!(
        &context,
        "environment {}: dropped, reason {}, from {:i} to {:i}", environment, reason, source, destination
    );
}

#[inline(never)]
fn translation_line(environment: u32, old: u32, new: u32) {
    info!((), "environment {}: {:i} becomes {:i}", environment, old, new);
}

//! A packet in a socket buffer. [`Packet`] uses helpers, which also reach bytes outside the linear part of the buffer.
//! [`DirectPacket`], for the fast path, accesses the linear part directly: the headers of nearly every packet are there. Either
//! way the kernel makes a shared buffer writable.

use core::ops::Deref;

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS},
    helpers::{bpf_check_mtu, bpf_clone_redirect, bpf_skb_change_type},
    programs::TcContext,
};
use bytemuck::Pod;
use envnet_common::{
    apply::Write,
    checksum::{Change, Checksum},
    guest::Tag,
    parse::{Ethernet, Read},
    sk_buff::Unfinished,
    translate::{L4Checksum, WordEdit},
};

use crate::{
    direct,
    entry::Forwardable,
    sk_buff::{self, Summed},
};

/// The packet that a program was started for.
pub(crate) struct Packet<'a> {
    context: &'a TcContext,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        Self { context }
    }

    /// Index of the interface that the program runs on.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        // SAFETY: the kernel gives a program a context that is valid while it runs.
        unsafe { (*self.context.skb.skb).ifindex }
    }

    /// The tag that the device or the kernel has taken out of the frame.
    #[inline(always)]
    pub(crate) fn tag(&self) -> Tag {
        const VLAN: u32 = 0x0fff;
        // SAFETY: as above.
        let (present, tci) = unsafe { ((*self.context.skb.skb).vlan_present, (*self.context.skb.skb).vlan_tci) };
        match (present, tci & VLAN) {
            (0, _) => Tag::None,
            (_, 0) => Tag::Priority,
            _ => Tag::Vlan,
        }
    }

    /// The checksum that is still to be written into the packet, if there is one.
    #[inline(always)]
    pub(crate) fn unfinished(&self) -> Option<Unfinished> {
        match sk_buff::summed(self.context) {
            Summed::Unfinished(unfinished) => Some(unfinished),
            Summed::Finished | Summed::Complete => None,
        }
    }

    /// Whether the buffer holds several packets, to be split later.
    #[inline(always)]
    fn is_gso(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.context.skb.skb).gso_size != 0 }
    }
}

/// The parts of forwarding that the fast path must do in place of the kernel.
impl Packet<'_> {
    /// Whether there was a tag of any kind, a priority tag included: it would be put back when the frame is sent.
    #[inline(always)]
    pub(crate) fn had_tag(&self) -> bool {
        self.tag() != Tag::None
    }

    /// Whether an interface with this MTU takes the packet, or every segment of it, in one piece. The kernel is only asked
    /// about larger packets, because the link's MTU may have changed since.
    #[inline(always)]
    pub(crate) fn fits(&self, interface: u32, mtu: u32) -> bool {
        const EVERY_LINK: u32 = 1280;
        let sure = if mtu < EVERY_LINK { mtu } else { EVERY_LINK };
        self.size() <= Ethernet::LEN + sure as usize || self.check_mtu(interface, 0, BPF_MTU_CHK_SEGS)
    }

    /// Whether the interface is there.
    #[inline(always)]
    pub(crate) fn exists(&self, interface: u32) -> bool {
        const SHORT: u32 = 1;
        self.check_mtu(interface, SHORT, 0)
    }

    /// Asks the kernel whether an interface takes a packet of `length` bytes without the Ethernet header; 0 stands for this
    /// packet, the only length whose segments the kernel looks at.
    #[inline(always)]
    fn check_mtu(&self, interface: u32, length: u32, flags: u32) -> bool {
        let mut length = length;
        // SAFETY: the context is valid while the program runs, and the kernel writes a u32 to `length`.
        let answer = unsafe {
            bpf_check_mtu(
                self.context.skb.skb.cast(),
                interface,
                &raw mut length,
                0,
                u64::from(flags),
            )
        };
        answer == 0
    }

    /// Marks the packet as addressed to this host: the receiver of a redirected packet keeps the type that it had on the
    /// interface where it came in.
    #[inline(always)]
    pub(crate) fn address_to_host(&self) -> Option<()> {
        const PACKET_HOST: u32 = 0;
        // SAFETY: the context is valid while the program runs.
        let answer = unsafe { bpf_skb_change_type(self.context.skb.skb, PACKET_HOST) };
        (answer == 0).then_some(())
    }
}

impl Packet<'_> {
    /// Has an interface receive a copy of the packet. Direct access to the packet is invalid afterwards.
    #[inline(always)]
    pub(crate) fn clone_to_ingress(&self, interface: u32) {
        // SAFETY: the context is valid while the program runs, and the verifier refuses a stale direct access. If the copy
        // fails, the sender repeats its request.
        unsafe { bpf_clone_redirect(self.context.skb.skb, interface, u64::from(BPF_F_INGRESS)) };
    }
}

impl Read for Packet<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        self.context.len() as usize
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        self.context.load(offset).ok()
    }
}

/// Writes keep right what the kernel may keep beside the packet, its sum (`CHECKSUM_COMPLETE`), without
/// `BPF_F_RECOMPUTE_CSUM`: a header's new addresses and its new checksum cancel out, and so do a covered field and its
/// checksum; for a pseudo header, the helper corrects the sum. The link layer header is not part of it.
impl Write for Packet<'_> {
    #[inline(always)]
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()> {
        self.context.store(offset, &value, 0).ok()
    }

    #[inline(always)]
    fn correct_pseudo_header(&mut self, checksum: L4Checksum, change: Change) -> Option<()> {
        let (context, is_gso) = (self.context, self.is_gso());
        correct_pseudo_header(self, context, is_gso, checksum, change)
    }

    #[inline(always)]
    fn correct_covered(&mut self, checksum: usize, field: &WordEdit) -> Option<()> {
        let [old, new] = [field.old, field.new].map(|word| u64::from(u16::from_ne_bytes(word.0)));
        self.context
            .l4_csum_replace(checksum, old, new, size_of::<u16>() as u64)
            .ok()
    }
}

/// Corrects a checksum for its pseudo header. The kernel's helper would take every checksum of a packet with an unfinished one
/// for unfinished; but with a tunnel the outer one is finished, unless the kernel is still to split the packet.
#[inline(always)]
fn correct_pseudo_header(
    packet: &mut impl Write,
    context: &TcContext,
    is_gso: bool,
    checksum: L4Checksum,
    change: Change,
) -> Option<()> {
    let unfinished = match sk_buff::summed(context) {
        Summed::Finished => false,
        Summed::Unfinished(unfinished) => is_gso || unfinished.field == checksum.offset,
        Summed::Complete => {
            let zero = if checksum.zero_is_none {
                u64::from(BPF_F_MARK_MANGLED_0)
            } else {
                0
            };
            // A size of zero says that what is given is the change itself.
            let flags = u64::from(BPF_F_PSEUDO_HDR) | zero;
            return context
                .l4_csum_replace(checksum.offset, 0, change.sum().into(), flags)
                .ok();
        }
    };
    let field: Checksum = packet.read(checksum.offset)?;
    let corrected = if unfinished {
        checksum.corrected_unfinished(field, change)
    } else {
        checksum.corrected(field, change)
    };
    packet.write(checksum.offset, corrected)
}

/// The packet, with direct access to the linear part of its buffer.
pub(crate) struct DirectPacket<'a>(Packet<'a>);

impl<'a> DirectPacket<'a> {
    /// Pulls the headers into the linear part if they are not there.
    #[inline(always)]
    pub(crate) fn new(context: &'a TcContext) -> Self {
        /// The most that a program accesses: Ethernet, IPv4 and the checksum of TCP, or ARP.
        const HEADERS: u32 = 14 + 40;
        let linear = context.data_end() - context.data();
        if linear < HEADERS as usize && context.len() as usize > linear {
            let wanted = if context.len() < HEADERS {
                context.len()
            } else {
                HEADERS
            };
            // After a failure, reading the headers fails.
            let _ = context.pull_data(wanted);
        }
        Self(Packet::new(context))
    }

    #[inline(always)]
    fn at<T: Pod>(&self, offset: usize) -> Option<*mut T> {
        let start = self.0.context.data() + offset;
        (start + size_of::<T>() <= self.0.context.data_end()).then_some(start as *mut T)
    }
}

impl<'a> Deref for DirectPacket<'a> {
    type Target = Packet<'a>;

    #[inline(always)]
    fn deref(&self) -> &Packet<'a> {
        &self.0
    }
}

impl Forwardable for DirectPacket<'_> {
    #[inline(always)]
    fn can_leave_by(&self, interface: u32, mtu: u32) -> bool {
        self.fits(interface, mtu)
    }
}

impl Read for DirectPacket<'_> {
    #[inline(always)]
    fn size(&self) -> usize {
        self.0.size()
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: the bytes are inside the buffer, and headers are at even addresses in it.
        self.at(offset).map(|at: *mut T| unsafe { direct::read(at) })
    }
}

impl Write for DirectPacket<'_> {
    #[inline(always)]
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()> {
        // SAFETY: as above; and the kernel makes the buffer exclusive to this packet before it starts a program that writes.
        self.at(offset).map(|at: *mut T| unsafe { direct::write(at, value) })
    }

    #[inline(always)]
    fn correct_pseudo_header(&mut self, checksum: L4Checksum, change: Change) -> Option<()> {
        let (context, is_gso) = (self.0.context, self.0.is_gso());
        correct_pseudo_header(self, context, is_gso, checksum, change)
    }

    #[inline(always)]
    fn correct_covered(&mut self, checksum: usize, field: &WordEdit) -> Option<()> {
        self.0.correct_covered(checksum, field)
    }
}

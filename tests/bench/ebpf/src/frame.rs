//! The one kind of frame: Ethernet, IPv4 without options, UDP to one of sixteen ports. As 16-bit words, because that is how
//! Internet checksums count.

use core::ptr;

/// Length of the three headers in words.
pub(crate) const WORDS: usize = 21;
/// First of the sixteen destination ports.
pub(crate) const PORT: u16 = 9;
/// How many there are.
pub(crate) const PORTS: u16 = 16;

pub(crate) const ETHERTYPE: usize = 6;
pub(crate) const TTL_PROTOCOL: usize = 11;
pub(crate) const IP_CHECKSUM: usize = 12;
pub(crate) const SOURCE: usize = 13;
pub(crate) const DESTINATION: usize = 15;
pub(crate) const SOURCE_PORT: usize = 17;
pub(crate) const DESTINATION_PORT: usize = 18;
pub(crate) const UDP_CHECKSUM: usize = 20;

/// The headers at the beginning of a frame's linear data, if they are all there.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the verifier follows packet pointers within one function only"
)]
pub(crate) fn words(data: usize, end: usize) -> Option<*mut u16> {
    (data + WORDS * 2 <= end).then_some(ptr::with_exposed_provenance_mut(data))
}

/// Whether it is one of the generator's frames.
///
/// # Safety
///
/// `words` comes from [`words`] and the frame is still there.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(crate) unsafe fn is_ours(words: *const u16) -> bool {
    // SAFETY: the caller's promise; all offsets are below WORDS.
    let (ethertype, protocol, port) = unsafe {
        (
            words.add(ETHERTYPE).read(),
            words.add(TTL_PROTOCOL).read(),
            words.add(DESTINATION_PORT).read(),
        )
    };
    ethertype == 0x0800_u16.to_be()
        && u16::from_be(protocol) & 0xff == 17
        && u16::from_be(port).wrapping_sub(PORT) < PORTS
}

/// An address of the frame, as it stands in memory.
///
/// # Safety
///
/// As for [`is_ours`]; `at` is [`SOURCE`] or [`DESTINATION`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(crate) unsafe fn address(words: *const u16, at: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { words.add(at).cast::<u32>().read_unaligned() }
}

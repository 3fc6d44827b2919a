//! The generator, run on live frames: `BPF_PROG_TEST_RUN` sends what it redirects. The kernel uses its pages again as they
//! come back, translated and all, so every header is written in full for every frame.

use core::ptr;

use aya_ebpf::{
    bindings::xdp_action::XDP_ABORTED,
    helpers::bpf_redirect,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};

use crate::frame::{
    DESTINATION, DESTINATION_PORT, IP_CHECKSUM, PORT, PORTS, SOURCE, SOURCE_PORT, UDP_CHECKSUM, WORDS, words,
};

/// Interface to send from.
#[unsafe(no_mangle)]
static OUTPUT: u32 = 0;
/// The headers, with both checksums and both ports zero.
#[unsafe(no_mangle)]
static HEADER: [u16; WORDS] = [0; WORDS];
/// Number of flows less one, all ones.
#[unsafe(no_mangle)]
static FLOWS: u32 = 0;
/// Which address differs from flow to flow: 1 the source, 2 the destination, 0 neither.
#[unsafe(no_mangle)]
static VARIED: u32 = 0;
/// Sum of the header's and of the UDP packet's and pseudo header's words as they are in [`HEADER`].
#[unsafe(no_mangle)]
static SUMS: [u32; 2] = [0; 2];

/// The number of the next frame.
#[map]
static NEXT: Array<u32> = Array::with_max_entries(1, 0);

const LOWEST_SOURCE_PORT: u16 = 1024;
const SOURCE_PORT_BITS: u32 = 12;

#[xdp]
fn generate(context: XdpContext) -> u32 {
    let Some(words) = words(context.data(), context.data_end()) else {
        return XDP_ABORTED;
    };
    let Some(next) = NEXT.get_ptr_mut(0) else {
        return XDP_ABORTED;
    };
    // SAFETY: only one generator runs on a map, on one processor.
    let flow = unsafe {
        let number = *next;
        *next = number.wrapping_add(1);
        number & constant(&FLOWS)
    };
    let [mut ip_sum, mut udp_sum] = constant(&SUMS);
    let high = (flow >> SOURCE_PORT_BITS) as u16 & (PORTS - 1);
    let source_port = (LOWEST_SOURCE_PORT + (flow as u16 & ((1 << SOURCE_PORT_BITS) - 1))).to_be();
    let destination_port = (PORT + high).to_be();
    udp_sum += u32::from(source_port) + u32::from(destination_port);
    // The last byte of the address, which ends in zero bits in the header.
    let last = high.to_be();
    let varied = constant(&VARIED);
    if varied != 0 {
        ip_sum += u32::from(last);
        udp_sum += u32::from(last);
    }
    let mut header = constant(&HEADER);
    if varied == 1 {
        header[SOURCE + 1] |= last;
    }
    if varied == 2 {
        header[DESTINATION + 1] |= last;
    }
    header[IP_CHECKSUM] = !fold(ip_sum);
    header[SOURCE_PORT] = source_port;
    header[DESTINATION_PORT] = destination_port;
    header[UDP_CHECKSUM] = match !fold(udp_sum) {
        // RFC 768: zero means that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    // SAFETY: the bounds were checked for as many words.
    unsafe {
        for (at, word) in header.into_iter().enumerate() {
            words.add(at).write(word);
        }
        bpf_redirect(constant(&OUTPUT), 0) as u32
    }
}

/// What the loader has set, which the compiler must not guess.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the value must stay a constant for the verifier")]
fn constant<T: Copy>(global: &T) -> T {
    // SAFETY: a reference is valid for reads.
    unsafe { ptr::read_volatile(global) }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "two instructions")]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

//! The wire headers of `network-types` as plain data, so that a frame can be read into them and written from them.

use bytemuck::{Pod, Zeroable};
use network_types::{eth::EthHdr, ip::Ipv4Hdr};

/// A header as it stands in a frame.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Wire<H>(pub H);

macro_rules! plain_data {
    ($($header:ty: $length:literal,)+) => {
        $(
            const _: () = assert!(size_of::<$header>() == $length);
            // SAFETY: the fields are integers and bytes, for which any value is valid, and they fill the asserted length:
            // there is no padding.
            unsafe impl Zeroable for Wire<$header> {}
            // SAFETY: as above.
            unsafe impl Pod for Wire<$header> {}
        )+
    };
}

plain_data! {
    EthHdr: 14,
    Ipv4Hdr: 20,
}

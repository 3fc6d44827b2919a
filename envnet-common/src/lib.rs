//! Shared by the programs in the kernel and the loader in userspace.
//!
//! Everything here is `no_std` and free of helpers and syscalls, so that the translation runs under `cargo test` exactly
//! as it runs in the kernel. The modules follow the packet: [`parse`] finds the headers, [`admit`] refuses what must not
//! be translated, [`lookup`] asks for the other address, [`translate`] decides what to write as a value and [`apply`]
//! writes it. [`arp`] does the same for ARP; [`guest`] says which
//! frames a guest may send at all; [`maps`] and [`verdict`] are the types both sides agree on. The fast path
//! has one stage for all of these, [`forward`], which handles simple packets only; [`age`] limits how long it uses a learned
//! entry, and [`limit`] what a guest may have others do.

#![no_std]
#![expect(
    clippy::inline_always,
    reason = "BPF functions take five scalars at most and share 512 bytes of stack, so the stages must become one function"
)]

pub mod address;
pub mod admit;
pub mod age;
pub mod apply;
pub mod arp;
pub mod checksum;
pub mod forward;
pub mod guest;
pub mod header;
pub mod limit;
pub mod lookup;
pub mod maps;
pub mod parse;
pub mod sk_buff;
pub mod translate;
pub mod verdict;

pub use address::{Address, Mac};
pub use verdict::{DropReason, Verdict};

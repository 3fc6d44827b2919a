//! Real virtual machines: booted once per role, saved, and started many times from the saved memory.

mod accelerator;
mod console;
pub(crate) mod cpio;
mod image;
mod machine;
mod program;
mod qmp;

pub(crate) use self::program::qemu;
pub use accelerator::Accelerator;
pub use image::{Assets, Image};
pub use machine::{Machine, Snapshot, Start};

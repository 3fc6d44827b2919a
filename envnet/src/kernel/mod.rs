//! What envnet asks of the kernel, one file per interface: namespaces, netlink, the tun device, sysctls and BPF.

mod bpf;
pub mod bpffs;
mod error;
mod former;
pub mod netlink;
pub mod netns;
pub mod pinned_maps;
pub mod pins;
mod procfs;
pub mod programs;
pub mod sk_buff;
pub mod sysctl;
pub mod tap;

pub(crate) use self::error::Explain;
pub use self::error::{Error, Result};

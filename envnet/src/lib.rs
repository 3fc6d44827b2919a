//! Gives every copy of a set of virtual machines its own network and every machine an outside address of its own.
//!
//! The command's way: [`config`] is what the user wrote, [`desired`] what the kernel should therefore look like,
//! [`observe`] what it does look like, [`plan`] the difference, [`apply`] carries it out. Only [`kernel`] talks to the
//! kernel, and only [`plan`] decides anything.

pub mod apply;
pub mod cli;
pub mod commands;
pub mod config;
pub mod desired;
pub mod host;
pub mod inventory;
pub mod kernel;
pub mod names;
pub mod observe;
pub mod parallel;
pub mod plan;
pub mod progress;
pub mod status;
pub mod topology;

/// The programs, as the ELF object the build script makes from the crate `envnet-ebpf`.
pub static EBPF_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ENVNET_EBPF_OBJECT"));

//! Gives every copy of a set of virtual machines its own network and every machine an outside address of its own.
//!
//! The command's way: [`config`] is what the user wrote, [`inspect`] and [`host`] look at the machine and check it,
//! [`desired`] is what the kernel should therefore look like and [`observe`] what it does look like, [`plan`] is the
//! difference, and [`apply`] carries it out. [`topology`] knows what an environment consists of. Only [`kernel`] talks to
//! the kernel.

pub mod apply;
pub mod cli;
pub mod commands;
pub mod config;
pub mod desired;
mod fnv;
pub mod host;
pub mod inspect;
pub mod kernel;
pub mod names;
pub mod observe;
pub mod observed_index;
pub mod parallel;
pub mod plan;
pub mod progress;
pub mod status;
pub mod topology;

/// The programs, as the ELF object the build script makes from the crate `envnet-ebpf`.
pub static EBPF_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("ENVNET_EBPF_OBJECT"));
